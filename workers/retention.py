"""The retention run: takes away what is older than it may be, a bounded step after the other.

For each campaign, what is to go is written into its record first (`leaving`), by which readers and the
roll-up go; then the turn of each shard is raised, the keys go, and the record says so (`gone`). A run that is
cut off, or out of time, goes on where the record says that something is left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter

import msgspec
from redis import ResponseError

from pixel_server import audit, campaigns, keys, people, purge, retention, rewrite, traces, turn
from pixel_server.campaigns import Campaign
from pixel_server.series import DAY, NewerFormat
from pixel_server.settings import Settings
from pixel_server.store import AsyncRedis, connect_async
from workers.context import context, is_known

log = logging.getLogger("workers.retention")

TIME = 2.0
"""Seconds a run takes at most, or a campaign more, for roll-ups wait for the same worker. One campaign it
always takes on, or where Redis is far away, none would ever be."""
AGAIN = 600.0
"""Seconds from the beginning of one round over all campaigns to that of the next."""
SLICES = 24
"""Rounds in which all days of mode `last` are looked through."""


def run() -> None:
    """The job."""
    store, settings, _ = context()
    if not is_known(store):
        return
    asyncio.run(_run(settings, time.time()))


async def _run(settings: Settings, now: float) -> None:
    store = connect_async(settings.redis_url, timeout=10.0)
    try:
        await step(store, settings, now)
    finally:
        await store.aclose()


async def step(store: AsyncRedis, settings: Settings, now: float) -> None:
    """Goes on with the round that is under way, or begins one if it is time (s)."""
    found = await store.hmget(keys.SWEEP, ["begun", "after", "slice"])
    begun, after, part = int(found[0] or 0), found[1], int(found[2] or 0)
    if after is None and begun <= now < begun + AGAIN:  # a beginning in the future was a wrong clock's
        return
    if after is None:
        part += 1
        await store.hset(keys.SWEEP, mapping={"begun": int(now), "slice": part, "after": ""})
    name = after.decode() if after else None
    following, _ = await sweep(store, settings, now, time.monotonic() + TIME, name, part)
    if following is None:
        await store.hdel(keys.SWEEP, "after")
    else:
        await store.hset(keys.SWEEP, "after", following)


async def sweep(
    store: AsyncRedis,
    settings: Settings,
    now: float,
    deadline: float,
    after: str | None = None,
    part: int = 0,
) -> tuple[str | None, Counter[str]]:
    """Takes away what is too old at this time (s), of campaigns after this one. deadline: monotonic clock.

    part: which slice of the days of mode `last` is looked through. Gives the last campaign it came to, None
    if there are no more, and how many keys it took, by kind.
    """
    taken: Counter[str] = Counter()
    if after is None:
        taken["dead letters"] += await _dead_letters(store, settings, now)
        taken["traces"] += await _traces(store, settings, now)
        taken["days of last opens"] += await _last(store, settings, now, part % SLICES)
    following: str | None = after or ""
    is_first = True
    while following is not None and (is_first or time.monotonic() < deadline):
        found, after = await campaigns.page(store, following or None, 100)
        for campaign in found:
            if not is_first and time.monotonic() >= deadline:
                break
            is_first = False
            following = campaign.id
            try:
                taken.update(await _campaign(store, settings, campaign.id, now))
            except campaigns.Unknown:
                continue  # deleted meanwhile
            except (NewerFormat, campaigns.Unreadable, ResponseError) as error:
                log.error("retention: campaign %s is left as it is: %s", campaign.id, error)
        else:
            following = after
    taken = +taken
    if taken:
        log.info("retention: %s", ", ".join(f"{count} {kind}" for kind, count in sorted(taken.items())))
        await rewrite.ask(store)
    return following, taken


async def _campaign(store: AsyncRedis, settings: Settings, name: str, now: float) -> Counter[str]:
    found, uses = await campaigns.uses(store, name)
    days, most = retention.keep(settings, found), retention.mode_of(settings, found)
    wanted = retention.leaving(found, uses, days, most, now)
    closing = found.closed_at is None and retention.is_closing(found, uses, days, now)
    if wanted == found.gone and not closing:
        return Counter()
    if closing or wanted != found.leaving:

        def leave(before: Campaign) -> Campaign:
            closed = int(now) if closing else before.closed_at
            return msgspec.structs.replace(before, leaving=wanted, closed_at=closed)

        found = await campaigns.amend(store, name, leave, quiet=True)
    if closing:  # whatever its mode took before: it may have been raised since
        found = msgspec.structs.replace(
            found, gone=msgspec.structs.replace(found.gone, recipients=False, names=False)
        )
    taken = await _take(store, settings.shards, found)
    for kind in sorted(taken.keys() & {"recipients", "names"}):
        await audit.note(store, audit.RETENTION, f"{kind}.removed", campaign=name)
    # Not what is leaving by now: another run may have begun on more.
    done = found.leaving
    await campaigns.amend(store, name, lambda before: msgspec.structs.replace(before, gone=done), quiet=True)
    return taken


async def _take(store: AsyncRedis, shards: int, campaign: Campaign) -> Counter[str]:
    """Keys that went, by kind."""
    before, after = campaign.gone, campaign.leaving
    kinds = {kind for kind in retention.KINDS if getattr(after, kind) > getattr(before, kind)}
    taken: Counter[str] = Counter()
    if kinds:
        await rewrite.ask(store)
    for shard in range(shards):
        await turn.raise_turn(store, shard)
        if "buckets" in kinds:
            taken["buckets"] += await purge.buckets(store, shard, campaign.id, before.buckets, after.buckets)
        if "days" in kinds:
            taken["days"] += await purge.days(store, shard, campaign.id, after.days)
        if "recipients" in kinds:
            taken["recipients"] += await purge.recipients(store, shard, campaign.id)
        elif "names" in kinds:
            taken["names"] += await purge.names(store, shard, campaign.id)
    return +taken


async def _dead_letters(store: AsyncRedis, settings: Settings, now: float) -> int:
    oldest = int((now - settings.keep_dead_letters * DAY) * 1000)
    gone = 0
    for shard in range(settings.shards):
        letters = int(await store.xtrim(keys.dead(shard), minid=oldest, approximate=False))
        if letters:
            log.warning("retention: shard %d: %d dead letters were too old and are gone", shard, letters)
        gone += letters
    return gone


async def _traces(store: AsyncRedis, settings: Settings, now: float) -> int:
    """Traces and visits of shards where no hit was counted for a day: else newer hits take them away.

    Also where hits wait, since a shard may stand still for long: those are then judged without. Also where
    the newest hit lies more than a day ahead, by a clock that has been set right since: to it, all that come
    are late, and make no visits. It is forgotten.
    """
    gone = 0
    for shard in range(settings.shards):
        newest = int(await store.hget(keys.turn(shard), "newest") or 0)
        if not newest or abs(now * 1000 - newest) < DAY * 1000:
            continue
        held = [keys.evidence(shard, minute) for minute in traces.minutes(newest)]
        held += [keys.visits(shard), keys.lasts(shard), keys.visiting(shard)]
        is_ahead = newest > now * 1000
        if (there := int(await store.exists(*held))) or is_ahead:
            forget = [("HDEL", keys.turn(shard), "newest")] if is_ahead else []
            await turn.write(store, shard, [*(("UNLINK", name) for name in held), *forget])
            gone += there
    return gone


async def _last(store: AsyncRedis, settings: Settings, now: float, part: int) -> int:
    """Days of last opens that are too old, of one slice of all."""
    first = int(now) // DAY - settings.keep_recipients
    gone = 0
    for bucket in range(part, keys.PEOPLE_BUCKETS, SLICES):
        pipe = store.pipeline(transaction=False)
        for shard in range(settings.shards):
            pipe.hgetall(keys.last(shard, bucket))
        for shard, days in enumerate(await pipe.execute()):
            key = keys.last(shard, bucket)
            old = _older(key, days, first)
            if not old:
                continue

            async def commands(key: str = key) -> list[turn.Command]:
                still = _older(key, await store.hgetall(key), first)
                return [("HDEL", key, *still)] if still else []

            await turn.change(store, shard, commands)
            gone += len(old)
    return gone


def _older(key: str, days: dict[bytes, bytes], first: int) -> list[bytes]:
    try:
        return [recipient for recipient, day in days.items() if people.unpack_day(day) < first]
    except NewerFormat as error:
        log.error("retention: %s is left as it is: %s", key, error)
        return []
