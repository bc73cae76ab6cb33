"""Figures of campaigns: stats, breakdowns, comparison."""

from __future__ import annotations

from typing import Any, get_args

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
from pixel_server.campaigns import mails
from pixel_server.counters import visit_sample, web_breakdown, web_names
from pixel_server.figures import (
    campaign_sums,
    compare,
    csv_export,
    disclosure,
    filtered,
    hyperloglog,
    mail_breakdowns,
    open_rate,
    opening_curve,
    ranges,
    sending_ranges,
    stats,
    web_breakdowns,
)
from pixel_server.verdicts import CLASSES


def _or_csv(description: str, schema: Schema) -> Schema:
    """Returns a success response in JSON, or in CSV if `Accept` names it."""
    csv = content(text("A row on each line."), csv_export.MEDIA)
    return {"description": description, "content": {**content(schema), **csv}}


_FILTERED = (
    "The parameters named like a breakdown (`page`, `country` and so on) filter the visits of a web "
    "campaign, for example `page=/pricing&country=DE`. A visit must pass all of them, so `page` passes "
    "each visit that saw the page. `views`, `bounce_share` and `time_of_visit` are then those of the visits "
    "that pass, also on other pages; `/breakdowns` by `page` has the views of one page. Figures are "
    f"estimated from the sample of visits, stored for {visit_sample.KEPT_DAYS} days. `sample` says how "
    "good they are. Figures that the sample does not know are null. Without `from` and `to`: the last "
    f"{ranges.DEFAULT_DAYS} days. Shared figures cannot be filtered (403), nor those "
    "of mail, or of a mode that does not tell visitors apart (409)."
)
OPERATIONS = {
    "show_stats": Operation(
        "The figures of a campaign",
        _or_csv("The figures.", {"anyOf": [ref("Stats"), ref("SharedStats")]}),
        f"Without `from` and `to`: totals of all time, series of the last {ranges.DEFAULT_DAYS} days. "
        f"Without `from`: the {ranges.DEFAULT_DAYS} days up to `to`. Without `to`: up to the end of the "
        f"running interval. At most {ranges.MAX_DAYS} days if the interval is `day` and the zone is the "
        f"campaign's; otherwise at most {ranges.MAX_FINE_DAYS} days, read from the 15-minute series. "
        "With `since_sending`: the first 24 hours, 3 days or 7 days of a mailing, or all time; a range that "
        "is not over yet is all time. `series` then begins with the 15 minutes of `sent_at`, and its "
        "`interval` is `hour_then_day`: each of the first 48 hours, then each further 24 hours, at most "
        f"{sending_ranges.MAX_SERIES_DAYS} days. If the 15-minute series of the first hours is no longer "
        "kept, `all` has a series by `day`. 409: with `from`, `to` or `interval`, or if `sent_at` is not set "
        "or lies in the future. "
        f"{MAY_SHARE}, by `day` in the campaign's zone only (403 otherwise). The answer is then "
        "`SharedStats`: the days that have ended and have at least `min_cell` visits (for mail: opens), and "
        f"the sums of these days; without `from` and `to`, of the last {disclosure.DEFAULT_DAYS} days kept. "
        f"With `Accept: text/csv`: `series` as a table. {_FILTERED}",
        problems=(409,),
    ),
    "show_breakdowns": Operation(
        "Views and visits by page, referrer, country and more; opens by client, device and country",
        _or_csv(
            "Views and visits, or opens by people, by name.",
            {
                "anyOf": [
                    ref(name)
                    for name in ("Breakdowns", "MailBreakdowns", "SharedBreakdowns", "SharedMailBreakdowns")
                ]
            },
        ),
        "The range consists of days in the campaign's zone. Without `from` and `to`: the last "
        f"{ranges.DEFAULT_DAYS} days; of a mail campaign, all time (shared: the last "
        f"{campaign_sums.MAX_BREAKDOWN_DAYS} days). A range of a mail campaign has at most "
        f"{campaign_sums.MAX_BREAKDOWN_DAYS} days. At least the {web_breakdown.KEPT_NAMES} names with most "
        f"views of each day and shard are kept, and {web_breakdowns.MAX_NAMES} are shown; the rest is "
        f"`(other)`. A name has {web_names.MAX_NAME_BYTES} bytes at most. With `Accept: text/csv`: a row for "
        "each name. 409: an interval, zone, range or dimension that does not fit, or a mail campaign whose "
        "mode stores no recipients. "
        f"{MAY_SHARE}. The answer is then `SharedBreakdowns` or `SharedMailBreakdowns`. {_FILTERED}",
        problems=(409,),
    ),
    "compare_campaigns": Operation(
        "Campaigns side by side",
        ok("A page of the campaigns, in the order of `ids`.", page("Compared")),
        "The range of each campaign is as in `show_stats`. `to_first` is null if `not_compared` of the "
        "campaign or of the first campaign gives a reason.",
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
        estimate=or_null(
            {"type": "number"}, "Null if too few recipients are visible (not hidden), or in a range."
        ),
        interval=or_null(
            array(_RATE, minItems=2, maxItems=2),
            "The 95 % interval of `estimate`; null if `estimate` is null.",
        ),
        method=text_or_null("How `estimate` was made; null if `estimate` is null."),
    ),
    "Shares of the mails `delivered`. `low`: recipients with an open by a person, or a proxy for a person. "
    "`high`: recipients with any open, plus anonymous opens. `estimate` assumes that recipients whose "
    "client hides them (Apple) read as often as the others. Example: 100 mails are delivered. 60 recipients "
    "are hidden, and 3 of them also opened in another client. Of the other 40, 10 opened, and 2 more had "
    "opens only by scanners. Then `low` is 0.13, `high` 0.72, `estimate` 0.25, and `interval` 0.16 to 0.37. "
    "Some mails are delivered, but their opens are not known: mails in mode `off`, mails to recipients who "
    "withdrew, and mails whose opens are dropped because of GPC or DNT. They make `high` and `estimate` too "
    "low. Apple does not fetch every mail: an unread mail that it did not fetch counts as not hidden, and "
    "makes `estimate` too low. A machine that cannot be recognised counts as a person. Null: nothing "
    "`delivered`, more openers than delivered, or recipients are not told apart.",
)
_STATS: dict[str, Any] = {
    "campaign": ref("CampaignId"),
    "from": instant_or_null("First instant of the range; null: all time."),
    "to": instant_or_null("First instant after the range; null: all time."),
    "interval": choice((*ranges.INTERVALS, ranges.HOUR_THEN_DAY), "Interval of `series`."),
    "time_zone": ref("TimeZone"),
    "as_of": instant("Every hit that reached the stream before this instant is counted."),
    "late_since": instant_or_null(
        "Time of the oldest hit that waits on disk because Redis was away; null if none waits."
    ),
    "totals": {"anyOf": [ref("EmailTotals"), ref("WebTotals")]},
    "sent": or_null(
        count(""),
        "The campaign's `sent`; without it, the recipients that mail services reported as delivered or "
        "bounced; without these, the recipients whose links were made with `sent`. In modes `count` and "
        "`last`, each call counts its recipients again.",
    ),
    "sent_source": or_null(
        choice(get_args(mails.Source), ""),
        "Where `sent` comes from: the sender (`given`), mail services (`deliveries`), or lists and links "
        "(`lists`). Null if `sent` is.",
    ),
    "bounced": or_null(
        count(""),
        "The campaign's `bounced`; if that is 0, the recipients that mail services reported as bounced. "
        "Null if `sent` is.",
    ),
    "delivered": or_null(count(""), "`sent` less `bounced`; null if not known."),
    "deliveries": or_null(
        answer(
            delivered=count("Recipients to whom a mail was delivered, and none bounced hard."),
            bounced_hard=count("Recipients whose mail bounced for good."),
            bounced_soft=count("Recipients whose mail bounced for now, and was not delivered later."),
            complained=count("Recipients who reported a mail as spam."),
            unsubscribed=count("Recipients who unsubscribed."),
        ),
        "What mail services reported of all time, whatever the range. Null if they reported nothing.",
    ),
    "rules": or_null(
        {"type": "object", "additionalProperties": count("")},
        "Hits by the id of the rule that judged them. Null in a range.",
    ),
    "rulesets": or_null(
        array(answer(ruleset=text(""), **{"from": instant("First use.")}, to=instant("Last use."))),
        "Versions of the rules, and of the lists of networks, that judged hits. Null in a range.",
    ),
    "opens_person_by": or_null(
        answer(
            client=array(ref("OpensOf"), description="Mail program, or the browser of a webmail."),
            device=array(
                ref("OpensOf"),
                description="`desktop`, `phone` or `tablet`. Opens through proxies are left out.",
            ),
            country=array(
                ref("OpensOf"), description="ISO 3166-1 code, by address. Opens through proxies are left out."
            ),
        ),
        f"Opens by people, or by proxies for people, under the {stats.MAX_NAMES} most frequent names. They "
        "are kept by day of the campaign's zone. Null in a range of over "
        f"{campaign_sums.MAX_BREAKDOWN_DAYS} days or by another interval, in a mode that does not tell "
        "recipients apart, and for web pages.",
    ),
    "time_on_page": or_null(
        _quartiles(views=count("Views that were measured.")),
        "Only for web campaigns, in seconds: the time for which `p.js` reported the page visible, else the "
        "time to the next view of the visit. Null in the same ranges as `opens_person_by`, or if nothing "
        "was measured.",
    ),
    "time_of_visit": or_null(
        _quartiles(visits=count("Visits whose first and last request differ in time.")),
        "Seconds from the first to the last request of the visit. Null under the same conditions as "
        "`time_on_page`.",
    ),
    "bounce_share": or_null(_RATE, "Share of the `visits` that are `bounces`."),
    "visitor_unit": {
        "enum": ["visitors", "visitor-days", None],
        "description": "Unit of `unique_visitors`. With identity `cookieless`, a visitor counts again on "
        "each day. Null for email.",
    },
    "time_to_open": or_null(
        _quartiles(recipients=count("Recipients whose first open by a person lies in the range.")),
        "Seconds from sending to the first open by a person. Null where `opens_person_by` is null, or if "
        "neither `sent_at` of the links nor `sent_at` of the campaign was set when the opens were counted.",
    ),
    "verdicts": {
        "type": "object",
        "description": "Hits by class.",
        "properties": {name: ref("OfClass") for name in CLASSES},
        "required": list(CLASSES),
    },
    "open_rate": _OPEN_RATE,
    "last_hit": instant_or_null(
        "Time of the last hit of all time, whatever the range; null if there is no hit, or if an old version "
        "counted the last hit."
    ),
    "closed_at": instant_or_null(
        "Time from which opens no longer change unique figures; null if the campaign is open."
    ),
    "over": flag("Whether more recipients opened than mails were `delivered`."),
    "hidden": or_null(
        answer(
            recipients=count("Recipients whose client loads all images by machine, read or not (Apple's)."),
            person=count("Recipients among them for whom a person opened too, in another client."),
        ),
        "Numbers that `estimate` is made from. Null for web campaigns, and if recipients are not told "
        "apart. In a range, null if the campaign has any hidden recipients.",
    ),
    "clipped": or_null(
        answer(
            share=_RATE,
            of=count("Recipients for whom a person, or a proxy for a person, loaded the upper pixel."),
        ),
        "Share of mails with two pixels whose lower pixel was never loaded: Gmail shows only 102 KB of a "
        "mail. Null in a range, for web campaigns, if recipients are not told apart, and if no upper pixel "
        "was loaded.",
    ),
    "series": array({"anyOf": [ref("EmailInterval"), ref("WebInterval")]}),
    "notes": array(ref("Note"), description="Notes in the range of `series`, in order of time."),
    "estimates": mapping(ref("Estimate"), "Figures that are estimates, and how good they are."),
    "sample": or_null(ref("Sample"), "The sample from which filtered figures are estimated."),
}
_COMPARED_TO_FIRST = or_null(
    answer(
        difference={
            "type": "number",
            "description": "This campaign's share less the share of the first campaign. The share is the "
            "part of the recipients for whom a person opened, without recipients whose client hides them "
            "(`hidden` in `Stats`). So the number of users of Apple's mail does not matter.",
        },
        interval=array({"type": "number"}, minItems=2, maxItems=2, description="The 95 % interval."),
        p_value={"type": "number", "minimum": 0, "maximum": 1},
        significant=flag("Whether chance is unlikely to be the cause: a p-value below 0.05."),
        method=text("How `interval` and `p_value` were made."),
    ),
    "Null for the first campaign itself, and if `not_compared` gives a reason.",
)

_OPENING_CURVE = or_null(
    array(
        answer(
            hours={"type": "number", "minimum": 0, "description": "Time since sending."},
            unique_opens_person=count("Recipients whose first open by a person came before this time."),
            share=or_null({"type": "number"}, "Share of the mails `delivered`; null if that is not known."),
            high=or_null(
                {"type": "number"}, "Share of the mails `delivered` with any open, as `high` of `open_rate`."
            ),
        )
    ),
    f"The recipients who had opened, by time since sending: each of the first {opening_curve.HOURS} hours, "
    f"then the end of each day, for {opening_curve.DAYS} days. The last point may be now. Does not depend on "
    "the range. Null for a web campaign, without `sent_at`, and in a mode that does not tell recipients "
    "apart.",
)

SCHEMAS = {
    "OfClass": answer(
        hits=figure("Hits of this class."),
        recipients=or_null(
            count(""), "Recipients with an open of this class; `person` includes `proxy`. Null if not known."
        ),
    ),
    "Estimate": {
        "anyOf": [
            answer(
                method={"const": "HyperLogLog"},
                standard_error={
                    "const": hyperloglog.STANDARD_ERROR,
                    "description": "Standard error, as a fraction of the figure.",
                },
            ),
            answer(
                method={"const": "histogram"},
                relative_error={
                    "type": "number",
                    "description": "Largest error, as a fraction of the figure.",
                },
            ),
            answer(method={"const": filtered.ESTIMATE["method"], "description": "See `sample`."}),
        ]
    },
    "Sample": answer(
        visits=count("Visits in the sample, on the days of the range."),
        of=count("All visits of these days. If equal to `visits`, the filtered figures are exact."),
        selected=count("Visits in the sample that pass the filters."),
        visits_error=count(
            "Visits by which the total `visits` may be too high or too low, with a probability of 95 %."
        ),
        share_error=or_null(
            {"type": "number"},
            "The same for a share of the filtered visits, for example of a country: 0.016 is 1.6 points. "
            "0 if the figures are exact; otherwise null if no visit passes the filters.",
        ),
        days_without=count(
            "Days that have visits, but no sample: from before this version, or while "
            "`PIXEL_VISIT_SAMPLE` was 0. Their visits are missing, and their intervals of `series` are null. "
            "If no day has a sample, the totals are null."
        ),
    ),
    "OpensOf": answer(
        name=text("The name; `(unknown)`, or `(other)` for the rest."), opens=count("Opens by people.")
    ),
    "Stats": answer(**_STATS),
    "Breakdowns": answer(
        campaign=ref("CampaignId"),
        **{
            "from": instant(
                "First instant of the range, or of the first day in the range that is still kept."
            ),
            "to": instant("First instant after the range."),
        },
        time_zone=ref("TimeZone"),
        by={
            "type": "object",
            "properties": {name: array(ref("ViewsOf")) for name in web_breakdowns.SHOWN_DIMENSIONS},
            "additionalProperties": False,
            "description": "Names with most visits first. The views and visits of each dimension add up to "
            "the views and visits of the range.",
        },
        sample=or_null(ref("Sample"), "The sample from which filtered figures are estimated."),
    ),
    "MailBreakdowns": answer(
        campaign=ref("CampaignId"),
        **{"from": instant_or_null("First instant of the range; null: all time.")},
        to=instant_or_null("First instant after the range; null: all time."),
        time_zone=ref("TimeZone"),
        by={
            "type": "object",
            "properties": {name: array(ref("OpensOf")) for name in mail_breakdowns.DIMENSIONS},
            "additionalProperties": False,
            "description": "As `opens_person_by` in `Stats`: names with most opens first.",
        },
    ),
    "ViewsOf": answer(
        name=text(
            "A text that strangers sent, not to be shown as HTML; or `(none)`, `(unknown)`, `(other)`."
        ),
        views=count("Views of this page or country; or views in visits that began or ended with this name."),
        visits=count("Visits that began with this name; for `exit_page`, visits that ended with this name."),
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
        not_compared=or_null(
            {"type": "string", "enum": list(get_args(compare.NotCompared))},
            f"Why the campaign is not compared with others: `too_few_mails` (fewer than "
            f"{compare.MIN_DELIVERED} delivered), `sent_at_not_set`, `not_sent_yet`, `no_open_rate`, "
            "`anonymous_opens`, `hidden_in_range` (hidden recipients are counted for all time only), "
            f"`too_few_visible` (fewer than {open_rate.MIN_VISIBLE} recipients are not hidden), or "
            "`not_a_mailing`. Null if it is compared.",
        ),
        opening_curve=_OPENING_CURVE,
    ),
}
