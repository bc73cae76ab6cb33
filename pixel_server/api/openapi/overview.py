"""Figures of many campaigns at once."""

from __future__ import annotations

from pixel_server.api.openapi.operation import call, ok, query
from pixel_server.api.openapi.schema import answer, array, choice, count, instant, or_null, ref, text
from pixel_server.figures import campaign_order, overview

PATHS = {
    "/api/overview": {
        "get": call(
            "show_overview",
            "read",
            "Figures of many campaigns at once",
            (422,),
            {
                200: ok(
                    "A page of them.",
                    answer(
                        items=array(ref("InOverview"), maxItems=overview.PAGE),
                        next=or_null({"type": "integer"}, "The page after this; null on the last."),
                        total=count("Campaigns that `q` finds."),
                        as_of=instant("As in `Stats`."),
                        ordered_as_of=instant("When the figures that the order goes by were read."),
                        estimates={"type": "object", "additionalProperties": ref("Estimate")},
                    ),
                )
            },
            description=(
                f"{overview.PAGE} a page. The figures shown are read anew; those that the order goes by "
                f"are at most {campaign_order.OLD:g} seconds old. Those that are not known come last."
            ),
            parameters=[
                query("q", text("Part of an id or a name.", maxLength=overview.MOST_QUERY)),
                query(
                    "sort",
                    choice(
                        (*campaign_order.SORTS, *(f"-{sort}" for sort in campaign_order.SORTS)),
                        "With a `-`: the greatest first. `rate`: the estimate, else `low`.",
                        default=overview.DEFAULT_SORT,
                    ),
                ),
                query(
                    "page",
                    {"type": "integer", "minimum": 1, "maximum": overview.MOST_PAGES, "default": 1},
                ),
            ],
        ),
    },
}

SCHEMAS = {
    "InOverview": answer(
        ("unique_opens_person", "unique_visitors"),
        campaign=ref("CampaignId"),
        name=text("Of the campaign."),
        kind=choice(("email", "web"), "Of the campaign."),
        created=instant("When it was made."),
        sent=or_null(count(""), "As in `Stats`."),
        open_rate=or_null({"type": "object"}, "As in `Stats`."),
        over={"type": "boolean", "description": "As in `Stats`."},
        unique_opens_person=or_null(count(""), "Of mail, of all time, as in `Stats`."),
        unique_visitors=or_null(count(""), "Of pages, of all time, as in `Stats`."),
        days=array(
            or_null(count(""), "Null: not kept any more."),
            minItems=overview.DAYS,
            maxItems=overview.DAYS,
            description="Opens, or views of pages, of its last days, in its own zone; the last is today.",
        ),
        last_hit=or_null(instant(""), "As in `Stats`."),
    ),
}
