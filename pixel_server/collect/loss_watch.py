"""Notices and stores losses: batches that Redis had acknowledged and then lost, and files that were removed
from the spool.

A loss of Redis is noticed with the next batch of the same producer, otherwise within COMPARE_SECONDS, and
also after a restart of this process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import redis

from pixel_server.collect import loss_storage, losses
from pixel_server.collect.acknowledged import AcknowledgedFiles, MissingBatches
from pixel_server.collect.batch import Batch
from pixel_server.collect.descriptor_reserve import DescriptorReserve
from pixel_server.collect.losses import LossReport, RemovedFile, StoredLosses
from pixel_server.collect.tail import Tail
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.logs import Log
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import StoreMark

log = Log(__name__)

FLUSH_SECONDS = 0.1
"""Seconds between two writes of acknowledged batches to their files."""
COMPARE_SECONDS = 1.0
"""Seconds between two comparisons with the store, and between two syncs of the files."""
ALL_FILES_EVERY = 30
"""Number of comparisons after which the batches of other and ended processes are compared again."""
MAX_NOTED = 100_000
"""Maximum number of batches in memory while the disk hangs. Further batches are not remembered."""

T = TypeVar("T")


class LossWatch:
    """Remembers acknowledged batches (`note`), then writes, compares and reports them (`run`).

    A thread of its own uses the files. If the files cannot be written, a loss is still stored in the store.
    If Redis is away, a loss is still stored in the data directory.
    """

    def __init__(
        self,
        store: AsyncRedis,
        data: Path,
        shards: int,
        mark: StoreMark,
        reserve: DescriptorReserve,
        tail: Tail,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._data = data
        self._mark = mark
        self._reserve = reserve
        self._tail = tail
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "losses")
        self._thread.submit(int)  # starts the thread now: later there may be no memory for it
        self._files = AcknowledgedFiles(data, shards, reserve)
        self._noted: list[tuple[str, int, int, int]] = []
        self._gaps: list[tuple[Batch, int]] = []
        self._removed: list[RemovedFile] = []
        self._earlier: dict[tuple[str, int], int] | None = None
        """Newest sequence numbers in all files at the start, by producer and shard. None until read."""
        self._unsaved: StoredLosses = {}
        self._failures = {"disk": "", "store": ""}
        self._shards = shards
        self._generations: list[int] = []
        self._comparisons = 0
        self._losses: StoredLosses = {}

    def note(self, batches: Sequence[Batch], seen: Sequence[int]) -> None:
        """Remembers that Redis has these batches. seen: the reply of `producer.APPEND` to each."""
        noted = self._noted
        for batch, last_seen in zip(batches, seen, strict=True):
            if last_seen >= 0 and len(noted) < MAX_NOTED:
                noted.append((batch.producer, batch.shard, batch.sequence, batch.hits))
                if batch.sequence - 1 > last_seen:
                    self.note_gap(batch, last_seen)

    def note_gap(self, batch: Batch, last_seen: int) -> None:
        """Remembers that Redis has lost the batches between `last_seen` and this batch."""
        self._gaps.append((batch, last_seen))

    def note_removed(self, removed: Sequence[RemovedFile]) -> None:
        """Remembers that these files were removed from the spool with hits that Redis does not have."""
        self._removed += removed

    def report(self) -> LossReport:
        """Returns the sum of the losses that are not acknowledged, as last known."""
        return losses.summarize(losses.unpack_losses(dict(self._losses)))

    async def run(self) -> None:
        """Writes, compares and reports until cancelled."""
        self._losses |= await self._in_thread(lambda: loss_storage.read_file(self._data))
        await asyncio.gather(self._keep_writing(), self._keep_comparing())

    async def _keep_writing(self) -> None:
        synced_at = 0.0
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self._try("disk", self._in_thread(self._flush))
            if time.monotonic() - synced_at >= COMPARE_SECONDS:
                synced_at = time.monotonic()
                await self._try("disk", self._in_thread(lambda: self._files.sync(self._generations)))

    async def _keep_comparing(self) -> None:
        """Compares with the store. Writing does not wait for it: a node of the store may hang."""
        while True:
            await asyncio.sleep(COMPARE_SECONDS)
            if not self._mark.trouble:
                await self._try("store", self._compare_and_share())

    def close(self) -> None:
        """Writes what is not written yet, and closes the files. `run` must have ended."""
        try:
            self._thread.submit(self._reserve.run, self._flush).result()
        except (OSError, NewerFormat) as error:
            self._report_failure("disk", error)
        self._files.close(self._generations)
        self._thread.shutdown()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Calls `work` in the thread of the files, with descriptors in reserve. Returns its result."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._reserve.run, work)

    async def _try(self, subject: str, work: Awaitable[None]) -> None:
        """Awaits `work`, and logs its failure. No answer of disk or store may end this process.

        subject: a key of `_failures`.
        """
        try:
            await work
            self._failures[subject] = ""
        except Exception as error:
            self._report_failure(subject, error)

    def _flush(self) -> None:
        """Writes the noted batches to their files, and stores new losses: gaps and removed files.

        If a file cannot be written, the next call writes its batches again.
        """
        noted, self._noted = self._noted, []
        gaps, self._gaps = self._gaps, []
        removed, self._removed = self._removed, []
        try:
            if noted:
                self._files.note(noted)
        except OSError:
            self._noted = (noted + self._noted)[:MAX_NOTED]
            raise
        finally:
            for batch, last_seen in gaps:
                missing = self._files.find_missing(batch.producer, batch.shard, last_seen, batch.sequence - 1)
                self._add_missing(missing)
            for file in removed:
                self._add(*losses.pack_removed_file(file, int(self._clock() * 1000)))
            self._save()

    async def _compare_and_share(self) -> None:
        await self._compare()
        await self._share()

    async def _compare(self) -> None:
        """Compares the acknowledged batches, of this and of earlier processes, with the store.

        Leaves out the shards of nodes that are away.
        """
        if self._earlier is None:
            self._earlier = await self._in_thread(self._files.read_newest)
            self._generations = await self._in_thread(self._files.read_generations)
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
        *replies, mark = await pipe.execute(raise_on_error=False)
        for reply in (mark, *replies):
            if isinstance(reply, Exception) and (reply is mark or not _is_away(reply)):
                raise reply
        self._mark.compare(mark)
        shard_replies, producer_replies = replies[: 2 * self._shards], replies[2 * self._shards :]
        away = {position // 2 for position, reply in enumerate(shard_replies) if _is_away(reply)}
        floors = [
            b"" if shard in away else shard_replies[2 * shard + 1] or b"" for shard in range(self._shards)
        ]
        for ((producer, shard), last), reply in zip(newest.items(), producer_replies, strict=True):
            if shard in away or _is_away(reply):
                continue
            seen = int(reply.partition(b" ")[0]) if reply else 0  # b"400 1790000000000": last number, time
            is_known = reply or producer.encode() >= floors[shard]  # otherwise the producer was pruned
            if seen < last and is_known and await self._is_lost(producer, shard, seen):
                arguments = producer, shard, seen, last
                self._add_missing(await self._in_thread(partial(self._files.find_missing, *arguments)))
        known = [*self._generations, *[0] * (self._shards - len(self._generations))]
        self._compare_generations(
            [
                known[shard] if shard in away else int(generation or 0)
                for shard, generation in enumerate(shard_replies[::2])
            ]
        )

    async def _is_lost(self, producer: str, shard: int, seen: int) -> bool:
        """Returns whether the batches after the number `seen` are lost, and not kept in the tail.

        Another process that runs judges its own batches, because it has a tail of its own.
        """
        if (producer, shard) in self._files.newest:
            return not self._tail.keeps_after(producer, shard, seen)
        return not await self._in_thread(partial(self._files.has_running_owner, producer))

    def _compare_generations(self, generations: list[int]) -> None:
        """Reports shards whose generation fell since the last comparison.

        If a promoted replica lacks the last commits, nothing is lost: it still has the hits that they
        counted, or gets them from the tail. So a fall under the eyes of this process is not reported then.
        """
        now = int(self._clock() * 1000)
        for shard, (before, generation) in enumerate(zip(self._generations, generations, strict=False)):
            if generation >= before:
                continue
            if self._tail.is_kept and self._comparisons > 1:
                log.warning(
                    "commits-counted-again",
                    "the last %(commits)d commits of shard %(shard)d are counted again",
                    shard=shard,
                    commits=before - generation,
                )
            elif self._add(*losses.pack_fallen_generation(shard, before, generation, now)):
                log.error(
                    "counters-went-back",
                    "the counters of shard %(shard)d went back by %(commits)d commits",
                    shard=shard,
                    commits=before - generation,
                )
        self._generations = generations

    def _add_missing(self, missing: MissingBatches) -> None:
        """Adds and logs a loss of Redis that is not known yet."""
        if self._add(*losses.pack_missing(missing, int(self._clock() * 1000))):
            log.error(
                "hits-lost",
                "shard %(shard)d lost %(batches)d batches of producer %(producer)s with "
                "%(at_least)s%(hits)d hits: Redis came back without them",
                shard=missing.shard,
                batches=missing.last - missing.first + 1,
                producer=missing.producer,
                at_least="" if missing.is_exact else "at least ",
                hits=missing.hits,
            )

    def _add(self, name: str, loss: str) -> bool:
        """Adds a loss. Returns whether it was not known yet."""
        if name in self._losses:
            return False
        self._losses[name] = self._unsaved[name] = loss
        return True

    def _save(self) -> None:
        """Writes new losses and acknowledgements to the file in the data directory."""
        unsaved = dict(self._unsaved)
        if unsaved:
            loss_storage.add_to_file(self._data, unsaved)
            for name, text in unsaved.items():
                if self._unsaved[name] == text:
                    del self._unsaved[name]

    async def _share(self) -> None:
        """Adds new losses to the store. Takes over losses and acknowledgements that the store has."""
        stored = await loss_storage.read_store(self._store)
        known = dict(self._losses)  # the thread of the files may add losses meanwhile
        merged = losses.merge(known, stored)
        if losses.acknowledged_at(merged) > losses.acknowledged_at(known):
            self._unsaved[losses.ACKNOWLEDGED_AT] = merged[losses.ACKNOWLEDGED_AT]
        self._losses |= merged
        not_in_store = {name: loss for name, loss in known.items() if name not in stored}
        await loss_storage.add_to_store(self._store, not_in_store)

    def _report_failure(self, subject: str, error: Exception) -> None:
        """Logs a new failure. Failures of Redis are logged elsewhere."""
        failure = "Redis" if isinstance(error, redis.RedisError) else type(error).__name__
        if failure not in (self._failures[subject], "Redis"):
            log.warning(
                "losses-not-compared",
                "cannot write or compare the acknowledged batches, so a loss may go unnoticed: %(error)s",
                error=error,
            )
        self._failures[subject] = failure


def _is_away(reply: object) -> bool:
    """Returns whether a node did not answer in the place of this reply."""
    return isinstance(reply, redis.ConnectionError | redis.TimeoutError)
