"""What of a campaign is shared, as a page: see `shared`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.campaigns import Campaign
from pixel_server.report import breakdowns, shared, shared_stats, stats
from pixel_server.report.api import Api
from pixel_server.report.pages import pictures, render

LABELS = {
    "opens": "Opens",
    "unique_opens": "Unique opens",
    "views": "Views",
    "visits": "Visits",
    "unique_visitors": "Unique visitors",
}
TITLES = {
    "page": "Pages",
    "referrer": "Referrers",
    "referrer_kind": "Kinds of referrer",
    "utm_source": "UTM source",
    "country": "Countries",
    "device": "Devices",
    "client": "Mail programs",
}
MOST_ROWS = 10
"""Of one breakdown."""


async def read(api: Api, campaign: Campaign, query: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Its shared figures, of the year up to yesterday unless the query says otherwise."""
    late = await asyncio.to_thread(api.late_since)
    return await shared_stats.read(api.store, campaign, query or {}, api.settings, late, api.clock())


async def show(
    api: Api, request: Request, campaign: Campaign, chart: str, template: str = "shared.html", **options: Any
) -> Response:
    """chart: the address of the same figures as JSON, which takes a range. options: of `render.page`."""
    found = await read(api, campaign)
    names = list(found["totals"])
    # From the first day that is shown: a link made today need not begin with a year of nothing.
    days = [item for item in found["series"] if item[names[0]] is not None]
    first = found["series"].index(days[0]) if days else 0
    path, most = pictures.bars([item[names[0]] for item in found["series"][first:]], 800, 160)
    context = {
        "campaign": campaign,
        "found": found,
        "labels": {name: LABELS[name] for name in names},
        "first": found["series"][first]["start"],
        "last": found["series"][-1]["start"],
        "path": path,
        "most": most,
        "days": days,
        "chart": f"{chart}?from={found['series'][first]['start'][:10]}",
        "lists": await _lists(api, campaign, found),
        "titles": TITLES,
        "clients_of": stats.MOST_DAYS_OF_OPENS,
    }
    return render.page(api, request, template, context, **options)


async def _lists(api: Api, campaign: Campaign, found: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """{dimension: rows}, of those that anything is shared of."""
    if campaign.kind == "web":
        names = [name for name in shared.DIMENSIONS if name in TITLES]
        by = await shared_stats.by_dimension(api.store, campaign, found, names, api.settings.shards)
        # What nobody used is left out: a site without UTM links needs no table of them.
        used = {name: rows for name, rows in by.items() if any(row["name"] != "(none)" for row in rows)}
        return {
            name: pictures.ranked(rows, breakdowns.count_of(name), MOST_ROWS) for name, rows in used.items()
        }
    # Of more days, mail programs are not added up.
    today = datetime.fromtimestamp(api.clock(), campaign.zone).date()
    start = (today - timedelta(days=stats.MOST_DAYS_OF_OPENS)).isoformat()
    by = (await read(api, campaign, {"from": start})).get("opens_person_by") or {}
    return {name: pictures.ranked(rows, "opens", MOST_ROWS) for name, rows in by.items() if rows}
