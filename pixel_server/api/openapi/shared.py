"""What a key of the scope `read:CAMPAIGN` is shown."""

from __future__ import annotations

from pixel_server.api.openapi.campaigns import KIND
from pixel_server.api.openapi.schema import Schema, answer, array, count, instant, or_null, ref, text
from pixel_server.figures import stats


def _figure(what: str) -> Schema:
    return or_null(count(""), f"{what} Null where it is withheld or not known.")


_EMAIL = {
    "opens": _figure("GETs of a pixel that counts as an open."),
    "unique_opens": _figure("Recipients whose first open lies in the day."),
}
_WEB = {
    "views": _figure("GETs of the pixel."),
    "visits": _figure("Of pages."),
    "unique_visitors": _figure("Estimate. In `totals`, of cookieless campaigns only: visitor-days."),
}
_START = text("The day's first instant, with the zone's offset.", format="date-time")

SCHEMAS = {
    "SharedCampaign": answer(
        id=ref("CampaignId"), name=text("For people."), kind=KIND, time_zone=ref("TimeZone")
    ),
    "SharedStats": answer(
        ("opens_person_by",),
        campaign=ref("CampaignId"),
        **{"from": instant("In the range.")},
        to=instant("End of the range, not in it."),
        interval={"const": "day"},
        time_zone=ref("TimeZone"),
        min_cell=count("What is of fewer visits (or opens) on a day is withheld."),
        totals={
            "anyOf": [answer(**_EMAIL), answer(("visits",), **_WEB)],
            "description": "Sums of `series`, as far as it is shown.",
        },
        series=array({"anyOf": [answer(start=_START, **_EMAIL), answer(("visits",), start=_START, **_WEB)]}),
        opens_person_by=or_null(
            answer(client=array(ref("OpensOf"), description="Small ones are in `(other)`.")),
            f"Of mails; null in a range of over {stats.MOST_DAYS_OF_OPENS} days, or where not known.",
        ),
        estimates={"type": "object", "additionalProperties": ref("Estimate")},
    ),
}
