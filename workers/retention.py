"""The retention job: removes data that is older than the settings allow, in rounds over all campaigns.

A run handles as many campaigns as its time allows. The next run continues after the last of these campaigns,
until the round is complete.

Redis's time alone decides what is due. A worker whose own clock differs from it does nothing. If more than a
day's worth of a kind of data is due at once, that data stays and is counted as waiting, until an operator
allows its removal (`run_by_hand`).
"""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from redis import ResponseError

from pixel_server import lifeline
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import UnreadableCampaign
from pixel_server.campaigns.retention import pack_waiting, unpack_waiting, waiting_message
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.logs import Log
from pixel_server.settings import Settings
from pixel_server.store import aof_rewrite, keys
from pixel_server.store.client import connect_async
from pixel_server.store.clock import Clock, describe
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.replication import NotReplicatedError
from pixel_server.store.script import even_if_full
from pixel_server.times import DAY
from workers import retention_campaign
from workers.context import context, is_known_store
from workers.removals import Allowance, Removals, no_removals
from workers.retention_shards import (
    LAST_OPEN_DAYS,
    SLICES,
    remove_dead_letters,
    remove_last_open_days,
    remove_visits_and_traces,
)

log = Log(__name__)

RUN_SECONDS = 2.0
"""Seconds after which a run begins no further campaign, because roll-ups wait for the same worker. Each run
handles at least one campaign, so that a round also ends if Redis is slow."""
ROUND_SECONDS = 600.0
"""Seconds from the beginning of one round to the beginning of the next."""
PAGE_SIZE = 100
"""Number of campaigns read at once."""


class WrongClock(RuntimeError):
    """The clock of this process differs from that of Redis. The message is one line for the operator."""

    is_loggable = True


class SweepResult(NamedTuple):
    """Result of a sweep. next_after: id of the last campaign handled, or None if the round is complete.

    removed, waiting: as in `Removals`.
    """

    next_after: str | None
    removed: Counter[str]
    waiting: Counter[str]


def run() -> None:
    """Runs the job: continues the round."""
    store, settings, _ = context()
    if not is_known_store(store):
        return
    asyncio.run(lifeline.with_heartbeat(_run(settings)))


async def _run(settings: Settings) -> None:
    store = connect_async(settings.redis_url, timeout=5.0)
    try:
        await step(store, settings, await _redis_time(store, "this worker"))
    except WrongClock as error:
        log.warning("retention-waits-for-clock", "no retention: %(error)s", error=error)
    finally:
        await store.aclose()


async def _redis_time(store: AsyncRedis, process: str) -> float:
    """Returns Redis's time, s. Raises WrongClock if the clock of this process differs from it."""
    clock = Clock()
    await clock.measure_async(store)
    if clock.is_far_off:
        raise WrongClock(describe(process, clock.ahead))
    return clock()


async def step(store: AsyncRedis, settings: Settings, now: float) -> None:
    """Continues the round, or begins a new round if it is due. now: Redis's time, s."""
    stored = await store.hmget(keys.SWEEP, ["begun", "after", "slice", "waits", "waiting"])
    begun, after, slice_number = int(stored[0] or 0), stored[1], int(stored[2] or 0)
    # A round whose beginning lies in the future was begun under a wrong clock: it does not count.
    if after is None and begun <= now < begun + ROUND_SECONDS:
        return
    last_waiting, waiting = unpack_waiting(stored[3]), Counter(unpack_waiting(stored[4]))
    if after is None:
        slice_number += 1
        # A round looks at one slice of the last-open days only, so it adds to the number of waiting days that
        # the last round stored. The round of slice 0 counts from 0 again.
        waiting_days = last_waiting.get(LAST_OPEN_DAYS, 0) if slice_number % SLICES else 0
        waiting = +Counter({LAST_OPEN_DAYS: waiting_days})
        await even_if_full(store, "HSET", keys.SWEEP, "begun", int(now), "slice", slice_number, "after", "")
    after_campaign = after.decode() if after else None
    is_late = 0 < begun < now - DAY  # after an outage, or because Redis's clock jumped
    deadline = time.monotonic() + RUN_SECONDS
    result = await sweep(store, settings, now, deadline, after_campaign, slice_number, is_late=is_late)
    waiting += result.waiting
    if result.next_after is None:
        await store.hdel(keys.SWEEP, "after", "waiting")
        await _store_waiting(store, waiting, last_waiting)
    else:
        packed = pack_waiting(waiting)
        await even_if_full(store, "HSET", keys.SWEEP, "after", result.next_after, "waiting", packed)


async def _store_waiting(
    store: AsyncRedis, waiting: Mapping[str, int], last_waiting: Mapping[str, int]
) -> None:
    """Stores the counts of waiting data after a round, for /readyz. Logs them if they have changed."""
    if waiting:
        await even_if_full(store, "HSET", keys.SWEEP, "waits", pack_waiting(waiting))
        if waiting != last_waiting:
            log.error("retention-waits", "%(waiting)s", waiting=waiting_message(waiting))
    else:
        await store.hdel(keys.SWEEP, "waits")


async def run_by_hand(store: AsyncRedis, settings: Settings, allowance: Allowance) -> SweepResult:
    """Sweeps all campaigns and all slices at the command of an operator. Raises WrongClock."""
    now = await _redis_time(store, f"this command on {socket.gethostname()}")
    result = await sweep(store, settings, now, math.inf, allowance=allowance)
    for slice_number in range(1, SLICES):
        removals = await remove_last_open_days(store, settings, now, slice_number, allowance)
        Removals(result.removed, result.waiting).add(removals)
    if allowance == "all":
        await store.hdel(keys.SWEEP, "waits")
        await aof_rewrite.request(store)
    return result


async def sweep(
    store: AsyncRedis,
    settings: Settings,
    now: float,
    deadline: float,
    after: str | None = None,
    slice_number: int = 0,
    allowance: Allowance = "a day",
    is_late: bool = False,
) -> SweepResult:
    """Removes due data of the campaigns whose ids follow `after`, until the deadline.

    If `after` is None, first removes due data that shards hold across campaigns.

    now: Redis's time, s. deadline: seconds of the monotonic clock. slice_number: the slice of last-open days
    to look through. is_late: whether the last round was more than a day ago. If so, visits and traces are
    left to the next round, because Redis's clock may have jumped.
    """
    removals = no_removals()
    if after is None:
        removals.add(await remove_dead_letters(store, settings, now, allowance))
        removals.add(await remove_last_open_days(store, settings, now, slice_number % SLICES, allowance))
        if allowance != "nothing" and not is_late:
            removals.removed["traces"] += await remove_visits_and_traces(store, settings, now)
    next_after: str | None = after or ""
    is_first = True
    while next_after is not None and (is_first or time.monotonic() < deadline):
        campaigns, next_page = await storage.page(store, next_after or None, PAGE_SIZE)
        for campaign in campaigns:
            if not is_first and time.monotonic() >= deadline:
                break
            is_first = False
            next_after = campaign.id
            try:
                removals.add(
                    await retention_campaign.remove_due(store, settings, campaign.id, now, allowance)
                )
            except storage.UnknownCampaign:
                continue  # deleted meanwhile
            except (NewerFormat, UnreadableCampaign, ResponseError) as error:
                log.error(
                    "retention-campaign-left",
                    "campaign %(campaign)s is left as it is by retention: %(error)s",
                    campaign=campaign.id,
                    error=error,
                )
            except NotReplicatedError:
                log.warning(
                    "retention-not-replicated",
                    "campaign %(campaign)s: no replica of Redis has confirmed the removal; the next round of "
                    "retention removes the data again",
                    campaign=campaign.id,
                )
        else:
            next_after = next_page
    removed = +removals.removed
    if removed:
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(removed.items()))
        log.info("retention-removed", "removed by retention: %(removed)s", removed=listed)
        await aof_rewrite.request(store)
    return SweepResult(next_after, removed, +removals.waiting)
