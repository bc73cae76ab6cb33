"""Watches for losses: batches that Redis had acknowledged and then lost.

A loss is noticed with the next batch of the same producer, otherwise within COMPARE_SECONDS, and also after a
restart of this process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import redis

from pixel_server.collect import loss_storage, losses
from pixel_server.collect.acknowledged import AcknowledgedFiles, MissingBatches
from pixel_server.collect.batch import Batch
from pixel_server.collect.losses import LossReport, StoredLosses
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import StoreMark

log = logging.getLogger("pixel_server.collect.losses")

FLUSH_SECONDS = 0.1
"""Seconds between two writes of acknowledged batches to their files."""
COMPARE_SECONDS = 1.0
"""Seconds between two comparisons with the store, and between two syncs of the files."""
ALL_FILES_EVERY = 30
"""Comparisons after which the files of other processes are compared again."""
MAX_NOTED = 100_000
"""Batches in memory while the disk hangs. Further batches are not remembered."""


class LossWatch:
    """Remembers acknowledged batches (`note`), then writes, compares and reports them (`run`)."""

    def __init__(
        self,
        store: AsyncRedis,
        data: Path,
        shards: int,
        mark: StoreMark,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._data = data
        self._mark = mark
        self._clock = clock
        self._files = AcknowledgedFiles(data, shards)
        self._noted: list[tuple[str, int, int, int]] = []
        self._gaps: list[tuple[Batch, int]] = []
        self._earlier: dict[tuple[str, int], int] | None = None
        self._unsaved: StoredLosses = {}
        self._failure = ""
        self._shards = shards
        self._generations: list[int] = []
        self._comparisons = 0
        self._losses: StoredLosses = {}

    def note(self, batches: Sequence[Batch], seen: Sequence[int]) -> None:
        """Remembers that Redis has these batches. seen: what `producer.APPEND` returned for each."""
        noted = self._noted
        for batch, last_seen in zip(batches, seen, strict=True):
            if last_seen >= 0 and len(noted) < MAX_NOTED:
                noted.append((batch.producer, batch.shard, batch.sequence, batch.hits))
                if batch.sequence - 1 > last_seen:
                    self._gaps.append((batch, last_seen))

    def report(self) -> LossReport:
        """Returns the sum of the losses that are not acknowledged, as last known."""
        return losses.summarize(losses.unpack_losses(self._losses))

    async def run(self) -> None:
        """Writes, compares and reports until cancelled. Then all noted batches are put on disk."""
        self._losses = await asyncio.to_thread(loss_storage.read_file, self._data)
        compared_at = 0.0
        try:
            while True:
                await asyncio.sleep(FLUSH_SECONDS)
                try:
                    await asyncio.to_thread(self._flush)
                    if time.monotonic() - compared_at >= COMPARE_SECONDS:
                        compared_at = time.monotonic()
                        await asyncio.to_thread(self._files.sync, self._generations)
                        if not self._mark.trouble:
                            await self._compare()
                            await self._share()
                    self._failure = ""
                except Exception as error:  # no answer of disk or store may end this process
                    self._report_failure(error)
        finally:
            self._flush_at_end()

    def _flush(self) -> None:
        """Writes the noted batches to their files, and reports gaps between them."""
        noted, self._noted = self._noted, []
        gaps, self._gaps = self._gaps, []
        try:
            if noted:
                self._files.note(noted)
        finally:
            for batch, last_seen in gaps:
                missing = self._files.missing(batch.producer, batch.shard, last_seen, batch.sequence - 1)
                self._add_loss(missing)
            self._save()

    def _flush_at_end(self) -> None:
        try:
            self._flush()
        except OSError as error:
            self._report_failure(error)
        self._files.close(self._generations)

    async def _compare(self) -> None:
        """Compares the acknowledged batches, of this process and of earlier ones, with the store."""
        if self._earlier is None:
            self._earlier = await asyncio.to_thread(self._files.read_newest)
            self._generations = await asyncio.to_thread(self._files.read_generations)
        self._comparisons += 1
        newest = dict(self._files.newest)
        if self._comparisons % ALL_FILES_EVERY == 1:
            newest = {**self._earlier, **newest}
        pipe = self._store.pipeline(transaction=False)
        for shard in range(self._shards):
            pipe.hget(keys.checkpoint(shard), "n")
            pipe.hget(keys.producers(shard), "floor")
        for producer, shard in newest:
            pipe.hget(keys.producers(shard), producer)
        self._mark.queue_read(pipe)
        *replies, mark = await pipe.execute()
        self._mark.compare(mark)
        of_shards, of_producers = replies[: 2 * self._shards], replies[2 * self._shards :]
        floors = [(floor or b"").decode(errors="replace") for floor in of_shards[1::2]]
        for ((producer, shard), last), value in zip(newest.items(), of_producers, strict=True):
            seen = int(value.partition(b" ")[0]) if value else 0
            if seen < last and (value or producer >= floors[shard]):  # otherwise it was pruned
                self._add_loss(await asyncio.to_thread(self._files.missing, producer, shard, seen, last))
        self._compare_generations([int(n or 0) for n in of_shards[::2]])
        await asyncio.to_thread(self._save)

    def _compare_generations(self, generations: list[int]) -> None:
        """Reports shards whose generation fell since the last comparison."""
        now = int(self._clock() * 1000)
        for shard, (before, generation) in enumerate(zip(self._generations, generations, strict=False)):
            name, loss = losses.pack_fallen_generation(shard, before, generation, now)
            if generation < before and name not in self._losses:
                self._losses[name] = self._unsaved[name] = loss
                log.error(
                    "losses: the counters of shard %d went back by %d commits", shard, before - generation
                )
        self._generations = generations

    def _add_loss(self, missing: MissingBatches) -> None:
        """Adds and logs a loss that is not known yet."""
        name, loss = losses.pack_missing(missing, int(self._clock() * 1000))
        if name in self._losses:
            return
        self._losses[name] = self._unsaved[name] = loss
        log.error(
            "losses: shard %d lost %d batches of producer %s with %s%d hits: Redis came back without them",
            *(missing.shard, missing.last - missing.first + 1, missing.producer),
            *("" if missing.is_exact else "at least ", missing.hits),
        )

    def _save(self) -> None:
        if self._unsaved:
            loss_storage.add_to_file(self._data, self._unsaved)
            self._unsaved = {}

    async def _share(self) -> None:
        """Adds new losses to the store. Takes over losses and acknowledgements that the store has."""
        stored = await loss_storage.read_store(self._store)
        missing_there = {name: loss for name, loss in self._losses.items() if name not in stored}
        merged = losses.merge(self._losses, stored)
        until = losses.reported_until(merged)
        if until > losses.reported_until(self._losses):
            await asyncio.to_thread(loss_storage.add_to_file, self._data, {losses.REPORTED_UNTIL: str(until)})
        self._losses = merged
        await loss_storage.add_to_store(self._store, missing_there)

    def _report_failure(self, error: Exception) -> None:
        """Logs a new failure. Failures of Redis are logged elsewhere."""
        failure = "Redis" if isinstance(error, redis.RedisError) else type(error).__name__
        if failure not in (self._failure, "Redis"):
            log.warning("losses: cannot write or compare the acknowledged batches: %r", error)
        self._failure = failure
