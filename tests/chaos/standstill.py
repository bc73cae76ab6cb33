"""Measures the longest time that counting stood still although hits waited."""

from __future__ import annotations

import threading
import time

import redis

from pixel_server.store import keys
from pixel_server.store.client import connect
from tests.chaos.ledger import SHARDS


class StandstillWatch:
    """Samples the shards ten times a second, from `start` to `stop`.

    A shard stands still while its stream is not empty and the id of its last counted entry does not change.
    Time does not count while `paused` is set. Set it while the scenario keeps Redis or all workers dead.
    """

    def __init__(self, redis_url: str) -> None:
        self.longest = 0.0
        self.paused = False
        self._url = redis_url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> float:
        """Returns the longest standstill in seconds."""
        self._over.set()
        self._thread.join()
        return self.longest

    def _watch(self) -> None:
        since: dict[int, tuple[bytes | None, float]] = {}
        with connect(self._url, timeout=2.0) as client:
            while not self._over.wait(0.1):
                now = time.monotonic()
                try:
                    pipe = client.pipeline(transaction=False)
                    for shard in range(SHARDS):
                        pipe.hget(keys.checkpoint(shard), "id")
                        pipe.xlen(keys.hits(shard))
                    answers = pipe.execute()
                except (redis.RedisError, OSError):
                    if self.paused:
                        since.clear()
                    continue
                for shard, (last, waiting) in enumerate(zip(answers[::2], answers[1::2], strict=True)):
                    if self.paused or not waiting or since.get(shard, (b"", 0.0))[0] != last:
                        since[shard] = (last, now)
                    self.longest = max(self.longest, now - since[shard][1])
