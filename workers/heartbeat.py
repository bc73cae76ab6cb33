"""Heartbeats of a worker in Redis, for /readyz. They stop while the worker makes no progress.

The parent of a worker watches other heartbeats, which do without Redis: see `pixel_server.lifeline`.
"""

from __future__ import annotations

import os
import socket
import threading
import time

import redis

from pixel_server import lifeline
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import hosts, keys
from pixel_server.store.client import connect
from pixel_server.store.clock import Clock, ClockReport
from pixel_server.store.protocols import Redis
from pixel_server.store.script import ScriptCall, even_if_full_call

BEAT_SECONDS = 2.0
"""Seconds between two heartbeats. /readyz counts a worker for 10 s after its last heartbeat."""
STALLED_SECONDS = 6.0
"""Seconds without progress after which a worker sends no heartbeats. Nearly every job is shorter."""
FORGET_SECONDS = 60
"""Seconds after which the last heartbeat of a worker is removed from the store."""


def name() -> str:
    """Returns the name of this process among the workers: `"host-1:4242"`."""
    return f"{socket.gethostname()}:{os.getpid()}"


def beat(store: Redis, now: float) -> None:
    """Writes a heartbeat, also into a full Redis, and removes old heartbeats. now: Redis's time, s.

    Raises redis.RedisError or OSError if Redis does not answer.
    """
    pipe = store.pipeline(transaction=False)
    pipe.eval(*even_if_full_call("ZADD", keys.WORKERS, now, name()))
    pipe.zremrangebyscore(keys.WORKERS, 0, now - FORGET_SECONDS)
    pipe.zremrangebyscore(keys.WORKERS, now + keys.MAX_BEAT_SKEW_SECONDS, "+inf")
    pipe.execute()


class Progress:
    """Sends heartbeats from a thread, as long as `note` was called in the last STALLED_SECONDS."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        self.url = settings.redis_url
        self._settings = hosts.fingerprints(settings, secrets, "worker")
        self._noted_at = time.monotonic()
        self._clock = Clock()
        self._report = ClockReport(self._clock, "worker")

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def note(self) -> None:
        """Notes progress. Call it whenever Redis has answered the worker, and after each job."""
        self._noted_at = time.monotonic()

    @property
    def is_stalled(self) -> bool:
        return time.monotonic() - self._noted_at > STALLED_SECONDS

    def step(self, store: Redis) -> None:
        """Sends a heartbeat unless the worker is stalled. Also reports whether this worker's clock is wrong.

        If Redis does not answer, only tells the parent so: a worker that waits for Redis does not hang.
        """
        try:
            self._clock.measure(store)
            if not self.is_stalled:
                beat(store, self._clock())
                store.eval(*self._host_beat())
            if command := self._report.command():
                store.execute_command(*command)
        except (redis.RedisError, OSError):  # the worker logs the error
            lifeline.beat()

    def _host_beat(self) -> ScriptCall:
        """Returns the call that tells the hosts of this worker's settings."""
        host = hosts.encode_beat(
            at=self._clock(), name=socket.gethostname(), kind="worker", settings=self._settings
        )
        return hosts.beat_call(host=name(), beat=host)

    def _run(self) -> None:
        store = connect(self.url, timeout=BEAT_SECONDS)
        while True:
            self.step(store)
            time.sleep(BEAT_SECONDS)
