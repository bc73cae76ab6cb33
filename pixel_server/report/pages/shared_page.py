"""What of a campaign is shared, as a page: see `shared`."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.campaigns import Campaign
from pixel_server.report import shared_stats
from pixel_server.report.api import Api
from pixel_server.report.pages import pictures, render

LABELS = {
    "opens": "Opens",
    "unique_opens": "Unique opens",
    "views": "Views",
    "visits": "Visits",
    "unique_visitors": "Unique visitors",
}


async def show(api: Api, request: Request, campaign: Campaign, **options: Any) -> Response:
    """options: of `render.page`."""
    late = await asyncio.to_thread(api.late_since)
    found = await shared_stats.read(api.store, campaign, {}, api.settings, late, api.clock())
    names = list(found["totals"])
    path, most = pictures.bars([item[names[0]] for item in found["series"]], 800, 160)
    by = (found.get("opens_person_by") or {}).get("client") or []
    context = {
        "campaign": campaign,
        "found": found,
        "labels": {name: LABELS[name] for name in names},
        "path": path,
        "most": most,
        "days": [item for item in found["series"] if any(item[name] is not None for name in names)][-400:],
        "clients": pictures.ranked(by, "opens", 10),
    }
    return render.page(api, request, "shared.html", context, **options)
