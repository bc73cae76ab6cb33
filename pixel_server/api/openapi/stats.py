"""The figures of a campaign, and what stands around its totals and intervals."""

from __future__ import annotations

from pixel_server.api.openapi.figures import figure
from pixel_server.api.openapi.operation import CAMPAIGN, SHARED, call, ok, query
from pixel_server.api.openapi.ranges import FROM, TO
from pixel_server.api.openapi.schema import answer, array, choice, count, instant, or_null, ref, text
from pixel_server.figures import disclosure, hyperloglog, ranges, stats
from pixel_server.verdicts import CLASSES

PATHS = {
    "/api/campaigns/{id}/stats": {
        "parameters": [CAMPAIGN],
        "get": call(
            "show_stats",
            "read",
            "The figures of a campaign",
            (404, 422),
            {200: ok("What is counted.", {"anyOf": [ref("Stats"), ref("SharedStats")]})},
            description=(
                f"Without `from` and `to`: totals of all time, series of the last {ranges.DEFAULT_DAYS} "
                f"days. Without `from`: the {ranges.DEFAULT_DAYS} days up to `to`. Without `to`: up to "
                f"the end of the running interval. At most {ranges.MOST_DAYS} days by `day` in the "
                f"campaign's own zone; else {ranges.MOST_FINE_DAYS}, read from the 15-minute series. "
                f"{SHARED}, by `day` in the campaign's zone (403 otherwise), and is shown "
                "`SharedStats`: days that have ended and have `min_cell` visits (of mail: opens), and "
                f"sums of these days. Without `from` and `to`: of the last {disclosure.DAYS} days kept. "
                "With `Accept: text/csv`, but not shared: `series` as a table."
            ),
            parameters=[
                FROM,
                TO,
                query("interval", choice(ranges.INTERVALS, "Of `series`.", default="day")),
                query("tz", {**ref("TimeZone"), "description": "Default: the campaign's."}),
            ],
        ),
    },
}

_RATE = {"type": "number", "minimum": 0, "maximum": 1}
_QUARTILES = {name: {"type": "number"} for name in ("quartile_1", "median", "quartile_3")}

SCHEMAS = {
    "OfClass": answer(
        hits=figure("Of this class."),
        recipients=or_null(
            count(""), "With an open of this class, `proxy` under `person`; null where not known."
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
    "OpensOf": answer(name=text("`(unknown)`, and `(other)` for the rest."), opens=count("By people.")),
    "Stats": answer(
        **{"campaign": ref("CampaignId")},
        **{"from": or_null(instant(""), "In the range; null: all time.")},
        to=or_null(instant(""), "End of the range, not in it; null: all time."),
        interval=choice(ranges.INTERVALS, "Of `series`."),
        time_zone=ref("TimeZone"),
        as_of=instant("Every hit that reached the stream before this is counted."),
        late_since=or_null(
            instant(""), "Hits since then wait on disk, for Redis was away; null: none wait there."
        ),
        totals={"anyOf": [ref("EmailTotals"), ref("WebTotals")]},
        sent=or_null(
            count(""),
            "The campaign's `sent`; without it, how many recipients had links made with `sent`. In modes "
            "`count` and `last` each call counts them anew.",
        ),
        delivered=or_null(count(""), "`sent` less `bounced`; null: not known."),
        rules=or_null(
            {"type": "object", "additionalProperties": count("")},
            "Hits by the id of the rule that judged them. Null in a range.",
        ),
        rulesets=or_null(
            array(answer(ruleset=text(""), **{"from": instant("First judged.")}, to=instant("Last judged."))),
            "Versions of the rules that judged its hits. Null in a range.",
        ),
        opens_person_by=or_null(
            answer(
                client=array(ref("OpensOf"), description="Mail program, or the browser of a webmail."),
                device=array(ref("OpensOf"), description="`desktop`, `phone`, `tablet`. No proxies."),
                country=array(ref("OpensOf"), description="ISO 3166-1, by address. No proxies."),
            ),
            f"Opens by people, or proxies for them; the {stats.MOST_NAMES} with most of each. Kept by "
            f"day of the campaign's zone: null in a range of over {stats.MOST_DAYS_OF_OPENS} days or by "
            "anything else, in a mode that tells no recipients apart, and for pages.",
        ),
        time_on_page=or_null(
            answer(views=count("That were measured."), **_QUARTILES),
            "Of a web campaign, in seconds: what `p.js` reported visible, else the time to the next view "
            "of the visit. Null as `opens_person_by`, or when nothing was measured.",
        ),
        time_of_visit=or_null(
            answer(visits=count("Of more than one instant."), **_QUARTILES),
            "In seconds, from the first to the last that was heard of the visit; null likewise.",
        ),
        bounce_share=or_null(_RATE, "`bounces` of `visits`."),
        visitor_unit={
            "enum": ["visitors", "visitor-days", None],
            "description": "What `unique_visitors` are: without a cookie the same one is another each "
            "day. Null: of mail.",
        },
        time_to_open=or_null(
            answer(
                recipients=count("Whose first open by a person lies in the range."),
                **_QUARTILES,
            ),
            "Seconds from sending to the first open by a person. Null as above, or when no time of "
            "sending was known as they were counted: neither the links' `sent_at` nor the campaign's.",
        ),
        verdicts={
            "type": "object",
            "description": "What the hits were, by class.",
            "properties": {name: ref("OfClass") for name in CLASSES},
            "required": list(CLASSES),
        },
        open_rate=or_null(
            answer(
                low=_RATE,
                high=_RATE,
                estimate=or_null({"type": "number"}, "Null: too few are visible, or in a range."),
                interval=or_null(array(_RATE, minItems=2, maxItems=2), "95 %; null with `estimate`."),
                method=or_null(text(""), "How the estimate was made; null with it."),
            ),
            "Shares of mails `delivered`. `low`: recipients with an open by a "
            "person, or a proxy for one. `high`: with any open, and anonymous opens on top. `estimate`: "
            "for those whose client hides them (Apple), as for the others; an assumption. Of 100 "
            "delivered, 60 hidden of whom 3 read elsewhere too, 10 openers among the 40 others and 2 "
            "more by scanners alone: low 0.13, high 0.72, estimate 0.25, interval 0.16 to 0.37. "
            "Of who withdrew, has links of mode `off`, or asks not to be followed where that is dropped, "
            "mails are delivered but no open is known: `high` and `estimate` are too low by their share. "
            "Apple does not fetch every mail: an unread one that it left alone counts as visible, and makes "
            "`estimate` too low. A machine that nothing gives away counts as a person. "
            "Null: nothing `delivered`, more openers than delivered, or nobody is told apart.",
        ),
        last_hit=or_null(
            instant(""),
            "Of all time, whatever the range; null: none, or not known of one counted long ago.",
        ),
        closed_at=or_null(instant(""), "Since when opens add to no unique figure; null: they do."),
        over={"type": "boolean", "description": "More recipients opened than mails were `delivered`."},
        hidden=or_null(
            answer(
                recipients=count("Whose client loads all images by machine, read or not (Apple's)."),
                person=count("Of these, those whom a person opened too, in another client."),
            ),
            "What `estimate` is made from. Null for pages, where nobody is told apart, and in a range, "
            "unless there are none over all time.",
        ),
        clipped=or_null(
            answer(share=_RATE, of=count("For whom a person, or a proxy for one, loaded the upper one.")),
            "Of mails with two pixels, those whose lower one never came: Gmail shows 102 KB of a mail. "
            "Null in a range, for pages, where nobody is told apart, and while no upper one was loaded.",
        ),
        series=array({"anyOf": [ref("EmailInterval"), ref("WebInterval")]}),
        notes=array(ref("Note"), description="Those in the range of `series`, in order of time."),
        estimates={
            "type": "object",
            "description": "Which figures of `totals` are estimates, and how good.",
            "additionalProperties": ref("Estimate"),
        },
    ),
}
