"""Totals and intervals of both kinds of campaign; an interval has a start and no `unique_ips`."""

from __future__ import annotations

from pixel_server.api.openapi.schema import Schema, answer, count, or_null, text


def figure(what: str) -> Schema:
    return or_null(count(""), f"{what} Null where the 15-minute series are no longer kept.")


_HITS = figure("All recorded requests, HEAD among them.")
_ASKED = figure("Hits that came with `Sec-GPC: 1` or `DNT: 1`, where that is not ignored.")
_TOTALS = {
    "unique_ips": or_null(count(""), "Client addresses, estimate. Null in a range."),
    "dropped_gpc": or_null(
        count(""), "Requests with `Sec-GPC: 1` or `DNT: 1` that were not kept. Null in a range."
    ),
    "dropped_opted_out": or_null(
        count(""), "Requests of browsers with the opt-out cookie, not kept. Null in a range."
    ),
}
_START = text("First instant of the interval, with the zone's offset.", format="date-time")
_EMAIL = {
    "hits": _HITS,
    "opens": figure("GETs of a pixel that counts as an open."),
    "unique_opens": figure(
        "Recipients whose first open lies in the range, exact; null in a mode that tells none apart."
    ),
    "unique_opens_person": figure(
        "Recipients whose first open by a person, or a proxy for one, lies in the range; null likewise."
    ),
    "opens_anonymous": figure("Opens of which nothing is kept that tells recipients apart."),
    "hits_gpc": _ASKED,
}
_WEB = {
    "hits": _HITS,
    "views": figure("Views of pages by people, as far as is known."),
    "views_bot": figure("Views by scanners and prefetches; in no other figure but `hits`."),
    "visits": figure(
        "Views of one visitor without a pause of 30 minutes between, at most a day. Null in a mode that "
        "tells none apart."
    ),
    "bounces": figure("Visits of one view; null likewise."),
    "visits_new": figure("A visitor's first visit, as its cookie says; null without identity `cookie`."),
    "visits_returning": figure("Later visits; null likewise. Visits without a cookie are in neither."),
    "views_no_visitor": figure(
        "Of `views`, those whose visitor is not told: by mode, GPC or DNT, a proxy, no `v`, or as they "
        "came so late that the salt of their day was gone."
    ),
    "views_no_visit": figure(
        "Of `views`, those of a visitor that are in no visit: 30 minutes or more behind others, or "
        "beyond the visits that there is room for."
    ),
    "unique_visitors": or_null(
        count(""), "Estimate. Of each day, its own visitors. Null but for `day` in the campaign's own zone."
    ),
    "hits_gpc": _ASKED,
}

SCHEMAS = {
    "EmailTotals": answer(**_EMAIL, **_TOTALS),
    "WebTotals": answer(
        **_WEB,
        **_TOTALS,
        refused_origin=or_null(
            count(""), "Beacons of pages of other origins than `origins`. Null in a range."
        ),
    ),
    "EmailInterval": answer(start=_START, **_EMAIL),
    "WebInterval": answer(start=_START, **_WEB),
}
