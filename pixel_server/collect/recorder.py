"""The recorder: hits gather into groups, a group is stored at once, then its requests are answered.

While a group is on its way, arriving hits gather into the next. If the group on its way is not answered
within GAP seconds, as from a Redis that is far away, the next leaves all the same; up to MAX_FLYING are on
their way. Redis takes each but the first only if it has taken the group before (`Batch.after`). When a group
fails, no other leaves until all on their way have ended. Then the failed groups are repeated, in order and
one at a time.

A group is repeated, unchanged, until it is stored; nothing is cleared before. A request waits at most
ANSWER_WITHIN seconds, then it is answered 503 (its hit may yet be stored: the promise is in the 2xx). Memory
is bounded by `pending_bytes`, counted as encoded bytes plus OVERHEAD a hit; beyond it a hit is refused.

When Redis fails, the group goes to the spool under the numbers it has, and so do all after it, without
waiting for Redis again (`away`), until the drain finds that Redis takes batches and calls `resume`. That is
heard only if round trips are good (`is_ready`), and later each time that Redis soon failed again. If anything
is in the spool still, a new producer id is used from then on: if a later number of the old one reached Redis
first, what is still in the spool would be taken for a repeat. So a producer with batches in the spool never
writes to Redis directly, except when all of them are known to be there (`drained`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from pixel_server import hit, tasks
from pixel_server.store import producer
from pixel_server.times import DAY

log = logging.getLogger("pixel_server.recorder")

ANSWER_WITHIN = 0.25
OVERHEAD = 400
"""Bytes of Python around one waiting hit, its request included."""
GROUP_BYTES = 640 << 10
"""At which a group takes no more, counted in the same way: of ordinary hits a thousand, of the longest that
strangers send (20 KB) thirty. A group must go to Redis, and out of the spool, within a fixed time."""
RENEW_AFTER = float(DAY)
"""A producer idle for this long (s) goes on under a new id: the old one is pruned after 30 days."""
GAP = 0.02
"""Seconds that a group waits at most for the group before it. Two round trips in turn would take too long
where a round trip takes 150 ms."""
MAX_FLYING = 12
"""Groups on their way at once. So many leave in the time that one may take."""
HOLD, MAX_HOLD = 0.25, 30.0
"""Seconds that hits go to the spool at least once Redis has failed: at first, and when it fails often."""
STEADY = 60.0
"""Seconds without a failure after which HOLD is as at first."""
_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class Batch(NamedTuple):
    """The hits of one shard that one group commit stores as one entry. Once numbered, never changed.

    after: of one try, not of the batch: the number that Redis must have seen before, 0 if none must.
    """

    shard: int
    producer: str
    sequence: int
    data: bytes
    after: int = 0

    @property
    def hits(self) -> int:
        """The number of hits in the batch, by the head of its msgpack array (`hit.encode_batch`)."""
        data = self.data
        return int.from_bytes(data[1:3], "big") if data[:1] == b"\xdc" else data[0] & 0x0F if data else 0


class Sink(Protocol):
    """Where a recorder puts its batches."""

    def append(self, batches: Sequence[Batch]) -> Awaitable[list[int]]:
        """Stores them all, each once; for each, what `producer.APPEND` gives. Calls may overlap.

        Any exception: it is not known what was stored. The same batches are then given again.
        """
        ...


AnswerCallback = Callable[[bool], None]


class _Group:
    """Hits that are stored together, and who waits for them."""

    __slots__ = ("answers", "batches", "count", "place", "shards", "size", "timer")

    def __init__(self) -> None:
        self.shards: dict[int, list[bytes]] = {}
        self.batches: list[Batch] = []
        self.place = 0
        self.answers: list[AnswerCallback] = []
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
        is_ready: Callable[[], bool] = lambda: True,
        on_acknowledged: Callable[[Sequence[Batch], Sequence[int]], None] = lambda batches, seen: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._on_acknowledged = on_acknowledged
        self._sink = sink
        self._spool = spool
        self._shards = shards
        self._pending_bytes = pending_bytes
        self._on_stored = on_stored
        self._is_ready = is_ready
        self._clock = clock
        self._groups: deque[_Group] = deque()
        self._gathering: _Group | None = None
        self._flying: dict[_Group, asyncio.Future[list[int]]] = {}
        self._failed: list[_Group] = []
        self._alone: _Group | None = None
        self._left = 0.0
        self._places = 0
        self._gap: asyncio.TimerHandle | None = None
        self._is_closed = False
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
        self._hold = HOLD
        self._resume_from = self._resumed = 0.0
        self.away = False
        self.pending = 0
        self.failing_since: float | None = None
        self.last_error = ""
        self.counts = {"stored": 0, "spooled": 0, "late": 0, "refused": 0, "gaps": 0, "removed": 0}

    def start(self) -> None:
        """Takes a producer id and begins to store."""
        self._renew()
        (self._task,) = tasks.start([self._run()])

    async def close(self, within: float = 5.0) -> None:
        """Stores what waits, for at most `within` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), within)
        unstored = [*self._flying, *self._failed, *self._groups]
        if self._alone is not None:
            unstored.append(self._alone)
        left = sum(group.count for group in unstored)
        if left:
            log.error("recorder: stopped with %d hits not stored; each was answered 503", left)
        self._is_closed = True
        if self._gap is not None:
            self._gap.cancel()
        if self._task is not None:
            await tasks.end([self._task])
        for flight in self._flying.values():
            flight.cancel()
        for group in unstored:
            group.answer(False)

    def record(self, shard: int | None, data: bytes, answered: AnswerCallback) -> bool:
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
        loop = asyncio.get_running_loop()
        self._gathering = group = _Group()
        group.timer = loop.call_later(ANSWER_WITHIN, self._too_late, group)
        self._groups.append(group)
        self._idle.clear()
        if not self._flying:
            loop.call_soon(self._depart)  # after all hits that arrive now
        elif self._gap is None:
            self._gap = loop.call_later(max(0.0, self._left + GAP - loop.time()), self._gap_over)
        return group

    def _too_late(self, group: _Group) -> None:
        group.timer = None
        self.counts["late"] += group.answer(False)

    def _gap_over(self) -> None:
        self._gap = None
        self._depart()

    def _depart(self) -> None:
        """Sends what waits, as far as it may leave now."""
        while self._groups and not self._is_closed:
            if not self._flies:
                if not self._flying:
                    self._wake.set()
                return
            if self._flying:
                loop = asyncio.get_running_loop()
                wait = self._left + GAP - loop.time()
                if wait > 0 and self._gap is None:
                    self._gap = loop.call_later(wait, self._gap_over)
                if wait > 0 or len(self._flying) >= MAX_FLYING:
                    return
            self._send(self._next())

    @property
    def _flies(self) -> bool:
        """Whether groups may leave for Redis, several at a time."""
        return not (
            self.away or self._failed or self._alone is not None or (self._in_spool and not self._renew_next)
        )

    def _next(self) -> _Group:
        group = self._groups.popleft()
        if group is self._gathering:
            self._gathering = None
        if self._renew_next or self._clock() - self._last > RENEW_AFTER:
            self._renew()
        self._last = self._clock()
        group.batches = self._number(group)
        return group

    def _send(self, group: _Group) -> None:
        if self._flying:
            group.batches = [batch._replace(after=batch.sequence - 1) for batch in group.batches]
        self._left = asyncio.get_running_loop().time()
        self._places += 1
        group.place = self._places
        self._flying[group] = flight = asyncio.ensure_future(self._sink.append(group.batches))
        flight.add_done_callback(functools.partial(self._landed, group))

    def _landed(self, group: _Group, flight: asyncio.Future[list[int]]) -> None:
        if self._is_closed:
            return
        del self._flying[group]
        error = asyncio.CancelledError() if flight.cancelled() else flight.exception()
        if error is None and self._is_taken(group.batches, flight.result()):
            self._depart()  # the next one first: its time is the disk's, not ours
            self._stored(group, in_redis=True)
        else:
            if error is not None:
                self._note_failure(error, group)
            self._failed.append(group)
        if self._failed and not self._flying:
            self._wake.set()

    def _is_taken(self, batches: Sequence[Batch], seen: Sequence[int]) -> bool:
        """Whether all are in Redis. Else some of them were refused."""
        taken = [(batch, was) for batch, was in zip(batches, seen, strict=True) if was >= max(0, batch.after)]
        for batch, was in taken:
            self.lost(report_gap(batch, was))
        if len(taken) < len(batches):
            return False
        self._on_acknowledged(batches, seen)
        return True

    def _stored(self, group: _Group, in_redis: bool) -> None:
        if group.timer is not None:
            group.timer.cancel()
        self.pending -= group.size
        self.counts["stored"] += group.count
        group.answer(True)
        if in_redis:
            self._on_stored(group.shards)
        if not (self._groups or self._flying or self._failed or self._alone):
            self._idle.set()

    async def _run(self) -> None:
        """Stores one group at a time, as long as groups may not fly."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while not self._flying and (self._failed or (self._groups and not self._flies)):
                if self._failed:
                    self._alone = group = min(self._failed, key=lambda failed: failed.place)
                    self._failed.remove(group)
                    group.batches = [batch._replace(after=0) for batch in group.batches]
                else:
                    self._alone = group = self._next()
                in_redis = await self._store(group)
                self._alone = None
                self._stored(group, in_redis)
            self._depart()

    @property
    def stores(self) -> bool:
        """Whether the last hits could be stored somewhere."""
        return not self.away or (self._spool is not None and not self._spool_failing)

    def resume(self) -> None:
        """Redis takes batches again: the next group goes there, unless it is too early to trust in that."""
        if self.away and self._is_ready() and asyncio.get_running_loop().time() >= self._resume_from:
            self._resume()

    def _resume(self) -> None:
        away = self._clock() - (self.failing_since or 0)
        log.warning("recorder: Redis stores again, after %.1f s", away)
        self.away = False
        self.failing_since = None
        self._renew_next = self._in_spool
        self._resumed = asyncio.get_running_loop().time()

    def mark(self) -> int:
        """How often this recorder has turned to the spool."""
        return self._spool_tries

    def drained(self, mark: int) -> None:
        """All that was in the spool at this mark is in Redis."""
        if mark == self._spool_tries:
            self._in_spool = False

    def removed(self, hits: int) -> None:
        """So many answered hits are lost: somebody removed the spool's files while they waited there."""
        self.counts["removed"] += hits

    def lost(self, batches: int) -> None:
        """Redis has lost so many, as whoever gave it others found out."""
        self.counts["gaps"] += batches

    async def _store(self, group: _Group) -> bool:
        """Returns when it is stored: whether in Redis, and not in the spool."""
        batches = group.batches
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
            self._note_failure(error, group)
            return batches
        if min(seen) < 0:
            # Nothing of this id can have been stored lately, so a new number doubles nothing.
            stale = {batch.shard for batch, was in zip(batches, seen, strict=True) if was < 0}
            if self._producer == batches[0].producer:
                log.warning(
                    "recorder: producer %s is no longer known; going on under a new one", self._producer
                )
                self._renew(producer.floor(min(seen)))
            return self._number(group, only=stale)
        for batch, was in zip(batches, seen, strict=True):
            self.lost(report_gap(batch, was))
        self._on_acknowledged(batches, seen)
        if self.failing_since is not None:
            self._resume()
        return []

    async def _to_spool(self, batches: list[Batch], spool: Sink) -> bool:
        try:
            self._in_spool = True  # also if it fails: some may have been written
            self._renew_next = self._renew_next or not self.away
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

    def _note_failure(self, error: BaseException, group: _Group) -> None:
        self.last_error = f"{type(error).__name__}: {str(error) or 'no answer in time'}"
        self.away = True
        if self.failing_since is None:
            self.failing_since = self._clock()
            now = asyncio.get_running_loop().time()
            is_often = self._resumed and now - self._resumed < STEADY
            self._hold = min(2 * self._hold, MAX_HOLD) if is_often else HOLD
            self._resume_from = now + self._hold
            where = "wait" if self._spool is None else "go to the spool"
            log.error("recorder: Redis does not store, %d hits %s: %s", group.count, where, self.last_error)


def report_gap(batch: Batch, seen: int, given: int | None = None) -> int:
    """Returns how many batches of this producer and shard Redis has lost, before this one; logs them.

    given: the last number before this one that was given to Redis, if it is not the one just before.
    """
    lost = max(0, (batch.sequence - 1 if given is None else given) - seen)
    if lost:
        log.error(
            "recorder: shard %d lost %d batches of producer %s: Redis came back without them",
            batch.shard,
            lost,
            batch.producer,
        )
    return lost
