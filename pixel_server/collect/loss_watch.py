"""Notices that Redis lost what it had acknowledged: with a batch, within a second, after a restart."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import redis

from pixel_server.collect import losses
from pixel_server.collect.acknowledged import Acknowledged, Missing
from pixel_server.collect.batch import Batch
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import StoreMark

log = logging.getLogger("pixel_server.collect.losses")

FLUSH = 0.1
"""Seconds between two writes of what was acknowledged."""
OTHERS = 30
"""Looks after which what other processes had acknowledged is compared again."""
MOST_NOTED = 100_000
"""Batches taken down at most while the disk hangs; of more nothing is noted."""
LOOK = 1.0
"""Seconds between two comparisons with the store, and until what was written is synced."""


class LossWatch:
    """`note` only takes down; `run` writes, compares and reports. held: the losses, by name."""

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
        self._files = Acknowledged(data, shards)
        self._noted: list[tuple[str, int, int, int]] = []
        self._gaps: list[tuple[Batch, int]] = []
        self._before: dict[tuple[str, int], int] | None = None
        self._unsaved: losses.Held = {}
        self._failing = ""
        self._shards = shards
        self._generations: list[int] = []
        self._looks = 0
        self.held: losses.Held = {}

    def note(self, batches: Sequence[Batch], seen: Sequence[int]) -> None:
        """Takes down that Redis has these batches. seen: what `producer.APPEND` returned for each."""
        noted = self._noted
        for batch, was in zip(batches, seen, strict=True):
            if was >= 0 and len(noted) < MOST_NOTED:
                noted.append((batch.producer, batch.shard, batch.sequence, batch.hits))
                if batch.sequence - 1 > was:
                    self._gaps.append((batch, was))

    def report(self) -> losses.Report:
        """Returns what was lost and not acknowledged, as last known."""
        return losses.report(losses.parse(self.held))

    async def run(self) -> None:
        """Until cancelled; then what was noted is on disk."""
        self.held = await asyncio.to_thread(losses.read_file, self._data)
        looked = 0.0
        try:
            while True:
                await asyncio.sleep(FLUSH)
                try:
                    await asyncio.to_thread(self._flush)
                    if time.monotonic() - looked >= LOOK:
                        looked = time.monotonic()
                        await asyncio.to_thread(self._files.sync, self._generations)
                        if not self._mark.trouble:
                            await self._compare()
                            await self._share()
                    self._failing = ""
                except Exception as error:  # whatever the disk and the store say, this process goes on
                    self._fail(error)
        finally:
            self._flush_at_end()

    def _flush(self) -> None:
        noted, self._noted = self._noted, []
        gaps, self._gaps = self._gaps, []
        try:
            if noted:
                self._files.note(noted)
        finally:
            for batch, was in gaps:
                self._lose(self._files.missing(batch.producer, batch.shard, was, batch.sequence - 1))
            self._save()

    def _flush_at_end(self) -> None:
        try:
            self._flush()
        except OSError as error:
            self._fail(error)
        self._files.close(self._generations)

    async def _compare(self) -> None:
        """Compares what was acknowledged, by this process and by those before it, with what the store has."""
        if self._before is None:
            self._before = await asyncio.to_thread(self._files.read)
            self._generations = await asyncio.to_thread(self._files.read_generations)
        self._looks += 1
        known = dict(self._files.last)
        if self._looks % OTHERS == 1:
            known = {**self._before, **known}
        pipe = self._store.pipeline(transaction=False)
        for shard in range(self._shards):
            pipe.hget(keys.checkpoint(shard), "n")
            pipe.hget(keys.producers(shard), "floor")
        for producer, shard in known:
            pipe.hget(keys.producers(shard), producer)
        self._mark.ask(pipe)
        *answers, mark = await pipe.execute()
        self._mark.take(mark)
        of_shards, kept = answers[: 2 * self._shards], answers[2 * self._shards :]
        floors = [(floor or b"").decode(errors="replace") for floor in of_shards[1::2]]
        for ((producer, shard), last), value in zip(known.items(), kept, strict=True):
            seen = int(value.partition(b" ")[0]) if value else 0
            if seen < last and (value or producer >= floors[shard]):  # else it was pruned
                self._lose(await asyncio.to_thread(self._files.missing, producer, shard, seen, last))
        self._compare_generations([int(n or 0) for n in of_shards[::2]])
        await asyncio.to_thread(self._save)

    def _compare_generations(self, generations: list[int]) -> None:
        now = int(self._clock() * 1000)
        for shard, (before, generation) in enumerate(zip(self._generations, generations, strict=False)):
            name, loss = losses.went_back(shard, before, generation, now)
            if generation < before and name not in self.held:
                self.held[name] = self._unsaved[name] = loss
                log.error(
                    "losses: the counters of shard %d went back by %d commits", shard, before - generation
                )
        self._generations = generations

    def _lose(self, missing: Missing) -> None:
        name = losses.name(missing)
        if name in self.held:
            return
        self.held[name] = self._unsaved[name] = losses.made(missing, int(self._clock() * 1000))
        log.error(
            "losses: shard %d lost %d batches of producer %s with %s%d hits: Redis came back without them",
            *(missing.shard, missing.last - missing.first + 1, missing.producer),
            *("" if missing.is_exact else "at least ", missing.hits),
        )

    def _save(self) -> None:
        if self._unsaved:
            losses.keep(self._data, self._unsaved)
            self._unsaved = {}

    async def _share(self) -> None:
        """Tells the store of losses that it has not, and learns of others and of what was acknowledged."""
        there = await losses.read(self._store)
        mine = {name: value for name, value in self.held.items() if name not in there}
        both = losses.merged(self.held, there)
        until = int(both[losses.SEEN_UNTIL])
        if until > int(self.held.get(losses.SEEN_UNTIL, "0")) and until:
            await asyncio.to_thread(losses.keep, self._data, {losses.SEEN_UNTIL: str(until)})
        self.held = both
        await losses.put(self._store, mine)

    def _fail(self, error: Exception) -> None:
        told = "Redis" if isinstance(error, redis.RedisError) else type(error).__name__
        if told not in (self._failing, "Redis"):
            log.warning("losses: what Redis acknowledged cannot be noted or compared: %r", error)
        self._failing = told
