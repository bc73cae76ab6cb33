"""Figures of many campaigns at once, for the list of campaigns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pixel_server import campaigns
from pixel_server.campaigns import Campaign
from pixel_server.consent import Consent
from pixel_server.report import ranges, stats
from pixel_server.series import DAY, QUARTER
from pixel_server.settings import Settings
from pixel_server.store import AsyncRedis

PAGE = 50
DAYS = 14
SORTS = ("last", "name", "sent", "rate", "uniques")


@dataclass(frozen=True, slots=True)
class Row:
    """rate: as `open_rate` in stats. days: opens or views of the last 14 days. last_hit: seconds."""

    campaign: Campaign
    sent: int | None
    rate: dict[str, Any] | None
    uniques: int | None
    days: list[int]
    last_hit: float | None


@dataclass(frozen=True, slots=True)
class Overview:
    rows: list[Row]
    total: int


async def read(
    store: AsyncRedis, settings: Settings, consent: Consent, query: str, sort: str, page: int, now: float
) -> Overview:
    """One page (from 1) of the campaigns whose id or name contains the query. total: on all pages."""
    found: list[Campaign] = []
    after: str | None = None
    while True:
        part, after = await campaigns.page(store, after, 1000)
        words = query.casefold()
        found += [item for item in part if words in item.id or words in item.name.casefold()]
        if after is None:
            break
    here = slice((page - 1) * PAGE, page * PAGE)
    if sort == "name":
        found.sort(key=lambda item: (item.name.casefold(), item.id))
        rows = [await _row(store, settings, item, now) for item in found[here]]
    else:
        rows = [await _row(store, settings, item, now) for item in found]
        rows.sort(key=_ORDERS[sort], reverse=True)
        rows = rows[here]
    return Overview(rows, len(found))


_ORDERS: dict[str, Callable[[Row], float]] = {
    "last": lambda row: row.last_hit or 0,
    "sent": lambda row: -1 if row.sent is None else row.sent,
    "rate": lambda row: -1 if row.rate is None else row.rate["low"],
    "uniques": lambda row: -1 if row.uniques is None else row.uniques,
}


async def _row(store: AsyncRedis, settings: Settings, campaign: Campaign, now: float) -> Row:
    all_time = await stats.read(store, campaign, ranges.parse({}, campaign.time_zone, now), settings, now)
    end = (int(now) // QUARTER + 1) * QUARTER
    fine = ranges.Range(end - DAYS * DAY, end, "15m", campaign.zone, False)
    series = (await stats.read(store, campaign, fine, settings, now))["series"]
    used = [item["start"] for item in series if item["hits"]]
    count, uniques = (
        ("opens", "unique_opens_person") if campaign.kind == "email" else ("views", "unique_visitors")
    )
    return Row(
        campaign,
        all_time["sent"],
        all_time["open_rate"],
        all_time["totals"][uniques],
        [item[count] or 0 for item in all_time["series"][-DAYS:]],
        datetime.fromisoformat(used[-1]).timestamp() if used else None,
    )
