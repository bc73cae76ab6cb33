"""Figures of campaigns: stats, breakdowns, comparison."""

from __future__ import annotations

from typing import Any

from pixel_server.api.openapi.operation import MAY_SHARE, Operation, content, ok
from pixel_server.api.openapi.schema import answer, array, mapping, page, ref
from pixel_server.api.openapi.totals import figure
from pixel_server.api.openapi.values import (
    Schema,
    choice,
    count,
    flag,
    instant,
    instant_or_null,
    or_null,
    text,
    text_or_null,
)
from pixel_server.counters import web_breakdown, web_names
from pixel_server.figures import (
    campaign_sums,
    csv_export,
    disclosure,
    hyperloglog,
    ranges,
    stats,
    web_breakdowns,
)
from pixel_server.verdicts import CLASSES


def _or_csv(description: str, schema: Schema) -> Schema:
    """Returns a success response in JSON, or in CSV if `Accept` names it."""
    csv = content(text("A row on each line."), csv_export.MEDIA)
    return {"description": description, "content": {**content(schema), **csv}}


OPERATIONS = {
    "show_stats": Operation(
        "The figures of a campaign",
        _or_csv("The figures.", {"anyOf": [ref("Stats"), ref("SharedStats")]}),
        f"Without `from` and `to`: totals of all time, series of the last {ranges.DEFAULT_DAYS} days. "
        f"Without `from`: the {ranges.DEFAULT_DAYS} days up to `to`. Without `to`: up to the end of the "
        f"running interval. At most {ranges.MAX_DAYS} days by `day` in the campaign's own zone; otherwise "
        f"{ranges.MAX_FINE_DAYS}, read from the 15-minute series. {MAY_SHARE}, by `day` in the campaign's "
        "zone (403 otherwise), and is shown `SharedStats`: days that have ended and have `min_cell` visits "
        "(of mail: opens), and sums of these days. Without `from` and `to`: of the last "
        f"{disclosure.DEFAULT_DAYS} days kept. With `Accept: text/csv`: `series` as a table.",
    ),
    "show_breakdowns": Operation(
        "Views and visits of pages by page, referrer, country and more",
        _or_csv("Views and visits by name.", ref("Breakdowns")),
        "Days of the campaign's own zone. Without `from` and `to`: the last "
        f"{ranges.DEFAULT_DAYS} days. At least the {web_breakdown.KEPT_NAMES} names with most views of each "
        f"day and shard are kept, and {web_breakdowns.MAX_NAMES} are shown; the rest is `(other)`. A name "
        f"has {web_names.MAX_NAME_BYTES} bytes at most. With `Accept: text/csv`: a row for each name. 409: a "
        "mail campaign, or another interval.",
        problems=(409,),
    ),
    "compare_campaigns": Operation(
        "Campaigns side by side",
        ok("A page of the campaigns, in the order of `ids`.", page("Compared")),
        "In the range of each campaign as in `show_stats`. `to_first` of a range is null if the campaign has "
        "hidden recipients.",
        problems=(404,),
    ),
}

_RATE = {"type": "number", "minimum": 0, "maximum": 1}


def _quartiles(**counted: Schema) -> Schema:
    return answer(**counted, **{name: {"type": "number"} for name in ("quartile_1", "median", "quartile_3")})


_OPEN_RATE = or_null(
    answer(
        low=_RATE,
        high=_RATE,
        estimate=or_null({"type": "number"}, "Null if too few are visible, or in a range."),
        interval=or_null(array(_RATE, minItems=2, maxItems=2), "95 %; null with `estimate`."),
        method=text_or_null("How the estimate was made; null with `estimate`."),
    ),
    "Shares of the mails `delivered`. `low`: recipients with an open by a person, or a proxy for a person. "
    "`high`: recipients with any open, plus anonymous opens. `estimate` assumes that recipients whose client "
    "hides them (Apple) read as often as the others. Of 100 delivered, 60 hidden of whom 3 read elsewhere "
    "too, 10 openers among the 40 others and 2 more by scanners alone: low 0.13, high 0.72, estimate 0.25, "
    "interval 0.16 to 0.37. Mails to recipients who withdrew, have links of mode `off`, or ask not to be "
    "followed where that is dropped, are delivered, but their opens are not known: `high` and `estimate` are "
    "too low by their share. Apple does not fetch every mail: an unread mail that it did not fetch counts as "
    "visible, and makes `estimate` too low. A machine that nothing gives away counts as a person. Null: "
    "nothing `delivered`, more openers than delivered, or recipients are not told apart.",
)
_STATS: dict[str, Any] = {
    "campaign": ref("CampaignId"),
    "from": instant_or_null("First instant of the range; null: all time."),
    "to": instant_or_null("End of the range, not in it; null: all time."),
    "interval": choice(ranges.INTERVALS, "Interval of `series`."),
    "time_zone": ref("TimeZone"),
    "as_of": instant("Every hit that reached the stream before this instant is counted."),
    "late_since": instant_or_null(
        "Time of the oldest hit that waits on disk because Redis was away; null if none waits."
    ),
    "totals": {"anyOf": [ref("EmailTotals"), ref("WebTotals")]},
    "sent": or_null(
        count(""),
        "The campaign's `sent`; without it, the recipients whose links were made with `sent`. In modes "
        "`count` and `last` each call counts them anew.",
    ),
    "delivered": or_null(count(""), "`sent` less `bounced`; null if not known."),
    "rules": or_null(
        {"type": "object", "additionalProperties": count("")},
        "Hits by the id of the rule that judged them. Null in a range.",
    ),
    "rulesets": or_null(
        array(answer(ruleset=text(""), **{"from": instant("First use.")}, to=instant("Last use."))),
        "Versions of the rules that judged hits. Null in a range.",
    ),
    "opens_person_by": or_null(
        answer(
            client=array(ref("OpensOf"), description="Mail program, or the browser of a webmail."),
            device=array(ref("OpensOf"), description="`desktop`, `phone`, `tablet`. Without proxies."),
            country=array(ref("OpensOf"), description="ISO 3166-1, by address. Without proxies."),
        ),
        f"Opens by people, or by proxies for people; the {stats.MAX_NAMES} most frequent of each. They are "
        "kept by day of the campaign's zone. Null in a range of over "
        f"{campaign_sums.MAX_BREAKDOWN_DAYS} days or by another interval, in a mode that does not "
        "tell recipients apart, and for web pages.",
    ),
    "time_on_page": or_null(
        _quartiles(views=count("Views that were measured.")),
        "Seconds, of a web campaign: the time for which `p.js` reported the page visible, else the time to "
        "the next view of the visit. Null as `opens_person_by`, or if nothing was measured.",
    ),
    "time_of_visit": or_null(
        _quartiles(visits=count("Visits of more than one instant.")),
        "Seconds from the first to the last request of the visit. Null likewise.",
    ),
    "bounce_share": or_null(_RATE, "`bounces` of `visits`."),
    "visitor_unit": {
        "enum": ["visitors", "visitor-days", None],
        "description": "Unit of `unique_visitors`. Without a cookie a visitor is another one each day. Null: "
        "mail.",
    },
    "time_to_open": or_null(
        _quartiles(recipients=count("Recipients whose first open by a person lies in the range.")),
        "Seconds from sending to the first open by a person. Null as `opens_person_by`, or if no time of "
        "sending was known when the opens were counted: neither the links' `sent_at` nor the campaign's.",
    ),
    "verdicts": {
        "type": "object",
        "description": "Hits by class.",
        "properties": {name: ref("OfClass") for name in CLASSES},
        "required": list(CLASSES),
    },
    "open_rate": _OPEN_RATE,
    "last_hit": instant_or_null(
        "Time of the last hit of all time, whatever the range; null if there is none, or if it was counted "
        "by an old version."
    ),
    "closed_at": instant_or_null("Time from which opens change no unique figure; null if they do."),
    "over": flag("Whether more recipients opened than mails were `delivered`."),
    "hidden": or_null(
        answer(
            recipients=count("Recipients whose client loads all images by machine, read or not (Apple's)."),
            person=count("Recipients among them for whom a person opened too, in another client."),
        ),
        "What `estimate` is made from. Null for pages and if recipients are not told apart; in a range null "
        "unless there are none over all time.",
    ),
    "clipped": or_null(
        answer(
            share=_RATE,
            of=count("Recipients for whom a person, or a proxy for a person, loaded the upper pixel."),
        ),
        "Share of mails with two pixels whose lower pixel never came: Gmail shows 102 KB of a mail. Null in "
        "a range, for pages, if recipients are not told apart, and while no upper pixel was loaded.",
    ),
    "series": array({"anyOf": [ref("EmailInterval"), ref("WebInterval")]}),
    "notes": array(ref("Note"), description="Notes in the range of `series`, in order of time."),
    "estimates": mapping(ref("Estimate"), "Figures that are estimates, and how good they are."),
}
_COMPARED_TO_FIRST = or_null(
    answer(
        difference={
            "type": "number",
            "description": "This campaign's share less the first's: the share that a person opened, among "
            "recipients whose client does not hide them (`hidden` in `Stats`). So it does not matter how "
            "many use Apple's mail.",
        },
        interval=array({"type": "number"}, minItems=2, maxItems=2, description="95 %."),
        p_value={"type": "number", "minimum": 0, "maximum": 1},
        significant=flag("Whether chance is unlikely to be the cause: a p-value below 0.05."),
        method=text("Method of interval and test."),
    ),
    "Null for the first campaign itself, and for a campaign without a rate or with anonymous opens.",
)

SCHEMAS = {
    "OfClass": answer(
        hits=figure("Hits of this class."),
        recipients=or_null(
            count(""), "Recipients with an open of this class, `proxy` under `person`. Null if not known."
        ),
    ),
    "Estimate": {
        "anyOf": [
            answer(
                method={"const": "HyperLogLog"},
                standard_error={
                    "const": hyperloglog.STANDARD_ERROR,
                    "description": "As a fraction of the figure.",
                },
            ),
            answer(
                method={"const": "histogram"},
                relative_error={"type": "number", "description": "At most, as a fraction of the figure."},
            ),
        ]
    },
    "OpensOf": answer(
        name=text("The name; `(unknown)`, or `(other)` for the rest."), opens=count("Opens by people.")
    ),
    "Stats": answer(**_STATS),
    "Breakdowns": answer(
        campaign=ref("CampaignId"),
        **{
            "from": instant("First instant of the range, or of the first day in it that is still kept."),
            "to": instant("End of the range, not in it."),
        },
        time_zone=ref("TimeZone"),
        by={
            "type": "object",
            "properties": {name: array(ref("ViewsOf")) for name in web_breakdowns.SHOWN_DIMENSIONS},
            "additionalProperties": False,
            "description": "Most visits first. Views and visits of each add up to those of the range.",
        },
    ),
    "ViewsOf": answer(
        name=text("A text that strangers sent, never HTML. `(none)`, `(unknown)`, `(other)`."),
        views=count("Views of this page or country; or views in visits that began or ended with this name."),
        visits=count("Visits that began with this name; of `exit_page`, visits that ended there."),
    ),
    "Compared": answer(
        campaign=ref("CampaignId"),
        name=text("Name of the campaign."),
        **{"from": instant_or_null("As in `Stats`.")},
        to=instant_or_null("As in `Stats`."),
        totals={"anyOf": [ref("EmailTotals"), ref("WebTotals")]},
        open_rate=or_null({"type": "object"}, "As in `Stats`."),
        over=flag("As in `Stats`."),
        closed_at=instant_or_null("As in `Stats`."),
        to_first=_COMPARED_TO_FIRST,
    ),
}
