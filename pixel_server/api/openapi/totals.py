"""Totals, and intervals of a series, of both kinds of campaign. An interval lacks some of the totals."""

from __future__ import annotations

from pixel_server.api.openapi.schema import answer
from pixel_server.api.openapi.values import Schema, count, or_null, text


def figure(description: str) -> Schema:
    """Returns the schema of a figure that, in a range, may be read from the 15-minute series."""
    return or_null(count(""), f"{description} Null if the 15-minute series are no longer kept.")


_HITS = figure("All recorded requests, HEAD included.")
_HITS_GPC = figure("Hits with `Sec-GPC: 1` or `DNT: 1`, if the campaign does not drop them.")
_TOTALS_ONLY = {
    "unique_ips": or_null(count(""), "Client addresses, an estimate. Null in a range."),
    "dropped_gpc": or_null(
        count(""), "Requests with `Sec-GPC: 1` or `DNT: 1` that were not recorded. Null in a range."
    ),
    "dropped_opted_out": or_null(
        count(""), "Requests of browsers with the opt-out cookie, not recorded. Null in a range."
    ),
}
_START = text("First instant of the interval, with the zone's offset.", format="date-time")
_EMAIL = {
    "hits": _HITS,
    "opens": figure("GET requests for pixels, except `bottom` pixels and hits of class `own`."),
    "unique_opens": figure(
        "Recipients whose first open lies in the range, exact. Null in a mode that does not tell "
        "recipients apart."
    ),
    "unique_opens_person": figure(
        "Recipients whose first open by a person, or a proxy for a person, lies in the range. Null if "
        "`unique_opens` is null."
    ),
    "opens_anonymous": figure("Opens that are stored without anything that tells recipients apart."),
    "hits_gpc": _HITS_GPC,
}
_WEB = {
    "hits": _HITS,
    "views": figure("Views of pages by people, as far as is known."),
    "views_bot": figure("Views by scanners and prefetches. No other figure except `hits` includes them."),
    "visits": figure(
        "Visits: series of views by one visitor, with pauses of less than 30 minutes, for at most a day. "
        "Null in a mode that does not tell visitors apart."
    ),
    "bounces": figure("Visits with one view. Null if `visits` is null."),
    "visits_new": figure(
        "Visits that are a visitor's first, by the visitor's cookie. Null without identity `cookie`."
    ),
    "visits_returning": figure(
        "Later visits, by the visitor's cookie. Null without identity `cookie`. Visits without a cookie are "
        "neither new nor returning."
    ),
    "views_no_visitor": figure(
        "Views without a known visitor: because of the mode, GPC or DNT, a proxy or a missing `v`, or "
        "because they came so late that the salt of their day was gone."
    ),
    "views_no_visit": figure(
        "Views of a known visitor that are in no visit: they came 30 minutes or more after later views, or "
        "there was no room for further visits."
    ),
    "unique_visitors": or_null(
        count(""),
        "Estimate, in `visitor_unit`. Null unless the interval is `day` and the zone is the campaign's.",
    ),
    "hits_gpc": _HITS_GPC,
}

SCHEMAS = {
    "EmailTotals": answer(**_EMAIL, **_TOTALS_ONLY),
    "WebTotals": answer(
        **_WEB,
        **_TOTALS_ONLY,
        refused_origin=or_null(
            count(""), "Beacons of pages whose origin is not in `origins`. Null in a range."
        ),
    ),
    "EmailInterval": answer(start=_START, **_EMAIL),
    "WebInterval": answer(start=_START, **_WEB),
}
