"""Copies all keys of a closed store to a target, and hands the store's mark over."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, cast

from pixel_server.copying import merge
from pixel_server.copying.rules import Rule, rule_of_name
from pixel_server.copying.values import Stored, queue_write, read
from pixel_server.store import keys
from pixel_server.store.client import StoreError
from pixel_server.store.compatibility import UNFINISHED_FIELD
from pixel_server.store.key import Key, RedisType, ShardKey
from pixel_server.store.nodes import nodes
from pixel_server.store.protocols import AsyncRedis, Pipeline
from pixel_server.store.script import ScriptCall, script_call
from pixel_server.store.shards import shard_of

BATCH = 200
"""Keys that are copied in one round trip."""

_UNITE = """
-- KEYS: HyperLogLog. ARGV: the value of another HyperLogLog. Unites both.
local part = KEYS[1] .. ':part'
redis.call('SET', part, ARGV[1])
redis.call('PFMERGE', KEYS[1], part)
redis.call('DEL', part)
"""


def _unite_call(shard: int, key: str, *, value: bytes) -> ScriptCall:
    return script_call(_UNITE, keys=(key,), arguments=(value,), undeclared=shard)


class Copier:
    """A copy of `source`, which is closed, to `target`. shards: numbers of shards of source and target.

    mark: the mark of the source. report: called with the number of keys that are copied so far.
    """

    def __init__(
        self,
        source: AsyncRedis,
        target: AsyncRedis,
        shards: tuple[int, int],
        mark: str,
        report: Callable[[int], None] = lambda copied: None,
    ) -> None:
        self._source, self._target = source, target
        self._source_shards, self._target_shards = shards
        self._mark = mark
        self._report = report
        self._read: set[str] = set()
        """Names of keys whose values were added to others. SCAN can name a key twice."""
        self.copied: Counter[str] = Counter()
        """Number of keys of the source that were copied, by kind."""

    async def begin(self) -> None:
        """Makes the target an empty, unfinished copy. Raises StoreError if it holds anything else."""
        record = await self._target.hgetall(keys.STORE)
        unfinished = record.get(UNFINISHED_FIELD.encode())
        if unfinished is None:
            async for name in _names(self._target):
                raise StoreError(f"the target is not empty: it holds {name}")
        elif unfinished.decode() != self._mark:
            raise StoreError("the target holds an unfinished copy of another store: empty it first")
        await self._target.hset(keys.STORE, UNFINISHED_FIELD, self._mark)
        await self._clear()

    async def _clear(self) -> None:
        async for batch in _batches(_names(self._target)):
            pipe = self._target.pipeline(transaction=False)
            for name in batch:
                if name != keys.STORE:
                    pipe.delete(name)
            await pipe.execute()

    async def copy(self) -> None:
        """Copies all keys."""
        async for batch in _batches(_names(self._source)):
            by_rule: dict[Rule, list[str]] = defaultdict(list)
            for name in batch:
                by_rule[self._rule(name)].append(name)
            for how, names in by_rule.items():
                if how not in ("skip", "letters"):
                    await self._copy_batch(how, names)
        await self._copy_streams(keys.dead)
        await self._copy_streams(keys.outbox)

    def _rule(self, name: str) -> Rule:
        how = rule_of_name(name)
        if self._source_shards == self._target_shards and how in ("recipients", "salt"):
            return "whole"
        if self._source_shards <= self._target_shards and how in ("counts", "sketch", *merge.PACKED):
            return "whole"  # no two shards of the source come together
        return how

    async def _copy_batch(self, how: Rule, names: Sequence[str]) -> None:
        kinds = {name: cast(Key, keys.kind_of(name)) for name in names}
        if how in ("counts", *merge.PACKED):
            kinds = {name: kind for name, kind in kinds.items() if name not in self._read}
            self._read.update(kinds)
        found = await read(self._source, [(name, kind.redis_type) for name, kind in kinds.items()])
        if how in ("counts", *merge.PACKED):
            found = await self._summed(how, found, kinds)
        pipe = self._target.pipeline(transaction=False)
        for stored in found:
            kind = keys.kind_of(stored.name)
            self._queue(pipe, how, stored, cast(Key, kind))
        await pipe.execute()
        self.copied.update(kind.kind_name for kind in kinds.values())
        self._report(self.copied.total())

    def _queue(self, pipe: Pipeline, how: Rule, stored: Stored, kind: Key) -> None:
        """Queues the commands that write a key of the source to the target."""
        name, value, expires_at = stored
        if name.startswith("px:{all}:"):
            queue_write(pipe, name, kind.redis_type, value, expires_at)
            return
        shard = _shard(name)
        home = shard % self._target_shards
        if how == "recipients":
            for target, fields in self._by_recipient(value).items():
                queue_write(pipe, _with_shard(name, target), "hash", fields, expires_at)
        elif how == "salt":
            for target in self._shards_after(shard):
                pipe.execute_command("SET", _with_shard(name, target), value, "PXAT", expires_at, "NX")
        elif how == "sketch":
            target_name = _with_shard(name, home)
            pipe.eval(*_unite_call(home, target_name, value=value))
            if expires_at >= 0:
                pipe.execute_command("PEXPIREAT", target_name, expires_at)
        elif how == "newest":
            self._queue_newest(pipe, home, value)
        elif how == "producers":
            self._queue_producers(pipe, shard, value)
        else:
            queue_write(pipe, _with_shard(name, home), kind.redis_type, value, expires_at)

    def _by_recipient(self, fields: dict[bytes, bytes]) -> dict[int, dict[bytes, bytes]]:
        """Returns the fields for each shard of the target. A field begins with a recipient key."""
        by_shard: dict[int, dict[bytes, bytes]] = defaultdict(dict)
        for field, value in fields.items():
            by_shard[shard_of(field, self._target_shards)][field] = value
        return by_shard

    def _shards_after(self, shard: int) -> Iterable[int]:
        """Returns the shards of the target that get visitors of a shard of the source."""
        if self._target_shards % self._source_shards == 0:
            return range(shard, self._target_shards, self._source_shards)
        return range(self._target_shards)

    def _queue_newest(self, pipe: Pipeline, shard: int, checkpoint: dict[bytes, bytes]) -> None:
        if newest := checkpoint.get(b"newest"):
            pipe.eval(*_raise_call(keys.checkpoint(shard), number=int(newest)))

    def _queue_producers(self, pipe: Pipeline, shard: int, producers: dict[bytes, bytes]) -> None:
        """Queues the producers of a shard, so that the target refuses batches that the source had.

        If the number of shards changes, a batch in a spool may be split (`collect.spool.resharding`). Its
        parts have ids that end in the batch's shard, and each shard may get a part.
        """
        own = {name: value for name, value in producers.items() if name not in (b"mark", b"floor")}
        floor = producers.get(b"floor")
        if self._source_shards == self._target_shards:
            targets = {shard: own}
        else:
            parts = {name + b".%d" % shard: value for name, value in own.items()}
            targets = {target: dict(parts) for target in range(self._target_shards)}
            if shard < self._target_shards:
                targets[shard] |= own
        for target, fields in targets.items():
            if fields:
                queue_write(pipe, keys.producers(target), "hash", fields, -1)
            if floor:
                pipe.eval(*_raise_floor_call(keys.producers(target), floor=floor))

    async def _summed(self, how: Rule, found: Sequence[Stored], kinds: dict[str, Key]) -> list[Stored]:
        """Returns the sums of these keys and of what the target has, under names of the source's first."""
        places = {
            stored.name: _with_shard(stored.name, _shard(stored.name) % self._target_shards)
            for stored in found
        }
        types = {places[stored.name]: kinds[stored.name].redis_type for stored in found}
        sums: dict[str, Any] = {
            there.name: there.value for there in await read(self._target, list(types.items()))
        }
        expiries: dict[str, int] = {}
        for stored in found:
            place = places[stored.name]
            sums[place] = _add(how, types[place], sums.get(place), stored.value)
            expiries[place] = max(expiries.get(place, -1), stored.expires_at)
        return [Stored(place, sums[place], expires_at) for place, expires_at in expiries.items()]

    async def _copy_streams(self, kind: ShardKey) -> None:
        """Copies the streams of a kind. Each shard of the target has the order of the ids."""
        for target in range(min(self._source_shards, self._target_shards)):
            entries: list[tuple[tuple[int, ...], dict[bytes, bytes]]] = []
            for shard in range(target, self._source_shards, self._target_shards):
                for entry, fields in await self._source.xrange(kind(shard), "-", "+"):
                    entries.append((tuple(map(int, entry.split(b"-"))), fields))
            entries.sort(key=lambda item: item[0])
            for batch in _slices(_with_rising_ids(entries), BATCH):
                pipe = self._target.pipeline(transaction=False)
                queue_write(pipe, kind(target), "stream", batch, -1)
                await pipe.execute()

    async def finish(self) -> None:
        """Makes the target the store of the servers that know the source's mark."""
        record = {name.decode(): value for name, value in (await self._source.hgetall(keys.STORE)).items()}
        record.pop("moved")
        record |= {"mark": self._mark.encode(), "shards": b"%d" % self._target_shards, "marked": b"1"}
        if self._source_shards != self._target_shards:
            record["shards_before"] = b"%d" % self._source_shards
            record["resharded"] = b"%d" % (await self._target.time())[0]
        pipe = self._target.pipeline(transaction=False)
        for shard in range(self._target_shards):
            pipe.hset(keys.producers(shard), "mark", self._mark)
        await pipe.execute()
        pipe = self._target.pipeline(transaction=True)
        pipe.hset(keys.STORE, mapping=record)
        pipe.hdel(keys.STORE, UNFINISHED_FIELD)
        await pipe.execute()


_RAISE = """
-- KEYS: checkpoint. ARGV: time (ms). Raises the time of the newest hit to this time.
local stored = tonumber(redis.call('HGET', KEYS[1], 'newest') or '0')
if stored < tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], 'newest', ARGV[1]) end
"""
_RAISE_FLOOR = """
-- KEYS: producers. ARGV: a floor. Raises the floor to this floor.
local stored = redis.call('HGET', KEYS[1], 'floor') or ''
if stored < ARGV[1] then redis.call('HSET', KEYS[1], 'floor', ARGV[1]) end
"""


def _raise_call(key: str, *, number: int) -> ScriptCall:
    return script_call(_RAISE, keys=(key,), arguments=(number,))


def _raise_floor_call(key: str, *, floor: bytes) -> ScriptCall:
    return script_call(_RAISE_FLOOR, keys=(key,), arguments=(floor,))


def _add(how: Rule, redis_type: RedisType, stored: Any, more: Any) -> Any:
    """Returns the sum of two values of a key. stored: None if the key has no value yet."""
    if how == "counts":
        return merge.counts(stored or {}, more)
    add = merge.PACKED[how]
    if redis_type == "hash":
        return {
            **(stored or {}),
            **{field: add((stored or {}).get(field), value) for field, value in more.items()},
        }
    return add(stored, more)


async def _names(store: AsyncRedis) -> AsyncIterator[str]:
    """Yields the names of this server's keys on all nodes. May yield a name twice."""
    for node in await nodes(store):
        async for name in node.scan_iter(match="px:*", count=1000):
            yield name.decode()


async def _batches(names: AsyncIterator[str]) -> AsyncIterator[list[str]]:
    batch: list[str] = []
    async for name in names:
        batch.append(name)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _slices(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _with_rising_ids(
    entries: Iterable[tuple[tuple[int, ...], dict[bytes, bytes]]],
) -> Iterator[tuple[str, dict[bytes, bytes]]]:
    """Yields entries of several streams for one stream. An id that is there already gets the next number."""
    last = (0, 0)
    for entry, fields in entries:
        last = max((entry[0], entry[1]), (last[0], last[1] + 1))
        yield f"{last[0]}-{last[1]}", fields


def _shard(name: str) -> int:
    return int(name[len("px:{") : name.index("}")])


def _with_shard(name: str, shard: int) -> str:
    return f"px:{{{shard}}}{name[name.index('}') + 1 :]}"
