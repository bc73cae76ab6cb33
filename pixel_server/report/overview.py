"""Figures of many campaigns at once, for the list of campaigns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pixel_server import campaigns
from pixel_server.campaigns import Campaign
from pixel_server.consent import Consent
from pixel_server.report import ranges, rates, stats
from pixel_server.series import DAY, QUARTER
from pixel_server.settings import Settings
from pixel_server.store import AsyncRedis

PAGE = 50
DAYS = 14
SORTS = ("name", "created", "last_hit", "rate", "uniques")
"""Each with a `-` before it is the other way round."""


@dataclass(frozen=True, slots=True)
class Row:
    """One campaign. sent, rate, over, uniques: of all time, as in stats; None: not known. last_hit: seconds.

    days: opens, or views of pages, of its last DAYS local days, oldest first; None: not kept any more.
    """

    campaign: Campaign
    sent: int | None
    rate: rates.Rate | None
    over: bool
    uniques: int | None
    days: list[int | None]
    last_hit: float | None


@dataclass(frozen=True, slots=True)
class Overview:
    """total: campaigns that the query finds. as_of: every hit before it is counted in the rows, seconds."""

    rows: list[Row]
    total: int
    as_of: float


async def read(
    store: AsyncRedis, settings: Settings, consent: Consent, query: str, sort: str, page: int, now: float
) -> Overview:
    """One page (from 1) of the campaigns whose id or name contains the query."""
    known: list[Campaign] = []
    after: str | None = None
    while True:
        part, after = await campaigns.page(store, after, 1000)
        words = query.casefold()
        known += [item for item in part if words in item.id or words in item.name.casefold()]
        if after is None:
            break
    here = slice((page - 1) * PAGE, page * PAGE)
    way, is_down = _ORDERS[sort.removeprefix("-")], sort.startswith("-")
    found = [await _row(store, settings, item, now) for item in known]
    rows = sorted(found, key=way, reverse=is_down)[here]
    return Overview([row for row, _ in rows], len(known), min((at for _, at in found), default=now))


_Found = tuple[Row, float]
_ORDERS: dict[str, Callable[[_Found], Any]] = {
    "name": lambda found: found[0].campaign.name.casefold(),
    "created": lambda found: found[0].campaign.created,
    "last_hit": lambda found: found[0].last_hit or 0,
    "rate": lambda found: -1 if found[0].rate is None else found[0].rate["low"],
    "uniques": lambda found: -1 if found[0].uniques is None else found[0].uniques,
}


async def _row(store: AsyncRedis, settings: Settings, campaign: Campaign, now: float) -> _Found:
    """(its row, as of when)."""
    all_time = await stats.read(store, campaign, ranges.parse({}, campaign.time_zone, now), settings, now)
    end = (int(now) // QUARTER + 1) * QUARTER
    fine = ranges.Range(end - DAYS * DAY, end, "15m", campaign.zone, False)
    series = (await stats.read(store, campaign, fine, settings, now))["series"]
    used = [item["start"] for item in series if item["hits"]]
    is_mail = campaign.kind == "email"
    count, uniques = ("opens", "unique_opens_person") if is_mail else ("views", "unique_visitors")
    row = Row(
        campaign,
        all_time["sent"],
        all_time["open_rate"],
        all_time["over"],
        all_time["totals"][uniques],
        [item[count] for item in all_time["series"][-DAYS:]],
        datetime.fromisoformat(used[-1]).timestamp() if used else None,
    )
    return row, datetime.fromisoformat(all_time["as_of"]).timestamp()
