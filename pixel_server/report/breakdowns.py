"""What the views and visits of a web campaign break down into, over any range of local days."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from pixel_server import dimensions, keys, referrers, retention
from pixel_server.agents import OTHER
from pixel_server.campaigns import Campaign
from pixel_server.dimensions import DIMENSIONS, NONE, Names
from pixel_server.report import ranges
from pixel_server.report.problems import Problem
from pixel_server.report.ranges import Range
from pixel_server.settings import Settings
from pixel_server.store import AsyncRedis

KIND = "referrer_kind"
"""Not kept: the sum of the referrers of a kind."""
BY = (*DIMENSIONS, KIND)
MOST_NAMES = 1000
_STEP = 200
"""Days read at a time."""

Publish = Callable[[Names], Names]
"""What of one dimension of one day may be shown."""


def parse(query: Mapping[str, str]) -> list[str]:
    """Which are asked for: `by`; without it, all. Problem 422: one that there is not."""
    names = list(dict.fromkeys(query["by"].split(","))) if "by" in query else list(BY)
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
    publish: Publish | None = None,
) -> dict[str, Any]:
    """What `GET /api/campaigns/{id}/breakdowns` answers. Days that are not kept any more are left out."""
    if campaign.kind != "web":
        raise Problem(409, "only web campaigns have breakdowns of views; see `opens_person_by` in stats")
    if wanted.interval != "day" or wanted.zone.key != campaign.time_zone:
        raise Problem(409, "breakdowns are of days of the campaign's own zone")
    first = retention.oldest_day(campaign, retention.keep(settings, campaign).days, now)
    days = [datetime.fromtimestamp(at, wanted.zone).strftime("%Y%m%d") for at in wanted.starts()]
    days = [day for day in days if day >= first]
    kept = list(dict.fromkeys("referrer" if name == KIND else name for name in names))
    found: dict[str, Names] = {name: {} for name in kept}
    for i in range(0, len(days), _STEP):
        async for day in _days(store, campaign.id, days[i : i + _STEP], kept, settings.shards):
            for name, counts in day.items():
                _sum(found[name], publish(counts) if publish else counts)
    return {
        "campaign": campaign.id,
        "from": ranges.show(wanted.start, wanted.zone),
        "to": ranges.show(wanted.end, wanted.zone),
        "time_zone": wanted.zone.key,
        "by": {name: _rows(_kinds(found["referrer"]) if name == KIND else found[name]) for name in names},
    }


async def _days(
    store: AsyncRedis, campaign: str, days: list[str], names: list[str], shards: int
) -> AsyncIterator[dict[str, Names]]:
    """Of each day, its counts by dimension, over all shards."""
    pipe = store.pipeline(transaction=False)
    for day in days:
        for shard in range(shards):
            pipe.hmget(keys.web(shard, campaign, day), names)
    answers: Iterator[list[bytes | None]] = iter(await pipe.execute())
    for _ in days:
        found: dict[str, Names] = {name: {} for name in names}
        for _ in range(shards):
            for name, value in zip(names, next(answers), strict=True):
                _sum(found[name], dimensions.unpack(value))
        yield found


def _sum(into: Names, counts: Names) -> None:
    for name, (views, visits) in counts.items():
        known = into.setdefault(name, [0, 0])
        known[0] += views
        known[1] += visits


def _kinds(hosts: Names) -> Names:
    found: Names = {}
    for host, counts in hosts.items():
        kind = host if host in (NONE, OTHER) else referrers.kind(host)
        _sum(found, {kind: counts})
    return found


def _rows(names: Names) -> list[dict[str, Any]]:
    """Most visits first, then most views; `(other)` last."""
    order = sorted(names, key=lambda name: (-names[name][1], -names[name][0], name))
    order = [name for name in order if name != OTHER]
    rest = [names[name] for name in [*order[MOST_NAMES:], OTHER] if name in names]
    rows = [{"name": name, "views": names[name][0], "visits": names[name][1]} for name in order[:MOST_NAMES]]
    if rest:
        views, visits = (sum(column) for column in zip(*rest, strict=True))
        rows.append({"name": OTHER, "views": views, "visits": visits})
    return rows
