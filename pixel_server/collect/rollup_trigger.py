"""The bell: asks for a roll-up of the shards that have new hits, seldom enough to cost nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

import redis
from rq import Queue

from pixel_server import tasks
from pixel_server.store import jobs

log = logging.getLogger("pixel_server.rollup_trigger")

PAUSE = 0.25
"""Seconds between two rings at least. A shard whose roll-up is already listed is rung for again."""


class RollupTrigger:
    """`request` only notes; a task asks, in a thread, since RQ's client waits for each answer."""

    def __init__(self, queue: Queue, clock: Callable[[], float] = time.time) -> None:
        self._queue = queue
        self._clock = clock
        self._shards: set[int] = set()
        self._wake = asyncio.Event()

    def request(self, shards: Iterable[int]) -> None:
        self._shards.update(shards)
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. A queue that is away is no harm: the workers' schedule looks every second."""
        await tasks.repeat(self._ask, PAUSE, _report_failure)

    async def _ask(self) -> None:
        await self._wake.wait()
        self._wake.clear()
        shards, self._shards = self._shards, set()
        listed = await asyncio.to_thread(jobs.ask_rollups, self._queue, shards, self._clock())
        if listed:
            self.request(listed)


def _report_failure(error: Exception) -> None:
    if isinstance(error, redis.RedisError | OSError):
        log.warning("rollup trigger: cannot ask for a roll-up, the schedule will: %s", error)
    else:  # an odd reply of the queue's Redis
        log.error("rollup trigger: cannot ask for a roll-up, the schedule will: %r", error)
