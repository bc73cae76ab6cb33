"""Compares the values that are merged over all shards with the shards' own values, see `store.merged`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

from pixel_server.copying import merge
from pixel_server.copying.values import read
from pixel_server.counters import web_breakdown
from pixel_server.figures import hyperloglog
from pixel_server.store import keys, merged
from pixel_server.store.protocols import AsyncRedis
from pixel_server.verification.stored_values import UNREADABLE

CONFIRMATIONS = 3
"""Number of repetitions in which a value must differ, because shards and merges change values meanwhile."""
_PREFIX = "px:{all}:"


async def check(store: AsyncRedis, shards: int, names: Iterable[str]) -> list[str]:
    """Returns the merged values that differ from the shards. names: keys of merged values.

    Leaves out the values that wait to be merged. Checks nothing if no figure is read from merged values.
    """
    as_of, stored_format = await store.hmget(keys.MERGED, ["as_of", "format"])
    if not merged.is_merged(shards) or as_of is None or stored_format != b"%d" % merged.FORMAT:
        return []
    differing = [name for name in names if await _differs(store, shards, name)]
    for _ in range(CONFIRMATIONS if differing else 0):
        before = await _waiting(store, shards)
        again = [name for name in differing if await _differs(store, shards, name)]
        waiting = before | await _waiting(store, shards)
        differing = [name for name in again if name.removeprefix(_PREFIX) not in waiting]
    return [f"{name} differs from the sum of its shards" for name in differing]


async def _waiting(store: AsyncRedis, shards: int) -> set[str]:
    """Returns the paths of the values that changed since the last merge: `total:spring`."""
    fields = {name.decode(): value.decode() for name, value in (await store.hgetall(keys.MERGED)).items()}
    positions = merged.positions(fields)
    pipe = store.pipeline(transaction=False)
    for shard in range(shards):
        after = f"({positions[shard].number}" if shard in positions else "-inf"
        pipe.zrangebyscore(keys.changed(shard), after, "+inf")
    return {name.decode().partition(" ")[0] for names in await pipe.execute() for name in names}


async def _differs(store: AsyncRedis, shards: int, name: str) -> bool:
    """Returns whether a merged value differs. Returns False if a value cannot be read, which is reported."""
    try:
        return await _compare(store, shards, name)
    except UNREADABLE:
        return False


async def _compare(store: AsyncRedis, shards: int, name: str) -> bool:
    kind = keys.kind_of(name)
    assert kind is not None
    path = name.removeprefix(_PREFIX)
    of_shards = [(f"px:{{{shard}}}:{path}", kind.redis_type) for shard in range(shards)]
    united = [stored.value for stored in await read(store, [(name, kind.redis_type)])]
    values = [stored.value for stored in await read(store, of_shards)]
    if kind.redis_type == "hll":
        return hyperloglog.count_union(united) != hyperloglog.count_union(values)
    if not united or not values:
        return bool(united) != bool(values)
    return _add(kind.kind_name, united) != _add(kind.kind_name, values)


def _add(kind: str, values: Sequence[Any]) -> object:
    """Returns the sum of these values, in a form that can be compared."""
    if kind == "buckets":
        return reduce(merge.cells, values, None)
    if kind in ("total", "rules"):
        numbers: dict[bytes, Any] = {}
        for fields in values:
            numbers = merge.counts(numbers, fields)
        return {name: int(number) for name, number in numbers.items()}
    if kind == "web":
        return _web_sums(values)
    add = merge.cells if kind == "months" else merge.labels
    sums: dict[bytes, bytes] = {}
    for fields in values:
        for field, value in fields.items():
            sums[field] = add(sums.get(field), value)
    return sums


def _web_sums(values: Iterable[Mapping[bytes, bytes]]) -> dict[bytes, list[int]]:
    """Returns the views and visits of each dimension. Names may differ: a merged value has fewer of them."""
    sums: dict[bytes, list[int]] = {}
    for fields in values:
        for dimension, value in fields.items():
            of_dimension = sums.setdefault(dimension, [0, 0])
            for views, visits in web_breakdown.unpack(value).values():
                of_dimension[0] += views
                of_dimension[1] += visits
    return sums
