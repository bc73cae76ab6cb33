"""Sums the values of several shards, of those kinds of keys whose shard does not matter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pixel_server.counters import open_breakdown, series, web_breakdown

Merge = Callable[[bytes | None, bytes], bytes]
"""Returns the sum of two stored values. The first may be None. Raises NewerFormat."""


def cells(stored: bytes | None, more: bytes) -> bytes:
    """Returns the sum of two packed series."""
    sums = series.unpack(stored)
    for number, cell in series.unpack(more).items():
        series.add(sums, number, cell)
    return series.pack(sums)


def labels(stored: bytes | None, more: bytes) -> bytes:
    """Returns the sum of two packed breakdowns of opens."""
    days = open_breakdown.unpack(stored)
    for day, counts in open_breakdown.unpack(more).items():
        open_breakdown.add(days, day, counts)
    return open_breakdown.pack(days)


def names(stored: bytes | None, more: bytes) -> bytes:
    """Returns the sum of two packed breakdowns of views."""
    counts = web_breakdown.unpack(stored)
    web_breakdown.add(counts, web_breakdown.unpack(more))
    return web_breakdown.pack(counts)


PACKED: Mapping[str, Merge] = {"cells": cells, "labels": labels, "names": names}
"""The sums of packed values, by rule."""


def counts(stored: Mapping[bytes, bytes], more: Mapping[bytes, bytes]) -> dict[bytes, Any]:
    """Returns the sums of two hashes of numbers. A first use keeps the earlier time."""
    sums: dict[bytes, Any] = dict(stored)
    for name, value in more.items():
        number = int(value)
        if name not in stored:
            sums[name] = number
        elif name == b"last_hit" or name.endswith(b" to"):
            sums[name] = max(int(stored[name]), number)
        elif name.endswith(b" from"):
            sums[name] = min(int(stored[name]), number)
        else:
            sums[name] = int(stored[name]) + number
    return sums
