"""The campaign and the figures that a key with only `read:CAMPAIGN` sees."""

from __future__ import annotations

from pixel_server.api.openapi.campaigns import KIND
from pixel_server.api.openapi.schema import answer, array, mapping, ref
from pixel_server.api.openapi.values import Schema, count, instant, or_null, text
from pixel_server.figures import campaign_sums, disclosure


def _figure(description: str) -> Schema:
    return or_null(count(""), f"{description} Null if withheld or not known.")


_RATE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
COVERED = or_null(
    answer(**{"from": text("First day.", format="date")}, to=text("Day after the last day.", format="date")),
    "The part of the range that breakdowns count: the whole weeks (or parts of weeks at the ends of "
    "months) that have ended. Null if no such week has ended.",
)
SHARES = {
    "share": or_null(
        _RATE, "Share of all that is counted. Null for `(other)`, and if anything of the list is withheld."
    ),
    "share_low": or_null(
        _RATE, "Least share of the name: nothing that is withheld belongs to it. Null for `(other)`."
    ),
    "share_high": or_null(
        _RATE, "Largest share of the name: all that is withheld belongs to it. Null for `(other)`."
    ),
}
"""The share of a row of a breakdown, and its limits."""
_LEAST = "If anything of the list is withheld, this is the least that the name has."

_EMAIL = {
    "opens": _figure("GET requests for pixels, except `bottom` pixels and hits of class `own`."),
    "unique_opens": _figure("Recipients whose first open lies in the day."),
}
_WEB = {
    "views": _figure("Views of pages."),
    "visits": _figure("Visits of pages."),
    "unique_visitors": _figure("An estimate. In `totals` only for identity `cookieless`, in visitor-days."),
}
_START = text("First instant of the day, with the zone's offset.", format="date-time")

SCHEMAS = {
    "SharedCampaign": answer(
        id=ref("CampaignId"), name=text("Name of the campaign."), kind=KIND, time_zone=ref("TimeZone")
    ),
    "SharedStats": answer(
        ("opens_person_by", "sent_at", "sent", "delivered", "open_rate", "covered"),
        campaign=ref("CampaignId"),
        **{"from": instant("First instant of the range.")},
        to=instant("First instant after the range."),
        interval={"const": "day"},
        time_zone=ref("TimeZone"),
        as_of=instant("Every hit before this time is counted. In whole minutes."),
        sent_at=or_null(instant("Only for mails: time of sending."), "Null if not known."),
        min_cell=count("Smallest number of visits (for mail: opens) with which a day is shown."),
        totals={
            "anyOf": [answer(**_EMAIL), answer(("visits",), **_WEB)],
            "description": "Sums of the days of `series` that are shown.",
        },
        series=array({"anyOf": [answer(start=_START, **_EMAIL), answer(("visits",), start=_START, **_WEB)]}),
        opens_person_by=or_null(
            answer(
                client=array(ref("SharedOpensOf"), description="What is withheld is added up in `(other)`.")
            ),
            "Only for mails, in weeks that have ended. Null if not known, or in a range of over "
            f"{campaign_sums.MAX_BREAKDOWN_DAYS} days.",
        ),
        sent=_figure("Mails that were sent."),
        delivered=_figure("Mails sent less mails that bounced."),
        open_rate=or_null(
            answer(
                low=_RATE,
                high=_RATE,
                until=instant("End of the last day that is counted."),
            ),
            "Only for mails, for all time: the shares of `delivered` with an open by a person (`low`) and "
            "with any open (`high`). Null if withheld or not known.",
        ),
        covered={**COVERED, "description": f"Only for mails. {COVERED['description']}"},
        estimates=mapping(ref("Estimate"), "Figures that are estimates, and how good they are."),
    ),
    "SharedOpensOf": answer(
        name=text("The name, or `(other)`."), opens=count(f"Opens by people. {_LEAST}"), **SHARES
    ),
    "SharedViewsOf": answer(
        name=text("The name, or `(other)`."),
        views=count(f"Views. {_LEAST}"),
        visits=count(f"Visits. {_LEAST}"),
        **SHARES,
    ),
    "SharedBreakdowns": answer(
        campaign=ref("CampaignId"),
        **{"from": instant("First instant of the range.")},
        to=instant("First instant after the range."),
        time_zone=ref("TimeZone"),
        by={
            "type": "object",
            "properties": {name: array(ref("SharedViewsOf")) for name in disclosure.DIMENSIONS["web"]},
            "additionalProperties": False,
            "description": "Most visits first. `(other)` is what is withheld. It may belong to any name.",
        },
        covered=COVERED,
        visits=count("Visits of the weeks that are covered."),
    ),
    "SharedMailBreakdowns": answer(
        campaign=ref("CampaignId"),
        **{"from": instant("First instant of the range.")},
        to=instant("First instant after the range."),
        time_zone=ref("TimeZone"),
        by={
            "type": "object",
            "properties": {name: array(ref("SharedOpensOf")) for name in disclosure.DIMENSIONS["email"]},
            "additionalProperties": False,
            "description": "Most opens first. `(other)` is what is withheld. It may belong to any name.",
        },
        covered=COVERED,
    ),
}
