"""Runs jobs without the queue, if RQ cannot write to it (as in a full Redis) or its workers do nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import redis

from pixel_server.logs import Log
from pixel_server.secret import Secrets, SecretsError
from pixel_server.settings import Settings
from pixel_server.store.client import connect
from pixel_server.store.clock import Clock
from workers import rollup
from workers.heartbeat import beat

log = Log(__name__)

REDIS_TIMEOUT_SECONDS = 2.0
"""Seconds in which Redis must answer. Each roll-up opens a new connection: the old connections may have died
silently, and that may be why the queue does not work."""


class JobThreads:
    """Runs jobs in threads of this process: at most one roll-up and one set of chores at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._threads: dict[str, threading.Thread] = {}
        self._is_failing = False

    def roll_up(self, shards: Sequence[int]) -> None:
        """Starts the roll-up of these shards, unless the last roll-up still runs."""
        if shards:
            self._start("roll-up", self._roll_up, shards)

    def run(self, functions: Sequence[str]) -> bool:
        """Starts these jobs, given as dotted names. Returns False if earlier jobs still run."""
        return self._start("chores", self._run, functions)

    def wait(self) -> None:
        """Waits until all threads have ended."""
        for thread in self._threads.values():
            thread.join()

    def _start(self, kind: str, target: Callable[[Sequence[Any]], None], items: Sequence[Any]) -> bool:
        if kind in self._threads and self._threads[kind].is_alive():
            return False
        self._threads[kind] = threading.Thread(target=self._try, args=(target, items), daemon=True)
        self._threads[kind].start()
        return True

    def _try(self, target: Callable[[Sequence[Any]], None], items: Sequence[Any]) -> None:
        try:
            target(items)
            self._is_failing = False
        except Exception as error:  # the schedule tries again, whatever the error
            if not self._is_failing:
                stack = None if isinstance(error, redis.RedisError | SecretsError | OSError) else error
                log.error(
                    "jobs-fail-without-queue",
                    "jobs fail without the job queue too: %(error)s",
                    error=error,
                    exc=stack,
                )
            self._is_failing = True

    def _run(self, functions: Sequence[str]) -> None:
        for name in functions:
            module, _, function = name.rpartition(".")
            getattr(import_module(module), function)()

    def _roll_up(self, shards: Sequence[int]) -> None:
        settings = self._settings
        secrets = Secrets.load(settings.data, settings.signing_secrets, settings.recipient_secret)
        with connect(settings.redis_url, timeout=REDIS_TIMEOUT_SECONDS) as store:
            clock = Clock()
            clock.measure(store)
            deadline = time.monotonic() + rollup.JOB_SECONDS
            rollup.drain_shards(store, settings, secrets, shards, deadline, clock)
            beat(store, clock())
