"""The campaign and the figures that a key with only `read:CAMPAIGN` sees."""

from __future__ import annotations

from pixel_server.api.openapi.campaigns import KIND
from pixel_server.api.openapi.schema import answer, array, mapping, ref
from pixel_server.api.openapi.values import Schema, count, instant, or_null, text
from pixel_server.figures import campaign_sums


def _figure(description: str) -> Schema:
    return or_null(count(""), f"{description} Null if withheld or not known.")


_EMAIL = {
    "opens": _figure("GET requests for pixels, except `bottom` pixels."),
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
        ("opens_person_by",),
        campaign=ref("CampaignId"),
        **{"from": instant("First instant of the range.")},
        to=instant("End of the range, not in it."),
        interval={"const": "day"},
        time_zone=ref("TimeZone"),
        min_cell=count("Smallest number of visits (for mail: opens) with which a day is shown."),
        totals={
            "anyOf": [answer(**_EMAIL), answer(("visits",), **_WEB)],
            "description": "Sums of the days of `series` that are shown.",
        },
        series=array({"anyOf": [answer(start=_START, **_EMAIL), answer(("visits",), start=_START, **_WEB)]}),
        opens_person_by=or_null(
            answer(
                client=array(ref("OpensOf"), description="Names with few opens are added up in `(other)`.")
            ),
            f"Only for email campaigns. Null in a range of over {campaign_sums.MAX_BREAKDOWN_DAYS} days, or "
            "if not known.",
        ),
        estimates=mapping(ref("Estimate"), "Figures that are estimates, and how good they are."),
    ),
}
