"""Removes the due data that shards hold across campaigns: dead letters, last-open days, visits, traces."""

from __future__ import annotations

from pixel_server.counters import burst_window, recipient_record
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.logs import Log
from pixel_server.settings import Settings
from pixel_server.store import checkpoint, keys
from pixel_server.store.checkpoint import Generation
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import DAY, DAY_MS
from workers.removals import Allowance, Removals, no_removals

log = Log(__name__)

SLICES = 24
"""Number of slices into which the last-open days are divided. A round looks through one slice."""
DEAD_LETTERS = "dead letters"
LAST_OPEN_DAYS = "days of last opens"
"""Kinds of data, as operators read them."""


async def remove_dead_letters(
    store: AsyncRedis, settings: Settings, now: float, allowance: Allowance
) -> Removals:
    """Removes old dead letters of each shard. now: Redis's time, s."""
    removals = no_removals()
    oldest_ms = int((now - settings.keep_dead_letters * DAY) * 1000)
    # If there are dead letters from before this time, all that are due wait for an operator.
    held_before_ms = {"nothing": oldest_ms, "a day": oldest_ms - DAY_MS, "all": 0}[allowance]
    for shard in range(settings.shards):
        if await store.xrange(keys.dead(shard), "-", f"({held_before_ms}", 1):
            due = await store.xrange(keys.dead(shard), "-", f"({oldest_ms}")
            removals.waiting[DEAD_LETTERS] += len(due)
        elif allowance != "nothing":
            letters = int(await store.xtrim(keys.dead(shard), minid=oldest_ms, approximate=False))
            if letters:
                log.warning(
                    "dead-letters-removed",
                    "shard %(shard)d: removed %(letters)d dead letters that were too old",
                    shard=shard,
                    letters=letters,
                )
            removals.removed[DEAD_LETTERS] += letters
    return removals


async def remove_visits_and_traces(store: AsyncRedis, settings: Settings, now: float) -> int:
    """Removes visits and traces of shards that counted no hit for a day. Returns the number of keys removed.

    While hits are counted, the roll-up removes visits and traces. This function removes them even if hits
    wait, because a shard may stand still for long; the waiting hits are then judged without traces. It also
    removes them, and forgets the time of the newest hit, if that time is more than a day ahead: such a time
    comes from a wrong clock, and all other hits would be late beside it and make no visits. now: Redis's
    time, s.
    """
    removed = 0
    for shard in range(settings.shards):
        newest_ms = await checkpoint.read_newest_ms(store, shard)
        if not newest_ms or abs(now * 1000 - newest_ms) < DAY_MS:
            continue
        key_names = [keys.evidence(shard, minute) for minute in burst_window.kept_minutes(newest_ms)]
        key_names += [keys.visits(shard), keys.visit_times(shard), keys.visiting(shard)]
        if (existing := int(await store.exists(*key_names))) or newest_ms > now * 1000:
            await checkpoint.commit_always(store, shard, burst_window.forget_commands(shard, newest_ms))
            removed += existing
    return removed


async def remove_last_open_days(
    store: AsyncRedis, settings: Settings, now: float, slice_number: int, allowance: Allowance
) -> Removals:
    """Removes old days of last opens (mode `last`) in one of the SLICES. now: Redis's time, s."""
    removals = no_removals()
    first_day = int(now) // DAY - settings.keep_recipients
    # If a bucket has days before this day, all its days that are due wait for an operator.
    held_before = {"nothing": first_day, "a day": first_day - 1, "all": 0}[allowance]
    for bucket in range(slice_number, keys.PEOPLE_BUCKETS, SLICES):
        pipe = store.pipeline(transaction=False)
        for shard in range(settings.shards):
            pipe.hgetall(keys.last(shard, bucket))
        for shard, days in enumerate(await pipe.execute()):
            key = keys.last(shard, bucket)
            old = _recipients_before(shard, days, first_day)
            if not old:
                continue
            if _recipients_before(shard, days, held_before):
                removals.waiting[LAST_OPEN_DAYS] += len(old)
                continue

            async def plan(
                generation: Generation, shard: int = shard, key: str = key
            ) -> list[checkpoint.Command]:
                call = checkpoint.read_call(shard, generation, [("HGETALL", key)])
                (flat,) = checkpoint.read_replies(await store.eval(*call))
                present_days = dict(zip(flat[::2], flat[1::2], strict=True))
                still_old = _recipients_before(shard, present_days, first_day)
                return [("HDEL", key, *still_old)] if still_old else []

            await checkpoint.plan_and_commit(store, shard, plan)
            removals.removed[LAST_OPEN_DAYS] += len(old)
    return removals


def _recipients_before(shard: int, days: dict[bytes, bytes], first_day: int) -> list[bytes]:
    """Returns the recipients whose last open was before a day (days since 1970).

    Returns no recipient if a newer version wrote one of the values.
    """
    try:
        return [recipient for recipient, day in days.items() if recipient_record.unpack_day(day) < first_day]
    except NewerFormat as error:
        log.error(
            "last-opens-newer",
            "last opens in shard %(shard)d are left as they are by retention: %(error)s",
            shard=shard,
            error=error,
        )
        return []
