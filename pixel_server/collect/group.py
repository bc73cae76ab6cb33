"""A group of hits that are stored together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pixel_server.collect.batch import Batch

AnswerCallback = Callable[[bool], None]
"""Function that is called once for each hit, with whether the hit is stored."""


class Group:
    """Hits that are stored together, and the callbacks of their requests.

    shards: encoded hits by shard. count: number of hits. size: bytes that they take in memory, as
    `Recorder.pending_bytes` counts them. departed_at: monotonic time (s) of the first departure, 0 before it.
    timer: answers the requests 503; None once it has done so.
    """

    __slots__ = ("batches", "callbacks", "count", "departed_at", "shards", "size", "timer")

    def __init__(self) -> None:
        self.shards: dict[int, list[bytes]] = {}
        self.batches: list[Batch] = []
        self.departed_at = 0.0
        self.callbacks: list[AnswerCallback] = []
        self.count = 0
        self.size = 0
        self.timer: asyncio.TimerHandle | None = None

    def answer(self, stored: bool) -> int:
        """Calls the callbacks that were not called yet. Returns their number."""
        waiting, self.callbacks = self.callbacks, []
        for callback in waiting:
            callback(stored)
        return len(waiting)
