"""Signs of life of a worker, for /readyz: they end where the worker makes no progress."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time

import redis

from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.client import Redis, also_full, connect
from pixel_server.store.clock import Clock, Report

EVERY = 2.0
"""Seconds between two signs of life of a worker; one silent for five of them is not seen."""
STALLED = 6.0
"""Seconds without progress after which a worker gives no more signs of life. A job takes less, or nearly all
of this time: then it does not count meanwhile."""


def name() -> str:
    """Returns what this process is called among the workers."""
    return f"{socket.gethostname()}:{os.getpid()}"


def beat(store: Redis, now: float) -> None:
    """Gives one sign of life, also to a full Redis. now: Redis's time, s.

    Raises redis.RedisError or OSError if Redis does not answer.
    """
    also_full(store, "ZADD", keys.WORKERS, now, name())
    store.zremrangebyscore(keys.WORKERS, 0, now - 60)
    store.zremrangebyscore(keys.WORKERS, now + keys.SKEW, "+inf")


class Progress:
    """Gives signs of life in a thread, as long as `note` was called in the last STALLED seconds."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.redis_url
        self._noted = time.monotonic()
        self._clock = Clock()
        self._report = Report(self._clock, "worker")

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def note(self) -> None:
        """Call it whenever Redis has answered the worker, or a job is done."""
        self._noted = time.monotonic()

    @property
    def stalled(self) -> bool:
        return time.monotonic() - self._noted > STALLED

    def step(self, store: Redis) -> None:
        """Gives one sign of life, unless the worker makes no progress or Redis does not answer.

        Goes by Redis's time, and tells Redis if the clock of this worker is wrong.
        """
        with contextlib.suppress(redis.RedisError, OSError):  # the worker itself says so
            self._clock.measure(store)
            if not self.stalled:
                beat(store, self._clock())
            if command := self._report.command():
                store.execute_command(*command)

    def _run(self) -> None:
        store = connect(self._url, timeout=EVERY)
        while True:
            self.step(store)
            time.sleep(EVERY)
