"""What of a campaign is shared, as a page: see `shared`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.campaigns import retention
from pixel_server.campaigns.campaign import Campaign
from pixel_server.dashboard import render, svg
from pixel_server.dashboard.glossary import TITLES
from pixel_server.figures import disclosure, shared_stats, stats, web_breakdowns
from pixel_server.problems import Problem
from pixel_server.times import DAY

MOST_DAYS_OF_LINK = 1100
"""Days of the widest range that a share link gives."""
_ASKED = ("from", "to", "interval", "tz")
LABELS = {
    "opens": "Opens",
    "unique_opens": "Unique opens",
    "views": "Views",
    "visits": "Visits",
    "unique_visitors": "Unique visitors",
}


async def read(api: Api, campaign: Campaign, query: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Its shared figures, of the year up to yesterday unless the query says otherwise."""
    late = await asyncio.to_thread(api.late_since)
    return await shared_stats.read(api.store, campaign, query or {}, api.settings, late, api.clock())


async def json_for_link(api: Api, campaign: Campaign, query: Mapping[str, str]) -> bytes:
    """Returns what `read` does, as JSON; read once for each campaign, range and minute.

    Whoever has the link may ask for it, as often as they like, without a key. Problem 422: too long a range.
    """
    now = api.clock()
    asked = {name: query[name][:40] for name in _ASKED if name in query}
    oldest = retention.oldest_day(campaign, retention.campaign_days(api.settings, campaign).days, now)
    wanted = disclosure.parse(asked, campaign, oldest, now)
    if wanted.end - wanted.start > (MOST_DAYS_OF_LINK + 1) * DAY:
        message = f"the range may have {MOST_DAYS_OF_LINK} days at most"
        raise Problem(422, "some parameters cannot be used", [{"field": "from", "message": message}])

    async def as_json() -> bytes:
        return msgspec.json.encode(await read(api, campaign, asked))

    key = ("shared", msgspec.json.encode(campaign), wanted, now // 60)
    found: bytes = await api.recent.get(key, as_json)
    return found


async def show(
    api: Api, request: Request, campaign: Campaign, chart: str, template: str = "shared.html", **options: Any
) -> Response:
    """chart: the address of the same figures as JSON, which takes a range. options: of `render.page`."""

    async def both() -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
        found = await read(api, campaign)
        return found, await _lists(api, campaign, found)

    found, lists = await api.recent.get(("page", msgspec.json.encode(campaign), api.clock() // 60), both)
    names = list(found["totals"])
    main = names[0]
    # From the first day that is shown to the last: it neither begins nor ends with a year of nothing.
    shown = [at for at, item in enumerate(found["series"]) if item[main] is not None]
    span = found["series"][shown[0] : shown[-1] + 1] if shown else []
    path, most = svg.bars([item[main] for item in span], 800, 160)
    context = {
        "campaign": campaign,
        "found": found,
        "labels": {name: LABELS[name] for name in names},
        "path": path,
        "most": most,
        "days": [item for item in span if item[main] is not None],
        "chart": f"{chart}?{_range(span)}",
        "lists": lists,
        "titles": TITLES,
        "clients_of": stats.MOST_DAYS_OF_OPENS,
    }
    return render.page(api, request, template, context, **options)


def _range(span: Sequence[Mapping[str, Any]]) -> str:
    """These days as a query; "": there is none."""
    if not span:
        return ""
    first, last = (date.fromisoformat(item["start"][:10]) for item in (span[0], span[-1]))
    return urlencode({"from": first, "to": last + timedelta(days=1)})


async def _lists(api: Api, campaign: Campaign, found: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """{dimension: rows}, of those that anything is shared of."""
    if campaign.kind == "web":
        names = list(disclosure.DIMENSIONS)
        by = await shared_stats.by_dimension(api.store, campaign, found, names, api.settings.shards)
        # What nobody used is left out: a site without UTM links needs no table of them.
        used = {name: rows for name, rows in by.items() if any(row["name"] != "(none)" for row in rows)}
        return {name: svg.ranked(rows, web_breakdowns.count_of(name)) for name, rows in used.items()}
    # Of more days, mail programs are not added up.
    today = datetime.fromtimestamp(api.clock(), campaign.zone).date()
    start = (today - timedelta(days=stats.MOST_DAYS_OF_OPENS)).isoformat()
    by = (await read(api, campaign, {"from": start})).get("opens_person_by") or {}
    return {name: svg.ranked(rows, "opens") for name, rows in by.items() if rows}
