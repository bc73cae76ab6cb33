"""Taking away what a shard holds of a campaign, in bounded steps.

Whoever calls this has first written down that it is to go, then raised the shard's generation: so no roll-up
or upload brings a key back. Each of these may be cut off, and is then done again from its beginning. Each
gives how many keys went.
"""

from __future__ import annotations

from collections.abc import Iterable

from pixel_server.counters import burst_window, open_breakdown, series
from pixel_server.settings import MAX_DAYS
from pixel_server.store import checkpoint, keys
from pixel_server.store.key import CampaignBucketKey, CampaignDayKey, CampaignKey
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import DAY

_OF_LOCAL_DAY = [key for key in keys.kinds(CampaignDayKey) if key is not keys.buckets]
_STEP = 512
"""Keys a command."""


async def whole(store: AsyncRedis, shard: int, campaign: str) -> int:
    """All of it."""
    gone = await recipients(store, shard, campaign)
    gone += await buckets(store, shard, campaign, 0, int((await store.time())[0]) + 2 * DAY)
    gone += await visits(store, shard, campaign)
    names = [
        key(shard, campaign, day) for day in await _days(store, shard, campaign) for key in _OF_LOCAL_DAY
    ]
    names += [key(shard, campaign) for key in keys.kinds(CampaignKey) if key is not keys.months]
    names.append(keys.months(shard, campaign))  # last, because the months say which days there are
    return gone + await _unlink(store, names)


async def recipients(store: AsyncRedis, shard: int, campaign: str) -> int:
    """Who opened, who is listed, their names, and traces of their last hits."""
    gone = 0
    newest = await checkpoint.read_newest_ms(store, shard)
    traced = [keys.evidence(shard, minute) for minute in burst_window.kept_minutes(newest)]
    for held in traced if await store.exists(*traced) else ():
        async for name, _ in store.hscan_iter(held, match="?" * 8 + campaign, count=_STEP):
            await store.hdel(held, name)
    for key in keys.kinds(CampaignBucketKey):
        gone += await _unlink(store, (key(shard, campaign, bucket) for bucket in range(keys.PEOPLE_BUCKETS)))
    return gone


async def visits(store: AsyncRedis, shard: int, campaign: str) -> int:
    """Visits that are under way."""
    gone = 0
    async for name, _ in store.hscan_iter(keys.visits(shard), match="?" * 8 + campaign, count=_STEP):
        gone += int(await store.hdel(keys.visits(shard), name))
        await store.zrem(keys.lasts(shard), name)
    await store.hdel(keys.visiting(shard), campaign)
    return gone


async def names(store: AsyncRedis, shard: int, campaign: str) -> int:
    """Names alone."""
    return await _unlink(
        store, (keys.names(shard, campaign, bucket) for bucket in range(keys.PEOPLE_BUCKETS))
    )


async def buckets(store: AsyncRedis, shard: int, campaign: str, start: int, end: int) -> int:
    """15-minute series of the UTC days from start to end, seconds; at most MAX_DAYS back."""
    return await _unlink(store, await _buckets(store, shard, campaign, start, end))


async def count_buckets(store: AsyncRedis, shard: int, campaign: str, start: int, end: int) -> int:
    """Returns how many keys `buckets` would remove."""
    found = await _buckets(store, shard, campaign, start, end)
    return int(await store.exists(*found)) if found else 0


async def _buckets(store: AsyncRedis, shard: int, campaign: str, start: int, end: int) -> list[str]:
    first = int((await store.time())[0]) // DAY * DAY - MAX_DAYS * DAY
    days = range(max(start, first), end, DAY)
    return [keys.buckets(shard, campaign, series.utc_day(at)) for at in days]


async def days_before(store: AsyncRedis, shard: int, campaign: str, before: str) -> list[str]:
    """Returns the local days, YYYYMMDD, that `days` would remove."""
    return [day for day in await _days(store, shard, campaign) if day < before]


async def days(store: AsyncRedis, shard: int, campaign: str, before: str) -> int:
    """Daily series, breakdowns and visitors of local days before this one, YYYYMMDD. How many days went."""
    old = await days_before(store, shard, campaign, before)
    await _unlink(store, (key(shard, campaign, day) for day in old for key in _OF_LOCAL_DAY))
    key, opens = keys.months(shard, campaign), keys.breakdown(shard, campaign)

    async def commands() -> list[checkpoint.Command]:
        found: list[checkpoint.Command] = []
        if not await store.exists(keys.campaign(campaign)):
            return found  # it is being deleted, and must not come back
        for month, value in (await store.hgetall(key)).items():
            if month.decode() > before[:6]:
                continue
            cells = series.unpack(value)
            left = {day: cell for day, cell in cells.items() if f"{month.decode()}{day:02d}" >= before}
            if not left:
                found.append(("HDEL", key, month))
            elif len(left) < len(cells):
                found.append(("HSET", key, month, series.pack(left)))
        for month, value in (await store.hgetall(opens)).items():
            if month == open_breakdown.ALL.encode() or month.decode() > before[:6]:
                continue
            kept = open_breakdown.unpack(value)
            some = {day: counts for day, counts in kept.items() if f"{month.decode()}{day:02d}" >= before}
            found.append(
                ("HSET", opens, month, open_breakdown.pack(some)) if some else ("HDEL", opens, month)
            )
        return found

    if old:
        await checkpoint.plan_and_commit(store, shard, commands)
    return len(old)


async def _unlink(store: AsyncRedis, names: Iterable[str]) -> int:
    found = list(names)
    return sum([int(await store.unlink(*found[i : i + _STEP])) for i in range(0, len(found), _STEP)])


async def _days(store: AsyncRedis, shard: int, campaign: str) -> list[str]:
    months = await store.hgetall(keys.months(shard, campaign))
    return [f"{month.decode()}{day:02d}" for month, value in months.items() for day in series.unpack(value)]
