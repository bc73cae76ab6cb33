"""The retention run: takes away what is older than it may be, a bounded step after the other.

For each campaign, what is to go is written into its record first (`leaving`), by which readers and the
roll-up go; then the generation of each shard is raised, the keys go, and the record says so (`gone`). A run
that is cut off, or out of time, goes on where the record says that something is left.

All goes by Redis's time, and nothing is done by a worker whose own clock differs from it. If more than a
day's worth is due at once, it stays, and is counted as waiting, until an operator says that it may go
(`by_hand`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import time
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple

import msgspec
from redis import ResponseError

from pixel_server.campaigns import purge, retention, storage
from pixel_server.campaigns.campaign import DATA_KINDS, Campaign, Removal, UnreadableCampaign
from pixel_server.counters import burst_window, recipient_record
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.settings import Settings
from pixel_server.store import aof_rewrite, audit_log, checkpoint, keys
from pixel_server.store.client import connect_async
from pixel_server.store.clock import Clock, text
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import even_if_full
from pixel_server.times import DAY
from workers.context import context, is_known

log = logging.getLogger("workers.retention")

TIME = 2.0
"""Seconds a run takes at most, or a campaign more, for roll-ups wait for the same worker. One campaign it
always takes on, or where Redis is far away, none would ever be."""
AGAIN = 600.0
"""Seconds from the beginning of one round over all campaigns to that of the next."""
SLICES = 24
"""Rounds in which all days of mode `last` are looked through."""
LAST = "days of last opens"

May = Literal["nothing", "a day", "all"]
"""How much a run may take away: nothing, for it only looks; what became due within a day; all that is due."""


class WrongClock(RuntimeError):
    """The clock of this process differs from that of Redis. The message is one line for the operator."""


class Swept(NamedTuple):
    """following: the last campaign that was come to, None if there are no more. taken: keys that went, by
    kind. waiting: what was left where it is, by kind."""

    following: str | None
    taken: Counter[str]
    waiting: Counter[str]


def run() -> None:
    """The job."""
    store, settings, _ = context()
    if not is_known(store):
        return
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    store = connect_async(settings.redis_url, timeout=5.0)
    try:
        await step(store, settings, await _now(store, "this worker"))
    except WrongClock as error:
        log.warning("retention: not done: %s", error)
    finally:
        await store.aclose()


async def _now(store: AsyncRedis, who: str) -> float:
    """Returns Redis's time. Raises WrongClock."""
    clock = Clock()
    await clock.measure_async(store)
    if clock.is_wrong:
        raise WrongClock(text(who, clock.ahead))
    return clock()


async def step(store: AsyncRedis, settings: Settings, now: float) -> None:
    """Goes on with the round that is under way, or begins one if it is time (s)."""
    found = await store.hmget(keys.SWEEP, ["begun", "after", "slice", "waits", "waiting"])
    begun, after, part = int(found[0] or 0), found[1], int(found[2] or 0)
    if after is None and begun <= now < begun + AGAIN:  # a beginning in the future was a wrong clock's
        return
    waiting = Counter(retention.unpack_waiting(found[4]))
    if after is None:
        part += 1
        # Each round looks at some of the days of last opens only: what the others found still holds.
        before = retention.unpack_waiting(found[3]).get(LAST, 0) if part % SLICES else 0
        waiting = +Counter({LAST: before})
        await even_if_full(store, "HSET", keys.SWEEP, "begun", int(now), "slice", part, "after", "")
    name = after.decode() if after else None
    is_late = 0 < begun < now - DAY  # after an outage, or Redis's clock jumped: the next round will tell
    deadline = time.monotonic() + TIME
    following, _, more = await sweep(store, settings, now, deadline, name, part, is_late=is_late)
    waiting += more
    if following is None:
        await store.hdel(keys.SWEEP, "after", "waiting")
        await _keep_waiting(store, waiting, retention.unpack_waiting(found[3]))
    else:
        packed = retention.pack_waiting(waiting)
        await even_if_full(store, "HSET", keys.SWEEP, "after", following, "waiting", packed)


async def _keep_waiting(store: AsyncRedis, waiting: Mapping[str, int], before: Mapping[str, int]) -> None:
    if waiting:
        await even_if_full(store, "HSET", keys.SWEEP, "waits", retention.pack_waiting(waiting))
        if waiting != before:
            log.error("retention: %s", retention.waiting_message(waiting))
    else:
        await store.hdel(keys.SWEEP, "waits")


async def by_hand(store: AsyncRedis, settings: Settings, may: May) -> Swept:
    """Looks through all there is, or takes all that is due. Raises WrongClock."""
    now = await _now(store, f"this command on {socket.gethostname()}")
    swept = await sweep(store, settings, now, math.inf, may=may)
    for part in range(1, SLICES):
        await _last(store, settings, now, part, may, swept.taken, swept.waiting)
    if may == "all":
        await store.hdel(keys.SWEEP, "waits")
        await aof_rewrite.ask(store)
    return swept


async def sweep(
    store: AsyncRedis,
    settings: Settings,
    now: float,
    deadline: float,
    after: str | None = None,
    part: int = 0,
    may: May = "a day",
    is_late: bool = False,
) -> Swept:
    """Takes away what is too old at this time (s), of campaigns after this one. deadline: monotonic clock.

    part: which slice of the days of mode `last` is looked through. is_late: the round before this one was
    more than a day ago; traces are then left to the next.
    """
    taken: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    if after is None:
        await _dead_letters(store, settings, now, may, taken, waiting)
        await _last(store, settings, now, part % SLICES, may, taken, waiting)
        if may != "nothing" and not is_late:
            taken["traces"] += await _traces(store, settings, now)
    following: str | None = after or ""
    is_first = True
    while following is not None and (is_first or time.monotonic() < deadline):
        found, after = await storage.page(store, following or None, 100)
        for campaign in found:
            if not is_first and time.monotonic() >= deadline:
                break
            is_first = False
            following = campaign.id
            try:
                gone, left = await _campaign(store, settings, campaign.id, now, may)
                taken.update(gone)
                waiting.update(left)
            except storage.UnknownCampaign:
                continue  # deleted meanwhile
            except (NewerFormat, UnreadableCampaign, ResponseError) as error:
                log.error("retention: campaign %s is left as it is: %s", campaign.id, error)
        else:
            following = after
    taken = +taken
    if taken:
        log.info("retention: %s", ", ".join(f"{count} {kind}" for kind, count in sorted(taken.items())))
        await aof_rewrite.ask(store)
    return Swept(following, taken, +waiting)


async def _campaign(
    store: AsyncRedis, settings: Settings, name: str, now: float, may: May
) -> tuple[Counter[str], Counter[str]]:
    """Returns the keys that went, and what waits, by kind."""
    found, uses = await storage.get_uses(store, name)
    days, most = retention.campaign_days(settings, found), retention.effective_mode(settings, found)
    wanted = retention.due_removal(found, uses, days, most, now)
    closing = found.closed_at is None and retention.is_closing(found, uses, days, now)
    waiting: Counter[str] = Counter()
    if may != "all":
        held = set(DATA_KINDS) if may == "nothing" else retention.overdue_kinds(found, uses, days, most, now)
        waiting = await _there(store, settings.shards, found, wanted, held)
        if may == "nothing":
            return Counter(), waiting
        closing = closing and "recipients" not in waiting
        stay = {kind: getattr(found.leaving, kind) for kind in waiting}
        wanted = msgspec.structs.replace(wanted, **stay)
    if wanted == found.gone and not closing:
        return Counter(), waiting
    if closing or wanted != found.leaving:

        def leave(before: Campaign) -> Campaign:
            closed = int(now) if closing else before.closed_at
            return msgspec.structs.replace(before, leaving=wanted, closed_at=closed)

        found = await storage.amend(store, name, leave, is_announced=False)
    if closing:  # whatever its mode took before: it may have been raised since
        found = msgspec.structs.replace(
            found, gone=msgspec.structs.replace(found.gone, recipients=False, names=False)
        )
    taken = await _take(store, settings.shards, found)
    for kind in sorted(taken.keys() & {"recipients", "names"}):
        await audit_log.note(store, audit_log.RETENTION, f"{kind}.removed", campaign=name)
    # Not what is leaving by now: another run may have begun on more.
    done = found.leaving
    await storage.amend(
        store, name, lambda before: msgspec.structs.replace(before, gone=done), is_announced=False
    )
    return taken, waiting


async def _there(
    store: AsyncRedis, shards: int, campaign: Campaign, wanted: Removal, kinds: Collection[str]
) -> Counter[str]:
    """Returns how much of these kinds would go: keys of 15-minute series, days of a shard, and 1 for the
    recipients or the names of the campaign."""
    before = campaign.leaving
    found: Counter[str] = Counter()
    for kind in {"recipients", "names"}.intersection(kinds):
        found[kind] = int(getattr(wanted, kind) > getattr(before, kind))
    for shard in range(shards):
        if "buckets" in kinds:
            start, end = before.buckets, wanted.buckets
            found["buckets"] += await purge.count_buckets(store, shard, campaign.id, start, end)
        if "days" in kinds:
            found["days"] += len(await purge.list_days_before(store, shard, campaign.id, wanted.days))
    return +found


async def _take(store: AsyncRedis, shards: int, campaign: Campaign) -> Counter[str]:
    """Keys that went, by kind."""
    before, after = campaign.gone, campaign.leaving
    kinds = {kind for kind in DATA_KINDS if getattr(after, kind) > getattr(before, kind)}
    taken: Counter[str] = Counter()
    if kinds:
        await aof_rewrite.ask(store)
    for shard in range(shards):
        await checkpoint.raise_generation(store, shard)
        if "buckets" in kinds:
            taken["buckets"] += await purge.remove_buckets(
                store, shard, campaign.id, before.buckets, after.buckets
            )
        if "days" in kinds:
            taken["days"] += await purge.remove_days(store, shard, campaign.id, after.days)
        if "recipients" in kinds:
            taken["recipients"] += await purge.remove_recipients(store, shard, campaign.id)
        elif "names" in kinds:
            taken["names"] += await purge.remove_names(store, shard, campaign.id)
    return +taken


async def _dead_letters(
    store: AsyncRedis, settings: Settings, now: float, may: May, taken: Counter[str], waiting: Counter[str]
) -> None:
    oldest = int((now - settings.keep_dead_letters * DAY) * 1000)
    held = {"nothing": oldest, "a day": oldest - DAY * 1000, "all": 0}[may]
    for shard in range(settings.shards):
        if await store.xrange(keys.dead(shard), "-", f"({held}", 1):
            waiting["dead letters"] += len(await store.xrange(keys.dead(shard), "-", f"({oldest}"))
        elif may != "nothing":
            letters = int(await store.xtrim(keys.dead(shard), minid=oldest, approximate=False))
            if letters:
                log.warning("retention: shard %d: %d dead letters were too old and are gone", shard, letters)
            taken["dead letters"] += letters


async def _traces(store: AsyncRedis, settings: Settings, now: float) -> int:
    """Traces and visits of shards where no hit was counted for a day: else newer hits take them away.

    Also where hits wait, since a shard may stand still for long: those are then judged without. Also where
    the newest hit lies more than a day ahead, by a clock that has been set right since: to it, all that come
    are late, and make no visits. It is forgotten.
    """
    gone = 0
    for shard in range(settings.shards):
        newest = await checkpoint.read_newest_ms(store, shard)
        if not newest or abs(now * 1000 - newest) < DAY * 1000:
            continue
        held = [keys.evidence(shard, minute) for minute in burst_window.kept_minutes(newest)]
        held += [keys.visits(shard), keys.lasts(shard), keys.visiting(shard)]
        if (there := int(await store.exists(*held))) or newest > now * 1000:
            await checkpoint.commit_always(store, shard, burst_window.forget_commands(shard, newest))
            gone += there
    return gone


async def _last(
    store: AsyncRedis,
    settings: Settings,
    now: float,
    part: int,
    may: May,
    taken: Counter[str],
    waiting: Counter[str],
) -> None:
    """Days of last opens that are too old, of one slice of all."""
    first = int(now) // DAY - settings.keep_recipients
    held = {"nothing": first, "a day": first - 1, "all": 0}[may]
    for bucket in range(part, keys.PEOPLE_BUCKETS, SLICES):
        pipe = store.pipeline(transaction=False)
        for shard in range(settings.shards):
            pipe.hgetall(keys.last(shard, bucket))
        for shard, days in enumerate(await pipe.execute()):
            key = keys.last(shard, bucket)
            old = _older(key, days, first)
            if not old:
                continue
            if _older(key, days, held):
                waiting[LAST] += len(old)
                continue

            async def commands(key: str = key) -> list[checkpoint.Command]:
                still = _older(key, await store.hgetall(key), first)
                return [("HDEL", key, *still)] if still else []

            await checkpoint.plan_and_commit(store, shard, commands)
            taken[LAST] += len(old)


def _older(key: str, days: dict[bytes, bytes], first: int) -> list[bytes]:
    try:
        return [recipient for recipient, day in days.items() if recipient_record.unpack_day(day) < first]
    except NewerFormat as error:
        log.error("retention: %s is left as it is: %s", key, error)
        return []
