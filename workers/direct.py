"""Runs jobs without the queue: where RQ cannot write, as to a full Redis, or its workers do nothing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from importlib import import_module

import redis

from pixel_server.secret import Secrets, SecretsError
from pixel_server.settings import Settings
from pixel_server.store import connect
from workers import rollup
from workers.beat import beat

log = logging.getLogger("workers.direct")


class Direct:
    """Runs jobs in a thread of this process, one set of jobs at a time, so that the caller need not wait."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread: threading.Thread | None = None
        self._failing = False

    def run(self, shards: Sequence[int], functions: Sequence[str] = ()) -> bool:
        """Starts the roll-up of these shards, then these jobs (dotted names of functions without arguments).

        Returns False, and starts nothing, if the last ones still run.
        """
        if self._thread is not None and self._thread.is_alive():
            return False
        self._thread = threading.Thread(target=self._run, args=(list(shards), functions), daemon=True)
        self._thread.start()
        return True

    def wait(self) -> None:
        """Waits until what was started has ended."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, shards: list[int], functions: Sequence[str]) -> None:
        try:
            self._roll_up(shards)
            for name in functions:
                module, _, function = name.rpartition(".")
                getattr(import_module(module), function)()
            self._failing = False
        except (redis.RedisError, SecretsError, OSError) as error:
            if not self._failing:
                log.error("direct: hits cannot be counted without the job queue either: %s", error)
            self._failing = True

    def _roll_up(self, shards: list[int]) -> None:
        """On a new connection: an old one may have died in silence, which is why this is called at all."""
        settings = self._settings
        secrets = Secrets.load(settings.data, settings.signing, settings.recipient_secret)
        with connect(settings.redis_url) as store:
            deadline = time.monotonic() + rollup.TIME
            for i in range(0, len(shards), rollup.BESIDE):
                rollup.beside(store, settings, secrets, shards[i : i + rollup.BESIDE], deadline)
            beat(store, time.time())
