"""The tail: batches that Redis has acknowledged, but that its replicas may not have yet.

A replica follows its primary a little later. If it is promoted, it may lack the newest batches, although
their hits were answered as recorded. So this process keeps the batches of the last seconds. When a shard has
another node, or a node that may have lost data, these batches are sent to it again, before any newer batch of
the shard. `producer.APPEND` stores each batch once, so a batch that is there already is not doubled.

A batch is kept for `seconds`, and beyond that until a replica has confirmed it. Memory is bounded: each shard
drops its oldest batches above its part of `max_bytes`. The end of the process ends its tail.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field

from pixel_server.collect.batch import Batch
from pixel_server.collect.redirects import Redirected
from pixel_server.logs import Log

log = Log(__name__)

OVERHEAD_BYTES = 400
"""Memory in bytes that a batch takes in the tail beside its encoded hits."""
RUN_BYTES, RUN_BATCHES = 256 << 10, 256
"""Maximum bytes and batches that are sent again in one write."""

Send = Callable[[Sequence[Batch]], Awaitable[Sequence[int]]]
"""Function that sends batches to a node, and returns the reply of `producer.APPEND` to each."""


@dataclass(slots=True, eq=False)
class _Entry:
    """A kept batch. node: the node that has it. kept_at: time of the event loop (s).

    previous: the last sequence number of the producer that this node had seen before the batch.
    """

    batch: Batch
    node: str
    kept_at: float
    previous: int

    @property
    def size(self) -> int:
        return len(self.batch.data) + OVERHEAD_BYTES


@dataclass(slots=True, eq=False)
class _ShardTail:
    """The kept batches of a shard, oldest first. node: the node that has all of them, None if none may."""

    entries: deque[_Entry] = field(default_factory=deque)
    node: str | None = None
    size: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Tail:
    """The tail of one process. All its sinks share it. seconds: 0 to keep nothing.

    on_gap: called with a batch that was sent again, and with the last sequence number that the node had seen,
    if batches before it are lost: the node does not have them, and the tail does not keep them any more.
    is_kept: whether batches are kept. Without replicas there is no need.
    """

    def __init__(
        self,
        shards: int = 0,
        seconds: float = 0.0,
        max_bytes: int = 0,
        on_gap: Callable[[Batch, int], None] = lambda batch, seen: None,
    ) -> None:
        self._seconds = seconds
        self._max_shard_bytes = max_bytes // max(1, shards)
        self._on_gap = on_gap
        self._shards = {shard: _ShardTail() for shard in range(shards)}
        self._is_too_short = False
        self.is_kept = False

    def begin(self) -> None:
        """Keeps batches from now on, because Redis has replicas, or may have replicas."""
        self.is_kept = self._seconds > 0

    def keep(self, node: str, batches: Sequence[Batch], seen: Sequence[int], now: float) -> None:
        """Keeps batches that a node has acknowledged. now: time of the event loop (s).

        seen: the reply of `producer.APPEND` to each batch. Batches that were not accepted are left out.
        """
        for batch, last_seen in zip(batches, seen, strict=True):
            if last_seen < 0 or last_seen < batch.after:
                continue
            shard = self._shards[batch.shard]
            if shard.node != node:
                shard.node = None if shard.entries else node
            entry = _Entry(batch, node, now, min(last_seen, batch.sequence - 1))
            shard.entries.append(entry)
            shard.size += entry.size
            while shard.size > self._max_shard_bytes and shard.entries:
                self._note_too_short(now - self._drop_oldest(shard).kept_at)

    def has_all(self, node: str, batches: Sequence[Batch]) -> bool:
        """Returns whether a node has every kept batch of the shards of these batches."""
        shards = [self._shards[batch.shard] for batch in batches]
        return all(shard.node == node or not shard.entries for shard in shards)

    def keeps_after(self, producer: str, shard: int, sequence: int) -> bool:
        """Returns whether the tail keeps a batch of this producer and shard with a later number."""
        batches = [entry.batch for entry in self._shards[shard].entries] if self.is_kept else []
        return any(batch.producer == producer and batch.sequence > sequence for batch in batches)

    async def repeat(self, node: str, send: Send, shards: Collection[int] | None = None) -> None:
        """Sends to a node the kept batches of its shards that the node is not known to have.

        shards: the node's shards, None for all. Leaves out a shard if `send` raises Redirected, because the
        node does not have the shard, or not yet. Raises the other errors of `send`.
        """
        sent = missing = 0
        for number, shard in self._shards.items():
            if (shards is not None and number not in shards) or shard.node == node or not shard.entries:
                continue
            async with shard.lock:
                # By sequence number: a later number of a producer must not be stored before an earlier one.
                entries = [entry for entry in shard.entries if entry.node != node]
                entries.sort(key=lambda entry: (entry.batch.producer, entry.batch.sequence))
                try:
                    for run in _runs(entries):
                        seen = await send([entry.batch._replace(after=0) for entry in run])
                        sent += len(run)
                        missing += self._note_repeated(node, run, seen)
                except Redirected:
                    continue
                if all(entry.node == node for entry in shard.entries):
                    shard.node = node
        if sent:
            log.warning(
                "tail-sent",
                "Redis may have lost data: sent it the last %(batches)d batches again, %(missing)d were "
                "missing",
                batches=sent,
                missing=missing,
            )

    def forget(self, node: str, confirmed_before: float, now: float) -> None:
        """Forgets batches that are older than `seconds`, and that a replica of their node has confirmed.

        Call it while the node is known to be a primary. confirmed_before: time of the event loop (s) before
        which a replica has confirmed all batches of this node.
        """
        before = min(confirmed_before, now - self._seconds)
        for shard in self._shards.values():
            while shard.node == node and shard.entries and shard.entries[0].kept_at < before:
                self._drop_oldest(shard)

    def _note_repeated(self, node: str, run: Sequence[_Entry], seen: Sequence[int]) -> int:
        """Notes that a node has these batches. Returns how many of them it did not have before."""
        missing = 0
        for entry, last_seen in zip(run, seen, strict=True):
            entry.node = node
            if 0 <= last_seen < entry.batch.sequence:
                missing += 1
                if last_seen < entry.previous:
                    self._on_gap(entry.batch, last_seen)
        return missing

    def _drop_oldest(self, shard: _ShardTail) -> _Entry:
        entry = shard.entries.popleft()
        shard.size -= entry.size
        return entry

    def _note_too_short(self, age_seconds: float) -> None:
        """Logs once that batches are dropped before they are `seconds` old."""
        if age_seconds < self._seconds and not self._is_too_short:
            self._is_too_short = True
            log.warning(
                "tail-too-short",
                "PIXEL_TAIL_BYTES is enough for the hits of %(seconds).0f s only: if a replica lacks more "
                "than that when it is promoted, hits are lost",
                seconds=age_seconds,
            )


def _runs(entries: Sequence[_Entry]) -> list[list[_Entry]]:
    """Cuts entries into runs within the bounds RUN_BYTES and RUN_BATCHES."""
    runs: list[list[_Entry]] = []
    size = 0
    for entry in entries:
        size += entry.size
        if not runs or size > RUN_BYTES or len(runs[-1]) >= RUN_BATCHES:
            runs.append([])
            size = entry.size
        runs[-1].append(entry)
    return runs
