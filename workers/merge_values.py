"""Merges the values that the shards have of one name, into the commands that write the merged value. Pure.

See `store.merged`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from pixel_server.counters import open_breakdown, series, web_breakdown
from pixel_server.store.checkpoint import Command

HYPERLOGLOGS = ("addresses", "visitors")
"""Kinds whose values are HyperLogLogs. These only grow, so only the values of changed shards are needed."""


def kind(name: str) -> str:
    """Returns the kind of a value: `months` of `"months:spring 202611"`."""
    return name.partition(":")[0]


def commands(name: str, values: Sequence[Any]) -> list[Command]:
    """Returns the commands that write a merged value. values: those of all shards, None if a shard has none.

    Raises NewerFormat if a newer version wrote one of the values.
    """
    path, _, field = name.partition(" ")
    key, present = f"px:{{all}}:{path}", [value for value in values if value]
    if not present:
        return [("HDEL", key, field) if field else ("DEL", key)]
    if field:
        pack = _pack_cells if kind(name) == "months" else _pack_labels
        return [("HSET", key, field, pack(present))]
    if kind(name) == "buckets":
        return [("SET", key, _pack_cells(present))]
    if kind(name) in HYPERLOGLOGS:
        return [("DEL", key), ("UNITE", key, *present)]
    fields = [dict(zip(value[::2], value[1::2], strict=True)) for value in present]
    merged = _web(fields) if kind(name) == "web" else _numbers(fields)
    return [("DEL", key), ("HSET", key, *(word for pair in merged.items() for word in pair))]


def _numbers(hashes: Iterable[Mapping[bytes, bytes]]) -> dict[bytes, str]:
    """Adds up the fields of `total` or `rules`. Of a time, keeps the first or the last."""
    sums: dict[bytes, int] = {}
    for fields in hashes:
        for name, text in fields.items():
            value, before = int(text), sums.get(name)
            if before is None:
                sums[name] = value
            elif name == b"last_hit" or name.endswith(b" to"):
                sums[name] = max(before, value)
            elif name.endswith(b" from"):
                sums[name] = min(before, value)
            else:
                sums[name] = before + value
    return {name: str(value) for name, value in sums.items()}


def _web(hashes: Iterable[Mapping[bytes, bytes]]) -> dict[bytes, bytes]:
    """Adds up views and visits by dimension and name. A dimension keeps `web_breakdown.MAX_NAMES` names."""
    sums: dict[bytes, web_breakdown.CountsByName] = {}
    for fields in hashes:
        for dimension, value in fields.items():
            names = sums.setdefault(dimension, {})
            for name, (views, visits) in web_breakdown.unpack(value).items():
                before = names.get(name, (0, 0))
                names[name] = [before[0] + views, before[1] + visits]
    capped: dict[bytes, bytes] = {}
    for dimension, names in sums.items():
        kept: web_breakdown.CountsByName = {}
        web_breakdown.add(kept, names)
        capped[dimension] = web_breakdown.pack(kept)
    return capped


def _pack_cells(values: Iterable[bytes]) -> bytes:
    sums: series.Cells = {}
    for value in values:
        for number, cell in series.unpack(value).items():
            before = sums.get(number)
            added = cell if before is None else [a + b for a, b in zip_longest(before, cell, fillvalue=0)]
            sums[number] = added
    return series.pack(sums)


def _pack_labels(values: Iterable[bytes]) -> bytes:
    sums: open_breakdown.Days = {}
    for value in values:
        for day, counts in open_breakdown.unpack(value).items():
            before = sums.setdefault(day, counts)
            if before is not counts:
                for label, count in counts.items():
                    before[label] = before.get(label, 0) + count
    return open_breakdown.pack(sums)
