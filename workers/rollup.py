"""The roll-up job: drains shards until they are empty or the job's time is up."""

from __future__ import annotations

import functools
import gc
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from pixel_server import lifeline
from pixel_server.classify.judge import load_judge
from pixel_server.counters import web_names
from pixel_server.logs import Log
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import checkpoint, jobs, keys, producer
from pixel_server.store.checkpoint import read_checkpoint
from pixel_server.store.client import StoreRefusedError
from pixel_server.store.clock import Clock
from pixel_server.store.protocols import Redis
from workers import courier
from workers.context import context, known_mark
from workers.numbers import WORK
from workers.rollup_pass import Outcome, Rollup

log = Log(__name__)

JOB_SECONDS = 2.0
"""Largest number of seconds for which a job drains, because other shards wait for the same worker."""
ALIVE_SECONDS = 10.0
"""Seconds after its last heartbeat for which a worker counts as alive."""
MAX_THREADS = 4
"""Largest number of shards that one job drains at once, each in a thread."""
THREAD_SWITCH_SECONDS = 0.0003
"""Seconds until Python switches threads. Short, so that a thread goes on soon after its reply from Redis."""
LONG_PASS_SECONDS = 0.25
"""Least duration of a long pass, in seconds. After a long pass the job makes another pass: meanwhile hits
have arrived, and if Redis is far away, RQ takes seconds to begin the next job."""
LEAD_AFTER_FAILURES = 2
"""Failed commits in a row after which the roll-up makes other writers of the shard wait."""
MAX_FAILURES = 8
"""Failed commits in a row after which the job gives up. A retry reads at most a
quarter of the entries of the last try."""


def drain(shard: int) -> int:
    """Runs the job: drains a shard, or with many shards several. Returns the number of hits counted.

    Hits that arrive meanwhile are left to the next job, so that a shard with a steady flow does not keep the
    worker. Only after a long pass (LONG_PASS_SECONDS) does the job count these hits too. If each shard has a
    roll-up of its own, and there are fewer workers than shards, the job also drains other shards: while one
    thread waits for Redis, another computes. If two workers drain a shard at the same time, one of them
    cannot commit, and leaves the shard.
    """
    store, settings, secrets = context()
    clock = Clock()
    try:
        workers = _count_workers(store, clock)
    except StoreRefusedError:
        return 0
    if settings.shards > jobs.FEW_SHARDS:
        shards = _waiting_first(store, jobs.shards_of_rollup(shard, settings.shards))
    else:
        shards = shards_of_job(shard, settings.shards, workers)
    return drain_shards(store, settings, secrets, shards, time.monotonic() + JOB_SECONDS, clock)


def _count_workers(store: Redis, clock: Clock) -> int:
    """Returns the number of live workers, at least 1, and sets the clock to Redis's time.

    Makes one round trip. Raises StoreRefusedError if this worker must not use the store.
    """
    pipe, sent = store.pipeline(transaction=False), time.monotonic()
    pipe.time()
    pipe.zrangebyscore(keys.WORKERS, "-inf", "+inf", withscores=True)
    known_mark().queue_read(pipe)
    redis_time, beats, stored_mark = pipe.execute()
    known_mark().compare(stored_mark)
    clock.note_reply(redis_time, sent)
    now = clock()
    oldest, newest = now - ALIVE_SECONDS, now + keys.MAX_BEAT_SKEW_SECONDS
    return max(1, len([beat for _, beat in beats if oldest <= beat <= newest]))


def shards_of_job(shard: int, shards: int, workers: int) -> list[int]:
    """Returns the shards that one job drains. `shards_of_job(1, 4, 2)` is `[1, 3]`.

    If `workers` jobs run at once, for shards with consecutive numbers, no two of them drain the same shard.
    """
    return [(shard + i) % shards for i in range(0, max(1, shards - workers + 1), workers)][:MAX_THREADS]


def _waiting_first(store: Redis, shards: Sequence[int]) -> list[int]:
    """Returns those of these shards that have hits, the shard whose hits have waited longest first.

    So no shard is left out again and again when the job's time is too short for all of them.
    """
    pipe = store.pipeline(transaction=False)
    for shard in shards:
        producer.queue_oldest_entry(pipe, shard)
    oldest = {shard: entry for shard, entry in zip(shards, pipe.execute(), strict=True) if entry}
    return sorted(oldest, key=lambda shard: tuple(map(int, oldest[shard].split(b"-"))))


def drain_shards(
    store: Redis,
    settings: Settings,
    secrets: Secrets,
    shards: Sequence[int],
    deadline: float,
    clock: Callable[[], float],
    *,
    sends_events: bool = True,
) -> int:
    """Drains shards in threads until they are empty or the deadline has passed. Returns the number of hits.

    deadline: seconds of the monotonic clock. clock: returns Redis's time, s. sends_events: whether to wake
    the courier if there are events of webhooks.
    """
    if not shards:
        return 0
    load_judge(settings).refresh(store)  # here: msgspec crashes if two threads prepare the same type at once
    sys.setswitchinterval(THREAD_SWITCH_SECONDS)
    gc.disable()  # a pass makes no cycles, and the search for them takes a tenth of its time
    try:
        with ThreadPoolExecutor(min(len(shards), MAX_THREADS)) as threads:
            rollups = [Rollup(store, settings, secrets, shard) for shard in shards]
            if sends_events:
                for one in rollups:
                    one.wake = functools.partial(courier.wake, settings, secrets)
            return sum(threads.map(functools.partial(_drain, deadline=deadline, clock=clock), rollups))
    finally:
        gc.enable()
        web_names.forget()


def _drain(rollup: Rollup, deadline: float, clock: Callable[[], float]) -> int:
    """Makes passes over one shard until it is empty or the deadline has passed. Returns the hits counted."""
    started = time.monotonic()
    failures, max_entries = 0, rollup.max_entries
    # A pass whose commit failed is retried beyond the deadline: otherwise a long pass would never succeed.
    while time.monotonic() < deadline or failures:
        lifeline.beat()
        pass_started, counted, burst_hits = time.monotonic(), rollup.counted, rollup.burst_hits
        outcome = rollup.try_pass(clock())
        seconds = time.monotonic() - pass_started
        WORK.note_pass(outcome.value, seconds, rollup.counted - counted, rollup.burst_hits - burst_hits)
        if outcome is Outcome.NOT_COMMITTED:
            if failures == MAX_FAILURES or _is_counted_elsewhere(rollup):
                break
            failures += 1
            rollup.max_entries = max(1, rollup.max_entries // 4)
            if failures >= LEAD_AFTER_FAILURES:
                checkpoint.take_lead(rollup.store, rollup.shard)
            continue
        if failures >= LEAD_AFTER_FAILURES:
            checkpoint.end_lead(rollup.store, rollup.shard)
        failures, rollup.max_entries = 0, max_entries
        took_long = seconds >= LONG_PASS_SECONDS
        if outcome is not Outcome.COUNTED or not (rollup.is_behind or took_long):
            break
    if rollup.counted:
        seconds = time.monotonic() - started
        log.debug(
            "rollup-done",
            "shard %(shard)d: %(hits)d hits in %(seconds).2f s",
            shard=rollup.shard,
            hits=rollup.counted,
            seconds=seconds,
        )
    return rollup.counted


def _is_counted_elsewhere(rollup: Rollup) -> bool:
    """Returns whether another roll-up has counted entries since this pass began."""
    return read_checkpoint(rollup.store, rollup.shard).last_entry != rollup.began_after
