"""The recorder: hits gather into groups, a group is stored at once, then its requests are answered.

While one group is on its way, arriving hits gather into the next. A group is repeated, unchanged, until
it is stored; nothing is cleared before. A request waits at most ANSWER_WITHIN seconds, then it is
answered 503 (its hit may yet be stored: the promise is in the 2xx). Memory is bounded by `pending_bytes`,
counted as encoded bytes plus OVERHEAD a hit; beyond it a hit is refused.

When Redis fails, the group goes to the spool under the numbers it has, and so do all after it, without
waiting for Redis again (`away`), until the drain finds that Redis takes batches and calls `resume`. From then
on a new producer id is used: if a later number of the old one reached Redis first, what is still in the spool
would be taken for a repeat. So a producer with batches in the spool never writes to Redis directly, except
when all of them are known to be there (`drained`), for a group that the spool, too, would not take.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from pixel_server import hit, producer, tasks

log = logging.getLogger("pixel_server.recorder")

ANSWER_WITHIN = 0.25
OVERHEAD = 400
"""Bytes of Python around one waiting hit, its request included."""
GROUP_BYTES = 640 << 10
"""At which a group takes no more, counted in the same way: of ordinary hits a thousand, of the longest that
strangers send (20 KB) thirty. A group must go to Redis, and out of the spool, within a fixed time."""
RENEW_AFTER = 86_400.0
"""A producer idle for this long (s) goes on under a new id: the old one is pruned after 30 days."""
_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class Batch(NamedTuple):
    """The hits of one shard that one group commit stores as one entry. Once numbered, never changed."""

    shard: int
    producer: str
    sequence: int
    data: bytes


class Sink(Protocol):
    """Where a recorder puts its batches."""

    async def append(self, batches: Sequence[Batch]) -> list[int]:
        """Stores them all, each once; for each, what `producer.APPEND` gives.

        Any exception: it is not known what was stored. The same batches are then given again.
        """
        ...


Answered = Callable[[bool], None]


class _Group:
    """Hits that are stored together, and who waits for them."""

    __slots__ = ("answers", "count", "shards", "size", "timer")

    def __init__(self) -> None:
        self.shards: dict[int, list[bytes]] = {}
        self.answers: list[Answered] = []
        self.count = 0
        self.size = 0
        self.timer: asyncio.TimerHandle | None = None

    def answer(self, stored: bool) -> int:
        waiting, self.answers = self.answers, []
        for answered in waiting:
            answered(stored)
        return len(waiting)


class Recorder:
    """Stores hits through a sink. `start` after a fork, never before; one event loop.

    acknowledged: called with batches that Redis has, and what it had of their producers before.
    """

    def __init__(
        self,
        sink: Sink,
        shards: int,
        pending_bytes: int,
        *,
        spool: Sink | None = None,
        on_stored: Callable[[Iterable[int]], None] = lambda shards: None,
        acknowledged: Callable[[Sequence[Batch], Sequence[int]], None] = lambda batches, seen: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._acknowledged = acknowledged
        self._sink = sink
        self._spool = spool
        self._shards = shards
        self._pending_bytes = pending_bytes
        self._on_stored = on_stored
        self._clock = clock
        self._groups: deque[_Group] = deque()
        self._gathering: _Group | None = None
        self._flying: _Group | None = None
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._turn = 0
        self._last = 0.0
        self._producer = ""
        self._sequence: dict[int, int] = {}
        self._in_spool = False
        self._spool_tries = 0
        self._spool_failing = False
        self._renew_next = False
        self.away = False
        self.pending = 0
        self.failing_since: float | None = None
        self.last_error = ""
        self.counts = {"stored": 0, "spooled": 0, "late": 0, "refused": 0, "gaps": 0}

    def start(self) -> None:
        """Takes a producer id and begins to store."""
        self._renew()
        (self._task,) = tasks.start([self._run()])

    async def close(self, within: float = 5.0) -> None:
        """Stores what waits, for at most `within` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), within)
        unstored = [self._flying, *self._groups] if self._flying else list(self._groups)
        left = sum(group.count for group in unstored)
        if left:
            log.error("recorder: stopped with %d hits not stored; each was answered 503", left)
        if self._task is not None:
            await tasks.end([self._task])
        for group in unstored:
            group.answer(False)

    def record(self, shard: int | None, data: bytes, answered: Answered) -> bool:
        """Takes a hit to be stored; `answered(stored)` is called once. False: refused, there is no room."""
        size = len(data) + OVERHEAD
        if self.pending + size > self._pending_bytes:
            self.counts["refused"] += 1
            return False
        if shard is None:
            self._turn = shard = (self._turn + 1) % self._shards
        group = self._gathering
        if group is None or group.timer is None or group.size >= GROUP_BYTES:
            group = self._gather()
        hits = group.shards.get(shard)
        if hits is None:
            group.shards[shard] = [data]
        else:
            hits.append(data)
        group.answers.append(answered)
        group.count += 1
        group.size += size
        self.pending += size
        return True

    def _gather(self) -> _Group:
        self._gathering = group = _Group()
        group.timer = asyncio.get_running_loop().call_later(ANSWER_WITHIN, self._too_late, group)
        self._groups.append(group)
        self._idle.clear()
        self._wake.set()
        return group

    def _too_late(self, group: _Group) -> None:
        group.timer = None
        self.counts["late"] += group.answer(False)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._groups:
                self._flying = group = self._groups.popleft()
                if group is self._gathering:
                    self._gathering = None
                in_redis = await self._store(group)
                self._flying = None
                if group.timer is not None:
                    group.timer.cancel()
                self.pending -= group.size
                self.counts["stored"] += group.count
                # After the next group is on its way: its time is the disk's, not ours.
                loop.call_soon(group.answer, True)
                if in_redis:
                    self._on_stored(group.shards)
            self._idle.set()

    @property
    def stores(self) -> bool:
        """Whether the last hits could be stored somewhere."""
        return not self.away or (self._spool is not None and not self._spool_failing)

    def resume(self) -> None:
        """Redis takes batches again: the next group goes there, under a new producer id."""
        if not self.away:
            return
        away = self._clock() - (self.failing_since or 0)
        log.warning("recorder: Redis stores again, after %.1f s", away)
        self.away = False
        self.failing_since = None
        self._renew_next = True

    def mark(self) -> int:
        """How often this recorder has turned to the spool."""
        return self._spool_tries

    def drained(self, mark: int) -> None:
        """All that was in the spool at this mark is in Redis."""
        if mark == self._spool_tries:
            self._in_spool = False

    def lost(self, batches: int) -> None:
        """Redis has lost so many, as whoever gave it others found out."""
        self.counts["gaps"] += batches

    async def _store(self, group: _Group) -> bool:
        """Returns when it is stored: whether in Redis, and not in the spool."""
        if self._renew_next or self._clock() - self._last > RENEW_AFTER:
            self._renew()
        self._last = self._clock()
        batches = self._number(group)
        tries = 0
        while True:
            if not self._in_spool and (not self.away or self._spool is None or tries):
                left = await self._to_redis(batches, group)
                if not left:
                    return True
                if left is not batches:  # some went under a producer id that is too old
                    batches = left
                    continue
            if self._spool is not None and await self._to_spool(batches, self._spool):
                self.counts["spooled"] += group.count
                return False
            await asyncio.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
            tries += 1

    async def _to_redis(self, batches: list[Batch], group: _Group) -> list[Batch]:
        """What is left to be stored: nothing, the same batches, or some under new numbers."""
        try:
            seen = await self._sink.append(batches)
        except Exception as error:
            self._failed(error, group)
            return batches
        if min(seen) < 0:
            # Nothing of this id can have been stored lately, so a new number doubles nothing.
            log.warning("recorder: producer %s is no longer known; going on under a new one", self._producer)
            stale = {batch.shard for batch, was in zip(batches, seen, strict=True) if was < 0}
            self._renew(producer.floor(min(seen)))
            return self._number(group, only=stale)
        for batch, was in zip(batches, seen, strict=True):
            self.lost(report_gap(batch, was))
        self._acknowledged(batches, seen)
        if self.failing_since is not None:
            self.resume()
            self._renew_next = False  # nothing of this producer is in the spool
        return []

    async def _to_spool(self, batches: list[Batch], spool: Sink) -> bool:
        try:
            self._in_spool = True  # also if it fails: some may have been written
            self._spool_tries += 1
            await spool.append(batches)
        except Exception as error:
            self.last_error = f"spool: {error}"
            if not self._spool_failing:
                log.error("recorder: the spool does not store either, hits are answered 503: %s", error)
            self._spool_failing = True
            return False
        self._spool_failing = False
        return True

    def _number(self, group: _Group, only: Iterable[int] | None = None) -> list[Batch]:
        batches = []
        for shard, hits in group.shards.items():
            if only is None or shard in only:
                sequence = self._sequence[shard] = self._sequence.get(shard, 0) + 1
                batches.append(Batch(shard, self._producer, sequence, hit.encode_batch(hits)))
        return batches

    def _renew(self, floor: int = 0) -> None:
        self._producer = producer.new_id(self._clock(), floor)
        self._sequence = {}
        self._last = self._clock()
        self._in_spool = self._renew_next = False

    def _failed(self, error: Exception, group: _Group) -> None:
        self.last_error = f"{type(error).__name__}: {str(error) or 'no answer in time'}"
        self.away = True
        if self.failing_since is None:
            self.failing_since = self._clock()
            where = "wait" if self._spool is None else "go to the spool"
            log.error("recorder: Redis does not store, %d hits %s: %s", group.count, where, self.last_error)


def report_gap(batch: Batch, seen: int) -> int:
    """How many batches of this producer and shard Redis has lost, before this one; logged."""
    lost = max(0, batch.sequence - 1 - seen)
    if lost:
        log.error(
            "recorder: shard %d lost %d batches of producer %s: Redis came back without them",
            batch.shard,
            lost,
            batch.producer,
        )
    return lost
