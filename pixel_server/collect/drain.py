"""The spool as a sink, and its drain: what waited on disk goes to Redis as soon as Redis takes it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import hiredis

from pixel_server.collect.recorder import Batch, Sink, report_gap
from pixel_server.collect.spool import Newer, Segment, Spool

log = logging.getLogger("pixel_server.drain")

PAUSE = 0.25
"""Seconds between two looks at the spool."""
HOUR = 3600.0
"""Seconds between two looks at what was set aside."""
AWAY = (OSError, TimeoutError, hiredis.HiredisError)


class SpoolSink:
    """See `recorder.Sink`. Writes in one thread of its own, so that the event loop never waits for a disk."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._thread = ThreadPoolExecutor(1, "spool")

    async def append(self, batches: Sequence[Batch]) -> list[int]:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._spool.append, batches)
        return [batch.sequence - 1 for batch in batches]


class Drain:
    """Gives the batches of a spool to a sink, each producer's in order, until none is left.

    is_away: whether new hits go to the spool now. taken: called whenever the sink has taken some. lost: with
    how many batches are then seen to be missing there.
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
        mark: Callable[[], int] = lambda: 0,
        drained: Callable[[int], None] = lambda mark: None,
        on_stored: Callable[[Iterable[int]], None] = lambda shards: None,
        acknowledged: Callable[[Sequence[Batch], Sequence[int]], None] = lambda batches, seen: None,
        aside_days: int | None = None,
    ) -> None:
        self._acknowledged = acknowledged
        self._spool = spool
        self._aside_days = aside_days
        self._sink = sink
        self._is_away = is_away
        self._taken = taken
        self._lost = lost
        self._mark = mark
        self._drained = drained
        self._on_stored = on_stored

    async def run(self) -> None:
        """Until cancelled."""
        failing, tidied = False, -HOUR
        while True:
            if self._aside_days is not None and time.monotonic() - tidied >= HOUR:
                tidied = time.monotonic()
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(self._spool.drop_aside, self._aside_days)
            try:
                batches = await self.once()
                failing = False
                if batches:
                    log.warning("drain: %d batches went from the spool to Redis", batches)
            except AWAY as error:
                if not failing:
                    log.warning(
                        "drain: the spool waits: %s: %s",
                        type(error).__name__,
                        str(error) or "no answer in time",
                    )
                failing = True
            except Exception:  # whatever the store or the disk holds, this process goes on
                if not failing:
                    log.exception("drain: the spool waits, and is tried again")
                failing = True
            await asyncio.sleep(PAUSE)

    async def once(self) -> int:
        """Drains what there is; how many batches. Raises one of AWAY: the rest waits."""
        count = 0
        while True:
            mark = self._mark()
            segments = await asyncio.to_thread(self._waiting)
            if not segments:
                self._drained(mark)
                return count
            for segment in segments:
                # Of a writer whose segment is of a later format, no more is given to drain.
                with contextlib.suppress(Newer):
                    count += await self._segment(segment)

    def _waiting(self) -> list[Segment]:
        """What can be drained. The segment being written is sealed only if nothing else is there to try."""
        found = self._spool.segments()
        if not found or not self._is_away():
            self._spool.seal()
            found = self._spool.segments()
        return found

    async def _segment(self, segment: Segment) -> int:
        batches = await asyncio.to_thread(lambda: list(self._spool.read(segment)))
        for run in _runs(batches):
            seen = await self._sink.append(run)
            self._taken()
            for batch, was in zip(run, seen, strict=True):
                if was < 0:
                    await asyncio.to_thread(
                        self._spool.set_aside, batch, "its producer is older than what Redis remembers"
                    )
                else:
                    self._lost(report_gap(batch, was))
            self._acknowledged(run, seen)
            self._on_stored({batch.shard for batch in run})
        await asyncio.to_thread(self._spool.delete, segment)
        return len(batches)


def _runs(batches: Sequence[Batch]) -> list[list[Batch]]:
    """Batches that may be sent at once: none of a producer and shard that is sent already.

    If one of a run is refused, those after it may yet be taken; so no two of them may depend on order.
    """
    runs: list[list[Batch]] = []
    taken: set[tuple[str, int]] = set()
    for batch in batches:
        if not runs or (batch.producer, batch.shard) in taken:
            runs.append([])
            taken.clear()
        taken.add((batch.producer, batch.shard))
        runs[-1].append(batch)
    return runs
