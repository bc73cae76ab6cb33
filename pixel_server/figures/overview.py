"""Figures of many campaigns at once: those that a query finds, in an order, a page at a time.

The figures shown are read anew each time. The order goes by figures that may be some seconds old (`order`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pixel_server.campaigns import retention, storage
from pixel_server.campaigns.campaign import Campaign, campaign_json
from pixel_server.consent import Consent
from pixel_server.counters import series
from pixel_server.figures import campaign_order, hyperloglog, open_rate, totals
from pixel_server.problems import Problem
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import iso_ms

PAGE_SIZE = 50
DAYS = 14
DEFAULT_SORT = "-last_hit"
MAX_QUERY_CHARACTERS = 200
"""Characters."""
MAX_PAGES = 1_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One campaign. sent, rate, over, uniques: of all time, as in stats; None: not known. last_hit: seconds.

    days: opens, or views of pages, of its last DAYS local days, oldest first; None: not kept any more.
    """

    campaign: Campaign
    sent: int | None
    rate: open_rate.Rate | None
    over: bool
    uniques: int | None
    days: list[int | None]
    last_hit: float | None


@dataclass(frozen=True, slots=True)
class Overview:
    """total: campaigns that the query finds. page: from 1. as_of: every hit that reached the stream before is
    counted in the rows. ordered_as_of: when the figures that the order goes by were read. Both in seconds."""

    rows: list[Row]
    total: int
    page: int
    as_of: float
    ordered_as_of: float


def parse(query: Mapping[str, str]) -> tuple[str, str, int]:
    """(query, sort, page), as `read` takes them, of `q`, `sort`, `page`. Problem 422: one cannot be used."""
    text = query.get("page", "1")
    page = int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0
    found = query.get("q", ""), query.get("sort", DEFAULT_SORT), page
    _check(*found)
    return found


def _check(query: str, sort: str, page: int) -> None:
    errors = []
    if len(query) > MAX_QUERY_CHARACTERS:
        errors.append({"field": "q", "message": f"may have {MAX_QUERY_CHARACTERS} characters at most"})
    if sort.removeprefix("-") not in campaign_order.SORTS:
        choices = ", ".join(campaign_order.SORTS)
        errors.append({"field": "sort", "message": f"must be one of: {choices}; perhaps with a - before it"})
    if not 1 <= page <= MAX_PAGES:
        errors.append({"field": "page", "message": f"must be a whole number from 1 to {MAX_PAGES}"})
    if errors:
        raise Problem(422, "some parameters cannot be used", errors)


async def read(
    store: AsyncRedis, settings: Settings, consent: Consent, query: str, sort: str, page: int, now: float
) -> Overview:
    """query: part of an id or a name, in whatever case. sort: see `order.SORTS`; "": the newest hit first.

    A campaign that is deleted meanwhile is left out of its page. Problem 422: one cannot be used.
    """
    sort = sort or DEFAULT_SORT
    _check(query, sort, page)
    known = await campaign_order.read(store, settings.shards, consent, now)
    found = campaign_order.find(known, query, sort)
    places = found[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
    pipe = store.pipeline(transaction=False)
    totals.queue_as_of(pipe, settings.shards)
    for place in places:
        storage.queue_record(pipe, place.id)
    totals.queue_many(pipe, places, settings.shards)
    answers = iter(await pipe.execute())
    as_of = totals.unpack_as_of([next(answers) for _ in range(1 + settings.shards)])
    records = [storage.unpack_record(next(answers), place.id) for place in places]
    kept = totals.unpack_many(list(answers), places)
    there = [campaign for campaign in records if campaign is not None]
    days = await _days(store, settings, there, now)
    rows = [_row(campaign, kept[campaign.id], days[campaign.id], consent) for campaign in there]
    return Overview(rows, len(found), page, as_of / 1000, known.as_of)


def _row(campaign: Campaign, kept: totals.Sums, days: list[int | None], consent: Consent) -> Row:
    figures, rate, over = totals.figures_and_rate(
        campaign, kept, totals.tells_people_apart(campaign, consent)
    )
    uniques = figures[totals.UNIQUES[campaign.kind]]
    return Row(campaign, totals.sent(campaign, kept), rate, over, uniques, days, kept.last_hit)


async def _days(
    store: AsyncRedis, settings: Settings, wanted: list[Campaign], now: float
) -> dict[str, list[int | None]]:
    """Of each campaign, its last days as in Row."""
    dates = {campaign.id: _dates(campaign, now) for campaign in wanted}
    pipe = store.pipeline(transaction=False)
    for campaign in wanted:
        for shard in range(settings.shards):
            pipe.hmget(keys.months(shard, campaign.id), _months(dates[campaign.id]))
    answers = iter(await pipe.execute())
    found: dict[str, list[int | None]] = {}
    for campaign in wanted:
        days = dates[campaign.id]
        place = series.OPENS if campaign.kind == "email" else series.VIEWS
        sums = dict.fromkeys(days, 0)
        for _ in range(settings.shards):
            months = dict(zip(_months(days), map(series.unpack, next(answers)), strict=True))
            for day in days:
                cell = months[day[:6]].get(int(day[6:]), [])
                sums[day] += cell[place] if place < len(cell) else 0
        first = retention.oldest_day(campaign, retention.campaign_days(settings, campaign).days, now)
        found[campaign.id] = [count if day >= first else None for day, count in sums.items()]
    return found


def _dates(campaign: Campaign, now: float) -> list[str]:
    """The last DAYS local days, YYYYMMDD, oldest first."""
    today = datetime.fromtimestamp(now, campaign.zone).date()
    return [(today - timedelta(days=DAYS - 1 - n)).strftime("%Y%m%d") for n in range(DAYS)]


def _months(days: list[str]) -> list[str]:
    return sorted({day[:6] for day in days})


def to_json(found: Overview) -> dict[str, Any]:
    """As the API shows it."""
    return {
        "items": [_shown(row) for row in found.rows],
        "next": found.page + 1 if found.page * PAGE_SIZE < found.total else None,
        "total": found.total,
        "as_of": iso_ms(int(found.as_of * 1000)),
        "ordered_as_of": iso_ms(int(found.ordered_as_of * 1000)),
        "estimates": {"unique_visitors": hyperloglog.ABOUT},
    }


def _shown(row: Row) -> dict[str, Any]:
    campaign = row.campaign
    return {
        "campaign": campaign.id,
        "name": campaign.name,
        "kind": campaign.kind,
        "created": campaign_json(campaign)["created"],
        "sent": row.sent,
        "open_rate": row.rate,
        "over": row.over,
        totals.UNIQUES[campaign.kind]: row.uniques,
        "days": row.days,
        "last_hit": None if row.last_hit is None else iso_ms(int(row.last_hit * 1000)),
    }
