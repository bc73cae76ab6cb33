"""Runs jobs without the queue: where RQ cannot write, as to a full Redis, or its workers do nothing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import redis

from pixel_server.secret import Secrets, SecretsError
from pixel_server.settings import Settings
from pixel_server.store.client import connect
from pixel_server.store.clock import Clock
from workers import rollup
from workers.heartbeat import beat

log = logging.getLogger("workers.without_queue")


PATIENCE = 2.0
"""Seconds that Redis has for an answer. Each roll-up uses a new connection: the old ones may have died in
silence, which may be why the queue does not work."""


class Direct:
    """Runs jobs in threads of this process, one roll-up and one set of chores at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._threads: dict[str, threading.Thread] = {}
        self._failing = False

    def roll_up(self, shards: Sequence[int]) -> None:
        """Starts the roll-up of these shards, unless the last one still runs."""
        if shards:
            self._start("roll-up", self._roll_up, shards)

    def run(self, functions: Sequence[str]) -> bool:
        """Starts these jobs: dotted names of functions without arguments. Returns False if some still run."""
        return self._start("chores", self._run, functions)

    def wait(self) -> None:
        """Waits until what was started has ended."""
        for thread in self._threads.values():
            thread.join()

    def _start(self, kind: str, target: Callable[[Sequence[Any]], None], what: Sequence[Any]) -> bool:
        if kind in self._threads and self._threads[kind].is_alive():
            return False
        self._threads[kind] = threading.Thread(target=self._try, args=(target, what), daemon=True)
        self._threads[kind].start()
        return True

    def _try(self, target: Callable[[Sequence[Any]], None], what: Sequence[Any]) -> None:
        try:
            target(what)
            self._failing = False
        except Exception as error:  # whatever it is, the schedule tries again
            if not self._failing:
                stack = None if isinstance(error, redis.RedisError | SecretsError | OSError) else error
                log.error("direct: jobs fail without the job queue, too: %s", error, exc_info=stack)
            self._failing = True

    def _run(self, functions: Sequence[str]) -> None:
        for name in functions:
            module, _, function = name.rpartition(".")
            getattr(import_module(module), function)()

    def _roll_up(self, shards: Sequence[int]) -> None:
        settings = self._settings
        secrets = Secrets.load(settings.data, settings.signing, settings.recipient_secret)
        with connect(settings.redis_url, timeout=PATIENCE) as store:
            clock = Clock()
            clock.measure(store)
            deadline = time.monotonic() + rollup.TIME
            for i in range(0, len(shards), rollup.BESIDE):
                rollup.beside(store, settings, secrets, shards[i : i + rollup.BESIDE], deadline, clock)
            beat(store, clock())
