"""The drain: moves batches from the spool to Redis as soon as Redis accepts them."""

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
from pixel_server.collect.batch import Batch, Sink, report_gap
from pixel_server.collect.losses import RemovedFile
from pixel_server.collect.spool.format import NewerFormat, Segment
from pixel_server.collect.spool.spool import Spool

log = logging.getLogger("pixel_server.drain")

PAUSE_SECONDS = 0.25
"""Seconds between two looks at the spool."""
ASIDE_SECONDS = 3600.0
"""Seconds between two looks at the files that were set aside."""
AWAY_ERRORS = (OSError, TimeoutError, hiredis.HiredisError)
"""Errors that mean that Redis, or the disk, cannot be used now."""
RUN_BYTES, RUN_BATCHES = 256 << 10, 256
"""Maximum bytes and batches of a run. The batches of a run are sent to the sink in one call."""

T = TypeVar("T")


class Drain:
    """Moves the batches of a spool to a sink, the batches of each producer in order.

    is_redis_away: returns whether new hits go to the spool now.
    on_accepted: called each time that the sink has accepted batches.
    on_lost: called with the number of earlier batches that the sink has lost.
    on_removed: called with the files that somebody removed from the spool.
    spooled_groups: returns the number of groups that the recorder has sent to the spool so far.
    on_drained: called with a number from `spooled_groups`, once all batches of these groups are in the sink.
    on_stored: called with the shards of stored batches.
    on_acknowledged: as in `Recorder`.
    max_aside_days: days until files that were set aside are deleted; None to keep them for ever.
    """

    def __init__(
        self,
        spool: Spool,
        sink: Sink,
        *,
        is_redis_away: Callable[[], bool] = lambda: False,
        on_accepted: Callable[[], None] = lambda: None,
        on_lost: Callable[[int], None] = lambda batches: None,
        on_removed: Callable[[list[RemovedFile]], None] = lambda removed: None,
        spooled_groups: Callable[[], int] = lambda: 0,
        on_drained: Callable[[int], None] = lambda groups: None,
        on_stored: Callable[[Iterable[int]], None] = lambda shards: None,
        on_acknowledged: Callable[[Sequence[Batch], Sequence[int]], None] = lambda batches, seen: None,
        max_aside_days: int | None = None,
    ) -> None:
        self._thread = ThreadPoolExecutor(1, "drain")
        self._last_drained: dict[tuple[str, int], int] = {}
        """Highest drained sequence number, by producer and shard."""
        self._spooled_at_damage = -1
        """Number of groups sent to the spool when damage was last found."""
        self._sink_accepts = False
        self._on_acknowledged = on_acknowledged
        self._spool = spool
        self._max_aside_days = max_aside_days
        self._sink = sink
        self._is_redis_away = is_redis_away
        self._on_accepted = on_accepted
        self._on_lost = on_lost
        self._on_removed = on_removed
        self._spooled_groups = spooled_groups
        self._on_drained = on_drained
        self._on_stored = on_stored

    async def run(self) -> None:
        """Drains until cancelled."""
        tidied_at = -ASIDE_SECONDS

        async def tidy_and_drain() -> None:
            nonlocal tidied_at
            if self._max_aside_days is not None and time.monotonic() - tidied_at >= ASIDE_SECONDS:
                tidied_at = time.monotonic()
                with contextlib.suppress(OSError):
                    await self._in_thread(lambda: self._spool.drop_aside(self._max_aside_days or 0))
            if batches := await self.drain():
                log.warning("drain: %d batches went from the spool to Redis", batches)

        await self._open()
        await tasks.repeat(tidy_and_drain, PAUSE_SECONDS, _report_failure)

    async def _open(self) -> None:
        try:
            await self._in_thread(self._spool.open)
        except OSError as error:
            log.error("drain: the spool cannot be opened, so hits are lost while Redis is away: %s", error)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def drain(self) -> int:
        """Drains the spool until it is empty.

        Returns how many batches the sink accepted. Raises one of AWAY_ERRORS if batches must wait longer.
        """
        count = 0
        while True:
            spooled = self._spooled_groups()
            segments = await self._in_thread(self._next_segments)
            if removed := self._spool.take_removed():
                self._on_removed(removed)
            if not segments:
                self._last_drained.clear()
                # Does not call `on_drained` after damage, so that the recorder takes a new producer id. Redis
                # has not seen the numbers of the damaged batches. Under the old id, the next batch would show
                # this gap, and the gap would be reported as a loss of Redis.
                if spooled != self._spooled_at_damage:
                    self._on_drained(spooled)
                if self._sink_accepts and self._is_redis_away():
                    self._on_accepted()
                return count
            damaged_before = self._spool.counts["damaged"]
            for segment in segments:
                with contextlib.suppress(NewerFormat):  # also raised for all later segments of this writer
                    count += await self._drain_segment(segment)
            if self._spool.counts["damaged"] != damaged_before:
                self._spooled_at_damage = self._spooled_groups()
            if self._is_redis_away():
                await asyncio.sleep(PAUSE_SECONDS)  # so that the next segment holds more than one group

    def _next_segments(self) -> list[Segment]:
        """Returns the segments to drain.

        Seals the growing segment, so that it can be drained too. While Redis is away, it is sealed only if no
        other segment is left.
        """
        segments = self._spool.drainable_segments()
        if not segments or not self._is_redis_away():
            self._spool.seal()
            segments = self._spool.drainable_segments()
        return segments

    async def _drain_segment(self, segment: Segment) -> int:
        """Drains and deletes a segment. Returns how many batches the sink accepted."""
        batches = await self._in_thread(lambda: list(self._spool.read(segment)))
        count = 0
        for run in _runs(batches):
            self._sink_accepts = False
            seen = await self._sink.append(run)
            self._sink_accepts = True
            self._on_accepted()
            acknowledged: list[int] = []
            for batch, last_seen in zip(run, seen, strict=True):
                if last_seen < 0:
                    await self._set_aside(batch)
                    acknowledged.append(last_seen)
                elif last_seen < batch.after:
                    raise ConnectionError(f"shard {batch.shard} did not accept the batch before")
                else:
                    count += 1
                    acknowledged.append(await self._note_gap(segment, batch, last_seen))
            self._on_acknowledged(run, acknowledged)
            self._on_stored({batch.shard for batch in run})
        await self._in_thread(lambda: self._spool.delete(segment))
        return count

    async def _set_aside(self, batch: Batch) -> None:
        reason = "Redis does not know its producer any more"
        await self._in_thread(lambda: self._spool.set_aside(batch, reason))

    async def _note_gap(self, segment: Segment, batch: Batch, seen: int) -> int:
        """Reports batches that Redis has lost, except batches lost to damage of the spool.

        seen: the last sequence number that Redis had seen before this batch. Returns `seen` if Redis has lost
        batches. Otherwise returns this batch's sequence number minus 1, so that batches lost to damage do not
        look like a loss of Redis.
        """
        key = batch.producer, batch.shard
        previous = batch.sequence - 1
        if seen < previous and await self._in_thread(lambda: self._spool.has_damage(segment.writer)):
            previous = min(previous, self._last_drained.get(key, 0))
        self._on_lost(report_gap(batch, seen, previous))
        self._last_drained[key] = max(batch.sequence, self._last_drained.get(key, 0))
        return batch.sequence - 1 if seen >= previous else seen


def _runs(batches: Sequence[Batch]) -> list[list[Batch]]:
    """Cuts batches into runs, within the bounds RUN_BYTES and RUN_BATCHES.

    Sets `after` of each batch to the sequence number of the previous batch in the run that has the same
    producer and shard. Sets it to 0 if the run has no such batch.
    """
    runs: list[list[Batch]] = []
    last: dict[tuple[str, int], int] = {}
    size = 0
    for batch in batches:
        size += len(batch.data)
        if not runs or size > RUN_BYTES or len(runs[-1]) >= RUN_BATCHES:
            runs.append([])
            last.clear()
            size = len(batch.data)
        key = batch.producer, batch.shard
        after = last.get(key, 0)
        runs[-1].append(batch._replace(after=after))
        last[key] = max(after, batch.sequence)
    return runs


def _report_failure(error: Exception) -> None:
    if isinstance(error, AWAY_ERRORS):
        log.warning(
            "drain: hits stay in the spool for now: %s: %s",
            *(type(error).__name__, str(error) or "no answer in time"),
        )
    else:
        log.exception("drain: hits stay in the spool for now; the drain tries again")
