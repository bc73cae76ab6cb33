"""What the views and visits of a web campaign break down into, over any range of local days."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pixel_server.campaigns import retention
from pixel_server.campaigns.campaign import Campaign
from pixel_server.classify import referrers
from pixel_server.counters import series, web_breakdown
from pixel_server.counters.labels import OTHER
from pixel_server.counters.web_breakdown import DIMENSIONS, NONE, Names
from pixel_server.figures import ranges
from pixel_server.figures.ranges import Range
from pixel_server.problems import Problem
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis

KIND = "referrer_kind"
"""Not kept: the sum of the referrers of a kind."""
BY = (*DIMENSIONS, KIND)
MAX_NAMES = 1000
_STEP = 200
"""Days read at a time."""


def parse(query: Mapping[str, str], usual: Sequence[str] = BY) -> list[str]:
    """Which are asked for: `by`; without it, the usual ones. Problem 422: one that there is not."""
    names = list(dict.fromkeys(query["by"].split(","))) if "by" in query else list(usual)
    if any(name not in BY for name in names):
        message = f"must be some of these, with commas between: {', '.join(BY)}"
        raise Problem(422, "some parameters cannot be used", [{"field": "by", "message": message}])
    return names


async def read(
    store: AsyncRedis,
    campaign: Campaign,
    wanted: Range,
    names: list[str],
    settings: Settings,
    now: float,
) -> dict[str, Any]:
    """What `GET /api/campaigns/{id}/breakdowns` answers. It begins with the first day that is still kept."""
    refuse_mail(campaign)
    if wanted.interval != "day" or wanted.zone.key != campaign.time_zone:
        raise Problem(409, "breakdowns are of days of the campaign's own zone")
    first = retention.oldest_day(campaign, retention.campaign_days(settings, campaign).days, now)
    starts = {datetime.fromtimestamp(at, wanted.zone).strftime("%Y%m%d"): at for at in wanted.starts()}
    days = [day for day in starts if day >= first]
    found: dict[str, Names] = {name: {} for name in kept(names)}
    viewed = await _viewed(store, campaign.id, days, settings.shards)
    async for _, counts in by_day(store, campaign.id, viewed, names, settings.shards):
        for name, of_day in counts.items():
            _sum(found[name], of_day)
    return {
        "campaign": campaign.id,
        "from": ranges.show(starts[days[0]] if days else wanted.end, wanted.zone),
        "to": ranges.show(wanted.end, wanted.zone),
        "time_zone": wanted.zone.key,
        "by": {name: rows(_kinds(found["referrer"]) if name == KIND else found[name]) for name in names},
    }


def refuse_mail(campaign: Campaign) -> None:
    """Problem 409: it is no web campaign."""
    if campaign.kind != "web":
        raise Problem(409, "only web campaigns have breakdowns of views; see `opens_person_by` in stats")


def count_of(dimension: str) -> str:
    """What pages' names are shown by: a page has few visits that begin there, and many views."""
    return "views" if dimension == "page" else "visits"


def kept(names: Iterable[str]) -> list[str]:
    """The dimensions that these are made of."""
    return list(dict.fromkeys("referrer" if name == KIND else name for name in names))


async def _viewed(store: AsyncRedis, campaign: str, days: Sequence[str], shards: int) -> list[str]:
    """Returns those of the days (YYYYMMDD) that anything was counted on."""
    months = sorted({day[:6] for day in days})
    if not months:
        return []
    pipe = store.pipeline(transaction=False)
    for shard in range(shards):
        pipe.hmget(keys.months(shard, campaign), months)
    found = {
        f"{month}{day:02}"
        for values in await pipe.execute()
        for month, value in zip(months, values, strict=True)
        for day, cell in series.unpack(value).items()
        if any(cell)
    }
    return [day for day in days if day in found]


async def by_day(
    store: AsyncRedis, campaign: str, days: Sequence[str], names: Iterable[str], shards: int
) -> AsyncIterator[tuple[str, dict[str, Names]]]:
    """Of each day (YYYYMMDD), its counts by dimension, over all shards."""
    wanted = kept(names)
    for i in range(0, len(days), _STEP):
        pipe = store.pipeline(transaction=False)
        for day in days[i : i + _STEP]:
            for shard in range(shards):
                pipe.hmget(keys.web(shard, campaign, day), wanted)
        answers: Iterator[list[bytes | None]] = iter(await pipe.execute())
        for day in days[i : i + _STEP]:
            found: dict[str, Names] = {name: {} for name in wanted}
            for _ in range(shards):
                for name, value in zip(wanted, next(answers), strict=True):
                    _sum(found[name], web_breakdown.unpack(value))
            yield day, found


def _sum(into: Names, counts: Names) -> None:
    for name, (views, visits) in counts.items():
        known = into.setdefault(name, [0, 0])
        known[0] += views
        known[1] += visits


def _kinds(hosts: Names) -> Names:
    found: Names = {}
    for host, counts in hosts.items():
        _sum(found, {kind_of(host): counts})
    return found


def kind_of(host: str) -> str:
    """The kind of site that a referrer is; of none, and of many put together, what it is called itself."""
    return host if host in (NONE, OTHER) else referrers.kind(host)


def rows(names: Mapping[str, Sequence[int]]) -> list[dict[str, Any]]:
    """Most visits first, then most views; `(other)` last."""
    order = sorted(names, key=lambda name: (-names[name][1], -names[name][0], name))
    order = [name for name in order if name != OTHER]
    rest = [names[name] for name in [*order[MAX_NAMES:], OTHER] if name in names]
    rows = [{"name": name, "views": names[name][0], "visits": names[name][1]} for name in order[:MAX_NAMES]]
    if rest:
        views, visits = (sum(column) for column in zip(*rest, strict=True))
        rows.append({"name": OTHER, "views": views, "visits": visits})
    return rows
