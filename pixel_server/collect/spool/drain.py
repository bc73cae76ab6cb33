"""The drain: moves batches from the spool to Redis as soon as Redis accepts them.

If the store has several nodes and some are away, the drain passes over the batches of their shards, and moves
the others. A segment stays until all of its batches have moved. Each pass begins at the oldest segment. Once
a pass has left out a batch of a shard, it leaves out all later batches of that shard: so the batches of a
producer and shard move in order, also if the shard gets another node during the pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Container, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import hiredis

from pixel_server import tasks
from pixel_server.collect.batch import Batch, Sink, report_gap
from pixel_server.collect.losses import RemovedFile
from pixel_server.collect.nodes import Nodes, OneNode
from pixel_server.collect.spool.format import NewerFormat, Segment
from pixel_server.collect.spool.runs import cut
from pixel_server.collect.spool.spool import Spool
from pixel_server.logs import Log

log = Log(__name__)

PAUSE_SECONDS = 0.25
"""Seconds between two looks at the spool."""
ASIDE_SECONDS = 3600.0
"""Seconds between two looks at the files that were set aside."""
AWAY_ERRORS = (OSError, TimeoutError, hiredis.HiredisError)
"""Errors that mean that Redis, or the disk, cannot be used now."""
MAX_LAST_DRAINED = 10_000
"""Maximum number of producers and shards whose last drained number is kept. The oldest are forgotten."""

T = TypeVar("T")


class Drain:
    """Moves the batches of a spool to a sink, the batches of each producer and shard in order.

    nodes: the nodes of the sink's store.
    is_redis_away: returns whether new hits of any shard go to the spool now.
    on_accepted: called with the shards whose batches the sink accepts.
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
        nodes: Nodes | None = None,
        is_redis_away: Callable[[], bool] = lambda: False,
        on_accepted: Callable[[Iterable[int]], None] = lambda shards: None,
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
        self._accepting: set[int] = set()
        """Shards whose last batch the sink accepted."""
        self._waiting: dict[Segment, set[int]] = {}
        """Shards whose batches were left out, by segment. The segment's other batches are in the sink."""
        self._nodes = nodes or OneNode()
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
                log.warning(
                    "spool-drained", "%(batches)d batches went from the spool to Redis", batches=batches
                )

        await self._open()
        await tasks.repeat(tidy_and_drain, PAUSE_SECONDS, _report_failure)

    async def _open(self) -> None:
        try:
            await self._in_thread(self._spool.open)
        except OSError as error:
            log.error(
                "spool-not-opened",
                "the spool cannot be opened, so hits are lost while Redis is away: %(error)s",
                error=error,
            )

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def drain(self) -> int:
        """Drains the spool until no batch is left that a node accepts.

        Returns how many batches the sink accepted. Raises the error, one of AWAY_ERRORS, of a node that was
        tried and did not accept its batches, once all other nodes have theirs.
        """
        count = 0
        failures: dict[Hashable, Exception] = {}
        while True:
            spooled = self._spooled_groups()
            planned = await self._in_thread(partial(self._plan_pass, failures))
            if removed := self._spool.take_removed():
                self._on_removed(removed)
            if not planned.segments:
                break
            count += await self._make_pass(planned)
            failures |= planned.failures
            if not planned.nodes:
                break
            if self._is_redis_away():
                await asyncio.sleep(PAUSE_SECONDS)  # so that the next segment holds more than one group
        if planned.is_spool_empty:
            self._last_drained.clear()
            # Does not call `on_drained` after damage, so that the recorder takes a new producer id. Redis has
            # not seen the numbers of the damaged batches. Under the old id, the next batch would show this
            # gap, and the gap would be reported as a loss of Redis.
            if spooled != self._spooled_at_damage:
                self._on_drained(spooled)
        if self._accepting and self._is_redis_away():
            self._on_accepted(self._accepting)
        for error in failures.values():
            raise error
        return count

    def _plan_pass(self, failed: Container[Hashable]) -> _Pass:
        """Plans the next pass. failed: nodes to leave out.

        Seals the growing segment if it has a batch for another node that is present. While Redis is away, it
        is sealed only if no other segment can be drained.
        """
        planned = self._plan_for_sealed(failed)
        if not planned.segments or not self._is_redis_away():
            growing = self._spool.growing_shards() - planned.held
            if any(self._nodes.node_of(shard) in planned.nodes for shard in growing):
                self._spool.seal()
                planned = self._plan_for_sealed(failed)
        if self._spool.growing_shards():
            planned.is_spool_empty = False
        return planned

    def _plan_for_sealed(self, failed: Container[Hashable]) -> _Pass:
        """Plans a pass over the sealed segments, without segments whose batches must all wait."""
        drainable = self._spool.drainable_segments()
        self._waiting = {segment: self._waiting[segment] for segment in drainable if segment in self._waiting}
        planned = _Pass({node for node in self._nodes.present() if node not in failed})
        planned.is_spool_empty = not drainable
        for segment in drainable:
            shards = self._waiting.get(segment)
            if shards is None:
                has_work = bool(planned.nodes)
            else:
                has_work = any(self._nodes.node_of(shard) in planned.nodes for shard in shards - planned.held)
            if has_work:
                planned.segments.append(segment)
            elif shards is not None:
                planned.held |= shards
        return planned

    async def _make_pass(self, current: _Pass) -> int:
        """Makes a pass. Returns how many batches the sink accepted."""
        count = 0
        damaged_before = self._spool.counts["damaged"]
        for segment in current.segments:
            with contextlib.suppress(NewerFormat):  # also raised for all later segments of this writer
                count += await self._drain_segment(segment, current)
            if not current.nodes:
                break
        if self._spool.counts["damaged"] != damaged_before:
            self._spooled_at_damage = self._spooled_groups()
        return count

    async def _drain_segment(self, segment: Segment, current: _Pass) -> int:
        """Drains a segment. Deletes it if no batch must wait. Returns how many batches the sink accepted."""
        batches = await self._in_thread(lambda: list(self._spool.read(segment)))
        unsent = self._waiting.get(segment)
        if unsent is not None:
            batches = [batch for batch in batches if batch.shard in unsent]
        parts: dict[Hashable, list[Batch]] = {}
        for batch in batches:
            node = self._nodes.node_of(batch.shard)
            if batch.shard not in current.held and node in current.nodes:
                parts.setdefault(node, []).append(batch)
            else:
                current.held.add(batch.shard)
        count = sum(
            await asyncio.gather(*(self._send(segment, node, part, current) for node, part in parts.items()))
        )
        if waiting := {batch.shard for batch in batches} & current.held:
            self._waiting[segment] = waiting
        else:
            await self._in_thread(lambda: self._spool.delete(segment))
            self._waiting.pop(segment, None)
        return count

    async def _send(self, segment: Segment, node: Hashable, batches: Sequence[Batch], current: _Pass) -> int:
        """Sends batches of a segment to their node. Returns how many the sink accepted.

        After a failure the pass leaves out the node, and the shards of all batches that are not sent.
        """
        count = 0
        runs = cut(batches)
        for index, run in enumerate(runs):
            try:
                count += await self._send_run(segment, run)
            except Exception as error:
                current.nodes.discard(node)
                current.held.update(batch.shard for rest in runs[index:] for batch in rest)
                current.failures[node] = error
                self._accepting = {s for s in self._accepting if self._nodes.node_of(s) != node}
                break
        return count

    async def _send_run(self, segment: Segment, run: Sequence[Batch]) -> int:
        """Sends a run. Returns how many of its batches the sink accepted."""
        shards = {batch.shard for batch in run}
        self._accepting -= shards
        seen = await self._sink.append(run)
        self._accepting |= shards
        self._on_accepted(shards)
        count = 0
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
        self._on_stored(shards)
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
        if len(self._last_drained) > MAX_LAST_DRAINED:
            del self._last_drained[next(iter(self._last_drained))]
        return batch.sequence - 1 if seen >= previous else seen


class _Pass:
    """One pass over the spool.

    segments: the segments to drain, in order. nodes: the nodes that are worth a try. held: shards with a
    batch that is left out, so that all their later batches are left out too. failures: the error of each
    node that was tried and failed. is_spool_empty: whether the spool held no batch when the pass was planned.
    """

    def __init__(self, nodes: set[Hashable]) -> None:
        self.segments: list[Segment] = []
        self.nodes = nodes
        self.held: set[int] = set()
        self.failures: dict[Hashable, Exception] = {}
        self.is_spool_empty = False


def _report_failure(error: Exception) -> None:
    if isinstance(error, AWAY_ERRORS):
        log.warning("drain-waits", "hits stay in the spool for now: %(error)s", error=error)
    else:
        log.error(
            "drain-failed",
            "hits stay in the spool for now; the drain tries again: %(error)s",
            error=error,
            exc=error,
        )
