"""What views and visits of pages break down into."""

from __future__ import annotations

from pixel_server.api.openapi.operation import CAMPAIGN, call, ok, query
from pixel_server.api.openapi.ranges import FROM, TO
from pixel_server.api.openapi.schema import answer, array, choice, count, ref, text
from pixel_server.counters import web_breakdown, web_names
from pixel_server.figures import ranges, web_breakdowns

_BY = "|".join(web_breakdowns.BY)

PATHS = {
    "/api/campaigns/{id}/breakdowns": {
        "parameters": [CAMPAIGN],
        "get": call(
            "show_breakdowns",
            "read",
            "What views and visits of pages break down into",
            (404, 409, 422),
            {200: ok("Views and visits by name.", ref("Breakdowns"))},
            description=(
                f"Days of the campaign's own zone; without `from` and `to`, the last "
                f"{ranges.DEFAULT_DAYS}. Of each day and shard at least the {web_breakdown.KEPT_NAMES} names "
                f"with most views are kept, and {web_breakdowns.MOST_NAMES} are shown; the rest is "
                f"`(other)`. A name has {web_names.MAX_NAME_BYTES} bytes at most. "
                f"409: of mail; of other intervals."
            ),
            parameters=[
                query("by", text("With commas between; default: all.", pattern=f"^({_BY})(,({_BY}))*$")),
                FROM,
                TO,
                query("interval", choice(ranges.INTERVALS, "Only `day`.", default="day")),
                query("tz", {**ref("TimeZone"), "description": "Only the campaign's."}),
            ],
        ),
    },
}

SCHEMAS = {
    "Breakdowns": answer(
        campaign=ref("CampaignId"),
        **{
            "from": text("First instant, or that of the first day still kept.", format="date-time"),
            "to": text("The first instant after.", format="date-time"),
        },
        time_zone=ref("TimeZone"),
        by={
            "type": "object",
            "properties": {name: array(ref("ViewsOf")) for name in web_breakdowns.BY},
            "additionalProperties": False,
            "description": "Most visits first. In each, views and visits add up to those of the range.",
        },
    ),
    "ViewsOf": answer(
        name=text("What strangers sent, as text: show it as text. `(none)`, `(unknown)`, `(other)`."),
        views=count("Under this page, country, ...; or in visits that began or ended so."),
        visits=count("That began so; of `exit_page`, that ended there."),
    ),
}
