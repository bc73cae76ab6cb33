"""Breakdowns of the views and visits of a web campaign, by page, referrer and more, over local days."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from pixel_server.campaigns import retention
from pixel_server.campaigns.campaign import Campaign
from pixel_server.classify import referrers
from pixel_server.counters import series, web_breakdown
from pixel_server.counters.labels import OTHER
from pixel_server.counters.web_breakdown import DIMENSIONS, NONE, CountsByName
from pixel_server.figures import ranges, sources
from pixel_server.figures.ranges import Range
from pixel_server.problems import Problem
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.key import Tag
from pixel_server.store.protocols import AsyncRedis

REFERRER_KIND = "referrer_kind"
"""Dimension that is not stored: the sum of the referrers of each kind."""
SHOWN_DIMENSIONS = (*DIMENSIONS, REFERRER_KIND)
MAX_NAMES = 1000
"""Largest number of names of one dimension in an answer. `(other)` holds the rest."""
_BATCH_DAYS = 200
"""Number of days read in one round trip."""


async def read(
    store: AsyncRedis,
    campaign: Campaign,
    time_range: Range,
    dimensions: list[str],
    settings: Settings,
    now: float,
) -> dict[str, Any]:
    """Returns the response to `GET /api/campaigns/{id}/breakdowns` for a web campaign, from the first day
    that is kept.

    Raises Problem 409 if the range is not in days of the campaign's time zone.
    """
    require_local_days(campaign, time_range)
    first = retention.oldest_day(campaign, retention.campaign_days(settings, campaign).days, now)
    zone = time_range.zone
    starts = {datetime.fromtimestamp(at, zone).strftime("%Y%m%d"): at for at in time_range.starts()}
    days = [day for day in starts if day >= first]
    sums: dict[str, CountsByName] = {dimension: {} for dimension in stored_dimensions(dimensions)}
    found = await sources.find(store, settings.shards)
    days_with_views = await _days_with_views(store, campaign.id, days, found.tags)
    async for _, counts in by_day(store, campaign.id, days_with_views, dimensions, found.tags):
        for dimension, day_counts in counts.items():
            _add(sums[dimension], day_counts)
    return {
        "campaign": campaign.id,
        "from": ranges.show(starts[days[0]] if days else time_range.end, zone),
        "to": ranges.show(time_range.end, zone),
        "time_zone": zone.key,
        "by": {
            dimension: rows(_by_kind(sums["referrer"]) if dimension == REFERRER_KIND else sums[dimension])
            for dimension in dimensions
        },
        "sample": None,
    }


def require_local_days(campaign: Campaign, time_range: Range) -> None:
    """Raises Problem 409 if a range is not in days of the campaign's time zone."""
    if time_range.interval != "day" or time_range.zone.key != campaign.time_zone:
        raise Problem(409, "breakdowns need whole days in the campaign's own time zone")


def ranking_count(dimension: str) -> str:
    """Returns the count by which the names of a dimension are ranked: "views" for pages, else "visits"."""
    return "views" if dimension == "page" else "visits"


def stored_dimensions(shown: Iterable[str]) -> list[str]:
    """Returns the stored dimensions from which the shown dimensions are computed."""
    return list(dict.fromkeys("referrer" if dimension == REFERRER_KIND else dimension for dimension in shown))


async def _days_with_views(
    store: AsyncRedis, campaign: str, days: Sequence[str], tags: Sequence[Tag]
) -> list[str]:
    """Returns the days (YYYYMMDD) on which anything was counted."""
    months = sorted({day[:6] for day in days})
    if not months:
        return []
    pipe = store.pipeline(transaction=False)
    for tag in tags:
        pipe.hmget(keys.months(tag, campaign), months)
    viewed = {
        f"{month}{day:02}"
        for values in await pipe.execute()
        for month, value in zip(months, values, strict=True)
        for day, cell in series.unpack(value).items()
        if any(cell)
    }
    return [day for day in days if day in viewed]


async def first_day(store: AsyncRedis, campaign: Campaign, settings: Settings, now: float) -> date | None:
    """Returns the first local day that is still kept and has counts, or None if there is none."""
    tags = (await sources.find(store, settings.shards)).tags
    pipe = store.pipeline(transaction=False)
    for tag in tags:
        pipe.hkeys(keys.months(tag, campaign.id))
    oldest = retention.oldest_day(campaign, retention.campaign_days(settings, campaign).days, now)
    months = sorted({month.decode() for names in await pipe.execute() for month in names})
    for month in months:
        if month < oldest[:6]:
            continue
        for tag in tags:
            pipe.hget(keys.months(tag, campaign.id), month)
        days = {f"{month}{day:02}" for value in await pipe.execute() for day in series.unpack(value)}
        if kept := [day for day in days if day >= oldest]:
            return datetime.strptime(min(kept), "%Y%m%d").date()
    return None


async def by_day(
    store: AsyncRedis,
    campaign: str,
    days: Sequence[str],
    shown_dimensions: Iterable[str],
    tags: Sequence[Tag],
) -> AsyncIterator[tuple[str, dict[str, CountsByName]]]:
    """Yields each day (YYYYMMDD) with its counts by dimension. tags: see `sources`."""
    dimensions = stored_dimensions(shown_dimensions)
    for i in range(0, len(days), _BATCH_DAYS):
        pipe = store.pipeline(transaction=False)
        for day in days[i : i + _BATCH_DAYS]:
            for tag in tags:
                pipe.hmget(keys.web(tag, campaign, day), dimensions)
        answers: Iterator[list[bytes | None]] = iter(await pipe.execute())
        for day in days[i : i + _BATCH_DAYS]:
            counts: dict[str, CountsByName] = {dimension: {} for dimension in dimensions}
            for _ in tags:
                for dimension, value in zip(dimensions, next(answers), strict=True):
                    _add(counts[dimension], web_breakdown.unpack(value))
            yield day, counts


def _add(sums: CountsByName, counts: CountsByName) -> None:
    for name, (views, visits) in counts.items():
        sum_ = sums.setdefault(name, [0, 0])
        sum_[0] += views
        sum_[1] += visits


def _by_kind(hosts: CountsByName) -> CountsByName:
    sums: CountsByName = {}
    for host, counts in hosts.items():
        _add(sums, {kind_of(host): counts})
    return sums


def kind_of(host: str) -> str:
    """Returns the kind of site of a referrer. `(none)` and `(other)` are kinds of their own."""
    return host if host in (NONE, OTHER) else referrers.kind(host)


def rows(counts_by_name: Mapping[str, Sequence[int]]) -> list[dict[str, Any]]:
    """Returns the names with their counts: most visits first, then most views; `(other)` last."""
    order = sorted(
        counts_by_name, key=lambda name: (-counts_by_name[name][1], -counts_by_name[name][0], name)
    )
    order = [name for name in order if name != OTHER]
    rest = [counts_by_name[name] for name in [*order[MAX_NAMES:], OTHER] if name in counts_by_name]
    rows = [
        {"name": name, "views": counts_by_name[name][0], "visits": counts_by_name[name][1]}
        for name in order[:MAX_NAMES]
    ]
    if rest:
        views, visits = (sum(column) for column in zip(*rest, strict=True))
        rows.append({"name": OTHER, "views": views, "visits": visits})
    return rows
