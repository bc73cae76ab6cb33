"""Enqueues roll-ups of the shards that have new hits, once in a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

import redis
from rq import Queue

from pixel_server import tasks
from pixel_server.logs import Log
from pixel_server.store import jobs

log = Log(__name__)

PAUSE_SECONDS, LONG_PAUSE_SECONDS = 0.25, 1.0
"""Minimum number of seconds between two requests to the queue, and the same with more than MANY_SHARDS
shards. A pass over a shard costs about the same for one hit as for fifty, so more hits are awaited."""
MANY_SHARDS = 64


class RollupTrigger:
    """Collects shards, and enqueues their roll-ups in a task.

    The task uses a thread, as RQ's client blocks. A shard whose roll-up is already in the queue is requested
    again, because the running roll-up may have read the shard's stream before the new hits.

    shard_count: number of all shards.
    """

    def __init__(self, queue: Queue, shard_count: int, clock: Callable[[], float] = time.time) -> None:
        self._queue = queue
        self._shard_count = shard_count
        self._pause_seconds = LONG_PAUSE_SECONDS if shard_count > MANY_SHARDS else PAUSE_SECONDS
        self._clock = clock
        self._shards: set[int] = set()
        self._wake = asyncio.Event()

    def request(self, shards: Iterable[int]) -> None:
        """Requests a roll-up of these shards soon."""
        self._shards.update(shards)
        self._wake.set()

    async def run(self) -> None:
        """Enqueues roll-ups until cancelled.

        If the queue's Redis fails, hits are still counted: the workers' schedule looks for hits each second.
        """
        await tasks.repeat(self._enqueue, self._pause_seconds, _report_failure)

    async def _enqueue(self) -> None:
        await self._wake.wait()
        self._wake.clear()
        shards, self._shards = self._shards, set()
        already_queued = await asyncio.to_thread(
            jobs.request_rollups, self._queue, shards, self._clock(), self._shard_count
        )
        if already_queued:
            self.request(already_queued)


def _report_failure(error: Exception) -> None:
    if isinstance(error, redis.RedisError | OSError):
        log.warning(
            "rollup-not-enqueued",
            "cannot enqueue a roll-up; the workers' schedule will do it: %(error)s",
            error=error,
        )
    else:  # an unexpected reply of the queue's Redis
        log.error(
            "queue-reply-unreadable",
            "cannot read what the job queue answers; the workers' schedule will do the roll-up: %(error)s",
            error=error,
        )
