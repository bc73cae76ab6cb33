"""The spool as a sink, and its drain: what waited on disk goes to Redis as soon as Redis takes it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import hiredis

from pixel_server import tasks
from pixel_server.collect.recorder import Batch, Sink, report_gap
from pixel_server.collect.spool.spool import NewerFormat, Segment, Spool

log = logging.getLogger("pixel_server.drain")

PAUSE = 0.25
"""Seconds between two looks at the spool."""
HOUR = 3600.0
"""Seconds between two looks at what was set aside."""
AWAY = (OSError, TimeoutError, hiredis.HiredisError)
RUN_BYTES, RUN_BATCHES = 256 << 10, 256
"""Bytes and batches that are given to the sink at once."""

T = TypeVar("T")


class SpoolSink:
    """See `recorder.Sink`. Writes in one thread of its own, so that the event loop never waits for a disk."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._thread = ThreadPoolExecutor(1, "spool")
        self._thread.submit(int)  # starts the thread now: when it is needed there may be no memory for it

    async def append(self, batches: Sequence[Batch]) -> list[int]:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._spool.append, batches)
        return [batch.sequence - 1 for batch in batches]


class Drain:
    """Gives the batches of a spool to a sink, each producer's in order, until none is left.

    is_away: whether new hits go to the spool now. taken: called whenever the sink has taken some. lost: with
    how many batches are then seen to be missing there.
    removed: with how many hits whose files somebody removed from the spool.
    mark, drained: what `mark` gave is given to `drained` when all that was in the spool then is in the sink.
    acknowledged: as of the recorder. aside_days: how long what was set aside is kept; None: for ever.
    """

    def __init__(
        self,
        spool: Spool,
        sink: Sink,
        *,
        is_away: Callable[[], bool] = lambda: False,
        taken: Callable[[], None] = lambda: None,
        lost: Callable[[int], None] = lambda batches: None,
        removed: Callable[[int], None] = lambda hits: None,
        mark: Callable[[], int] = lambda: 0,
        drained: Callable[[int], None] = lambda mark: None,
        on_stored: Callable[[Iterable[int]], None] = lambda shards: None,
        acknowledged: Callable[[Sequence[Batch], Sequence[int]], None] = lambda batches, seen: None,
        aside_days: int | None = None,
    ) -> None:
        self._thread = ThreadPoolExecutor(1, "drain")
        self._given: dict[tuple[str, int], int] = {}
        self._damaged_at = -1
        self._sink_takes = False
        self._acknowledged = acknowledged
        self._spool = spool
        self._aside_days = aside_days
        self._sink = sink
        self._is_away = is_away
        self._taken = taken
        self._lost = lost
        self._removed = removed
        self._mark = mark
        self._drained = drained
        self._on_stored = on_stored

    async def run(self) -> None:
        """Until cancelled."""
        tidied = -HOUR

        async def tidy_and_drain() -> None:
            nonlocal tidied
            if self._aside_days is not None and time.monotonic() - tidied >= HOUR:
                tidied = time.monotonic()
                with contextlib.suppress(OSError):
                    await self._in_thread(lambda: self._spool.drop_aside(self._aside_days or 0))
            if batches := await self.once():
                log.warning("drain: %d batches went from the spool to Redis", batches)

        await self._open()
        await tasks.repeat(tidy_and_drain, PAUSE, _report_failure)

    async def _open(self) -> None:
        try:
            await self._in_thread(self._spool.open)
        except OSError as error:
            log.error("drain: the spool cannot be opened, so hits are lost while Redis is away: %s", error)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def once(self) -> int:
        """Drains what there is; returns how many batches the sink has. Raises one of AWAY: the rest waits."""
        count = 0
        while True:
            mark = self._mark()
            segments = await self._in_thread(self._waiting)
            if removed := self._spool.take_removed():
                self._removed(removed)
            if not segments:
                self._given.clear()
                if mark != self._damaged_at:  # else the producer would find a gap that is not Redis's
                    self._drained(mark)
                if self._sink_takes and self._is_away():
                    self._taken()
                return count
            damaged = self._spool.counts["damaged"]
            for segment in segments:
                # Of a writer whose segment is of a later format, no more is given to drain.
                with contextlib.suppress(NewerFormat):
                    count += await self._segment(segment)
            if self._spool.counts["damaged"] != damaged:
                self._damaged_at = self._mark()
            if self._is_away():
                await asyncio.sleep(PAUSE)  # meanwhile hits come: a segment of them is better than one each

    def _waiting(self) -> list[Segment]:
        """What can be drained. The segment being written is sealed only if nothing else is there to try."""
        found = self._spool.segments()
        if not found or not self._is_away():
            self._spool.seal()
            found = self._spool.segments()
        return found

    async def _segment(self, segment: Segment) -> int:
        batches = await self._in_thread(lambda: list(self._spool.read(segment)))
        count = 0
        for run in _runs(batches):
            self._sink_takes = False
            seen = await self._sink.append(run)
            self._sink_takes = True
            self._taken()
            taken: list[int] = []
            for batch, was in zip(run, seen, strict=True):
                if was < 0:
                    await self._set_aside(batch)
                    taken.append(was)
                elif was < batch.after:
                    raise ConnectionError(f"shard {batch.shard} did not take what came before")
                else:
                    count += 1
                    taken.append(await self._note_gap(segment, batch, was))
            self._acknowledged(run, taken)
            self._on_stored({batch.shard for batch in run})
        await self._in_thread(lambda: self._spool.delete(segment))
        return count

    async def _set_aside(self, batch: Batch) -> None:
        reason = "its producer is older than what Redis remembers"
        await self._in_thread(lambda: self._spool.set_aside(batch, reason))

    async def _note_gap(self, segment: Segment, batch: Batch, seen: int) -> int:
        """Reports what Redis has lost; not what is missing because the spool itself was damaged.

        Returns the number last seen, as if batches that the damage took had never been numbered.
        """
        name = batch.producer, batch.shard
        before = batch.sequence - 1
        if seen < before and await self._in_thread(lambda: self._spool.has_damage(segment.writer)):
            before = min(before, self._given.get(name, 0))
        self._lost(report_gap(batch, seen, before))
        self._given[name] = max(batch.sequence, self._given.get(name, 0))
        return batch.sequence - 1 if seen >= before else seen


def _runs(batches: Sequence[Batch]) -> list[list[Batch]]:
    """Batches that are sent at once. Each names the one of its producer and shard before it in the run."""
    runs: list[list[Batch]] = []
    last: dict[tuple[str, int], int] = {}
    size = 0
    for batch in batches:
        size += len(batch.data)
        if not runs or size > RUN_BYTES or len(runs[-1]) >= RUN_BATCHES:
            runs.append([])
            last.clear()
            size = len(batch.data)
        name = batch.producer, batch.shard
        after = last.get(name, 0)
        runs[-1].append(batch._replace(after=after))
        last[name] = max(after, batch.sequence)
    return runs


def _report_failure(error: Exception) -> None:
    if isinstance(error, AWAY):
        log.warning("drain: the spool waits: %s: %s", type(error).__name__, str(error) or "no answer in time")
    else:  # whatever the store or the disk holds, this process goes on
        log.exception("drain: the spool waits, and is tried again")
