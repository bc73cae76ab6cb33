"""Removes the keys of a campaign from a shard, in bounded steps.

The caller first records what will be removed, then raises the shard's generation, so that no roll-up or
upload brings a key back. A removal that is cut off is started again from its beginning. Each `remove_`
function returns the number of removed keys, unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable

from pixel_server.counters import burst_window, open_breakdown, series
from pixel_server.settings import MAX_DAYS
from pixel_server.store import checkpoint, keys, noted_changes
from pixel_server.store.checkpoint import Generation, read_call, read_replies
from pixel_server.store.key import CampaignBucketKey, CampaignDayKey, CampaignKey, Tag
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import GLOBAL
from pixel_server.times import DAY

_LOCAL_DAY_KEYS = [key for key in keys.kinds(CampaignDayKey) if key is not keys.buckets]
"""Kinds of key that a campaign has for each local day. `keys.buckets` is left out: its days are in UTC."""
_STEP = 512
"""Largest number of keys removed by one command."""


async def remove_all(store: AsyncRedis, shard: int, campaign: str) -> int:
    """Removes all keys of a campaign."""
    removed = await remove_recipients(store, shard, campaign)
    removed += await remove_time_buckets(store, shard, campaign, 0, int((await store.time())[0]) + 2 * DAY)
    removed += await remove_visits(store, shard, campaign)
    return removed + await _unlink(store, shard, await _counter_keys(store, shard, campaign))


async def remove_merged(store: AsyncRedis, campaign: str) -> None:
    """Removes the values of a deleted campaign that were merged over shards, see `store.merged`."""
    end = int((await store.time())[0]) + 2 * DAY
    await _unlink(store, GLOBAL, await _time_bucket_keys(store, GLOBAL, campaign, 0, end))
    await _unlink(store, GLOBAL, await _counter_keys(store, GLOBAL, campaign))


async def _counter_keys(store: AsyncRedis, tag: Tag, campaign: str) -> list[str]:
    days = await _stored_days(store, tag, campaign)
    key_names = [key(tag, campaign, day) for day in days for key in _LOCAL_DAY_KEYS]
    key_names += [key(tag, campaign) for key in keys.kinds(CampaignKey) if key is not keys.months]
    return [*key_names, keys.months(tag, campaign)]  # last, because `_stored_days` reads the months


async def remove_recipients(store: AsyncRedis, shard: int, campaign: str) -> int:
    """Removes the records, lists and names of recipients, and the traces of their last hits."""
    removed = 0
    newest = await checkpoint.read_newest_ms(store, shard)
    trace_keys = [keys.evidence(shard, minute) for minute in burst_window.kept_minutes(newest)]
    for trace_key in trace_keys if await store.exists(*trace_keys) else ():
        async for field, _ in store.hscan_iter(trace_key, match="?" * 8 + campaign, count=_STEP):
            await store.hdel(trace_key, field)
    for key in keys.kinds(CampaignBucketKey):
        removed += await _unlink(
            store, shard, (key(shard, campaign, bucket) for bucket in range(keys.PEOPLE_BUCKETS))
        )
    return removed


async def remove_visits(store: AsyncRedis, shard: int, campaign: str) -> int:
    """Removes visits under way, and returns their number."""
    removed = 0
    async for field, _ in store.hscan_iter(keys.visits(shard), match="?" * 8 + campaign, count=_STEP):
        removed += int(await store.hdel(keys.visits(shard), field))
        await store.zrem(keys.visit_times(shard), field)
    await store.hdel(keys.visiting(shard), campaign)
    return removed


async def remove_names(store: AsyncRedis, shard: int, campaign: str) -> int:
    """Removes the names of recipients."""
    return await _unlink(
        store, shard, (keys.names(shard, campaign, bucket) for bucket in range(keys.PEOPLE_BUCKETS))
    )


async def remove_time_buckets(store: AsyncRedis, shard: int, campaign: str, start: int, end: int) -> int:
    """Removes the 15-minute series of the UTC days from `start` to `end` (s). Goes back MAX_DAYS at most."""
    return await _unlink(store, shard, await _time_bucket_keys(store, shard, campaign, start, end))


async def count_time_buckets(store: AsyncRedis, shard: int, campaign: str, start: int, end: int) -> int:
    """Returns how many keys `remove_time_buckets` would remove."""
    key_names = await _time_bucket_keys(store, shard, campaign, start, end)
    return int(await store.exists(*key_names)) if key_names else 0


async def _time_bucket_keys(store: AsyncRedis, shard: Tag, campaign: str, start: int, end: int) -> list[str]:
    first = int((await store.time())[0]) // DAY * DAY - MAX_DAYS * DAY
    days = range(max(start, first), end, DAY)
    return [keys.buckets(shard, campaign, series.utc_day(at)) for at in days]


async def list_days_before(store: AsyncRedis, shard: int, campaign: str, before: str) -> list[str]:
    """Returns the local days that `remove_days` would remove, as `"20261124"`."""
    return [day for day in await _stored_days(store, shard, campaign) if day < before]


async def remove_days(store: AsyncRedis, shard: int, campaign: str, before: str) -> int:
    """Removes daily series, breakdowns and visitors of local days before a day (`"20261124"`).

    Also removes the rulesets that were last used before that day. Returns the number of days removed.
    """
    old = await list_days_before(store, shard, campaign, before)
    await _unlink(store, shard, (key(shard, campaign, day) for day in old for key in _LOCAL_DAY_KEYS))
    months_key, opens_key = keys.months(shard, campaign), keys.breakdown(shard, campaign)
    rules_key = keys.rules(shard, campaign)

    async def plan(generation: Generation) -> list[checkpoint.Command]:
        commands: list[checkpoint.Command] = []
        if not await store.exists(keys.campaign(campaign)):
            return commands  # the campaign is being deleted, and no key of it must come back
        reads = [("HGETALL", months_key), ("HGETALL", opens_key)]
        months, opens = read_replies(await store.eval(*read_call(shard, generation, reads)))
        for month, value in zip(months[::2], months[1::2], strict=True):
            if month.decode() > before[:6]:
                continue
            cells = series.unpack(value)
            kept = {day: cell for day, cell in cells.items() if f"{month.decode()}{day:02d}" >= before}
            if not kept:
                commands.append(("HDEL", months_key, month))
            elif len(kept) < len(cells):
                commands.append(("HSET", months_key, month, series.pack(kept)))
        for month, value in zip(opens[::2], opens[1::2], strict=True):
            if month == open_breakdown.ALL.encode() or month.decode() > before[:6]:
                continue
            counts = {
                day: count
                for day, count in open_breakdown.unpack(value).items()
                if f"{month.decode()}{day:02d}" >= before
            }
            commands.append(
                ("HSET", opens_key, month, open_breakdown.pack(counts))
                if counts
                else ("HDEL", opens_key, month)
            )
        for field, value in (await store.hgetall(rules_key)).items():
            if field.endswith(b" to") and series.utc_day(int(value)) < before:
                ruleset = field.removesuffix(b" to")
                commands.append(("HDEL", rules_key, ruleset + b" from", field))
        return commands

    if old:
        await checkpoint.plan_and_commit(store, shard, plan)
    return len(old)


async def _unlink(store: AsyncRedis, tag: Tag, key_names: Iterable[str]) -> int:
    names, removed = list(key_names), 0
    for i in range(0, len(names), _STEP):
        step = names[i : i + _STEP]
        if tag == GLOBAL:
            removed += int(await store.unlink(*step))
        else:
            removed += await noted_changes.remove(store, tag, step)
    return removed


async def _stored_days(store: AsyncRedis, shard: Tag, campaign: str) -> list[str]:
    months = await store.hgetall(keys.months(shard, campaign))
    return [f"{month.decode()}{day:02d}" for month, value in months.items() for day in series.unpack(value)]
