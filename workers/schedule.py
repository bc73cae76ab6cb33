"""The schedule: looks at all shards each second, and enqueues the roll-ups and chores that are due. With many
shards, it also starts the merge of their values.

If the queue takes no jobs, or its workers count nothing, the schedule runs the jobs in its own process.
Otherwise a full Redis would stay full: it refuses what RQ writes, and only a roll-up frees memory.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import redis
from rq import Queue

from pixel_server.logs import Log
from pixel_server.metrics.numbers import Numbers
from pixel_server.settings import Settings
from pixel_server.store import jobs, keys
from pixel_server.store.aof_rewrite import Rewriter
from pixel_server.store.client import connect, connect_queue, is_away
from pixel_server.store.memory_reserve import explain
from pixel_server.store.protocols import Redis
from workers.merge import MergeThread
from workers.numbers import WORK
from workers.without_queue import JobThreads

log = Log(__name__)

LATE_SECONDS = 1.0
"""Seconds after which a shard is late if it has hits and none of them was counted."""
WITHOUT_QUEUE_SECONDS = 10.0
"""Seconds for which all shards are rolled up without the queue after a shard was late, or after the queue
refused a job. A worker whose connection died needs about this long to come back."""
REDIS_TIMEOUT_SECONDS = 0.5
"""Seconds in which Redis must answer. The process that calls `tick` also supervises the workers."""


class Schedule:
    """Finds the work that is due. The supervisor calls `tick` each second."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store: Redis = connect(settings.redis_url, timeout=REDIS_TIMEOUT_SECONDS)
        queue_url = settings.queue_url or settings.redis_url
        self._queue: Queue = jobs.queue(connect_queue(queue_url, timeout=REDIS_TIMEOUT_SECONDS))
        self._rewriter = Rewriter(settings)
        self.job_threads = JobThreads(settings)
        self.merge_thread = MergeThread(settings)
        self._periods_done: dict[str, int] = {}  # number of the period that each job was last enqueued for
        self._without_queue_until = 0.0
        # For each shard with hits: id of the last counted entry, time since which it has stayed the same.
        self._last_progress: dict[int, tuple[bytes | None, float]] = {}
        self._store_fails = False
        self._queue_fails = False

    def gather(self) -> Numbers:
        """Returns the numbers of this process, for `/metrics`."""
        numbers = WORK.gather("schedule")
        missing = {"store": int(self._store_fails), "queue": int(self._queue_fails)}
        numbers.gauges["pixel_schedule_without"] = {**missing}
        return numbers

    def tick(self) -> None:
        """Enqueues a roll-up of each shard with hits, and the other jobs and the AOF rewrite if they are due.

        Redis's time decides what is due. An error is logged once, and the next tick tries again.
        """
        try:
            lengths, last_counted, needs_courier, now = self._read_backlog()
            waiting = [shard for shard, length in enumerate(lengths) if length]
            is_late = self._is_late(waiting, last_counted)
            self._enqueue(waiting, is_late, now, needs_courier=needs_courier)
            self.merge_thread.start()
            self._rewriter.tick(self._store, last_counted, now)
            if self._store_fails:
                log.warning("schedule-redis-back", "Redis answers the schedule again")
            self._store_fails = False
        except Exception as error:  # the schedule must go on, whatever the store holds
            if not self._store_fails and is_away(error):
                log.error(
                    "schedule-redis-away",
                    "Redis does not answer; hits are not counted until it does: %(error)s",
                    error=error,
                )
            elif not self._store_fails:
                log.error(
                    "schedule-unreadable",
                    "the store holds a value that this version cannot read: %(error)s",
                    error=error,
                )
            self._store_fails = True

    def _read_backlog(self) -> tuple[Sequence[int], Sequence[bytes | None], bool, int]:
        """Returns (waiting entries by shard, id of the last counted entry by shard, whether no worker sends
        although there are webhooks, Redis's time in s).
        """
        pipe = self._store.pipeline(transaction=False)
        for shard in range(self._settings.shards):
            pipe.xlen(keys.hits(shard))
            pipe.hget(keys.checkpoint(shard), "id")
        pipe.exists(keys.WEBHOOKS)
        pipe.exists(keys.COURIER)
        pipe.time()
        *answers, has_webhooks, has_courier, (now, _) = pipe.execute()
        return answers[::2], answers[1::2], bool(has_webhooks and not has_courier), now

    def _enqueue(self, waiting: list[int], is_late: bool, now: int, *, needs_courier: bool) -> None:
        """Enqueues the jobs that are due. Runs them here if the queue refuses them.

        waiting: shards with hits. is_late: whether one of them is late. needs_courier: whether there are
        webhooks and no worker sends.
        """
        due_jobs = [
            name
            for name, seconds in jobs.PERIOD_SECONDS.items()
            if self._periods_done.get(name) != now // seconds
            and (name != jobs.NETWORKS or self._settings.networks_refresh != "off")
            and (name != jobs.WEBHOOKS or needs_courier)
        ]
        try:
            jobs.request_rollups(self._queue, waiting, now, self._settings.shards)
            for name in due_jobs:
                jobs.request(self._queue, name, now)
            if self._queue_fails:
                log.warning("queue-back", "the job queue takes jobs again")
            self._queue_fails = False
            if is_late:
                self._without_queue_until = time.monotonic() + WITHOUT_QUEUE_SECONDS
            if time.monotonic() < self._without_queue_until:
                self.job_threads.roll_up(waiting)
        except (redis.RedisError, OSError) as error:
            if not self._queue_fails:
                why = explain(self._queue.connection, error)
                log.error(
                    "queue-refuses",
                    "the job queue takes no jobs, so they are run here, slower: %(reason)s",
                    reason=why,
                )
            self._queue_fails = True
            self._without_queue_until = time.monotonic() + WITHOUT_QUEUE_SECONDS
            self.job_threads.roll_up(waiting)
            if due_jobs and not self.job_threads.run(due_jobs):
                return
        self._periods_done |= {name: now // jobs.PERIOD_SECONDS[name] for name in due_jobs}

    def _is_late(self, waiting: list[int], last_counted: Sequence[bytes | None]) -> bool:
        """Returns whether a shard has had hits for LATE_SECONDS, and none of them was counted.

        Starts the wait of such a shard again: the shard is late again if nothing is counted for another
        LATE_SECONDS. last_counted: id of the last counted entry of each shard.
        """
        now = time.monotonic()
        is_late, progress = False, {}
        for shard in waiting:
            last, since = self._last_progress.get(shard, (None, now))
            if last != last_counted[shard]:
                since = now
            elif now - since >= LATE_SECONDS:
                is_late, since = True, now
            progress[shard] = last_counted[shard], since
        self._last_progress = progress
        return is_late
