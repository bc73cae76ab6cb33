"""Hits leave a part of Redis's memory free, and the operator learns why."""

from __future__ import annotations

import asyncio

import pytest

from pixel_server.store.memory_reserve import FullError, MemoryUse, MemoryWatch

MB = 1_000_000


@pytest.mark.parametrize(
    ("used", "maximum", "reserve", "short"),
    [
        (95, 100, 10, True),
        (90, 100, 10, False),
        (100, 100, 0, True),
        (97, 100, 0, False),
        (500, 0, 10, False),
        (74, 100, 60, False),
        (76, 100, 60, True),
    ],
)
def test_memory_use_is_short_below_the_reserve(used, maximum, reserve, short):
    assert MemoryUse(used * MB, maximum * MB).is_short(reserve * MB) is short


def test_memory_use_leaves_out_memory_that_redis_does_not_count():
    info = {"used_memory": 10, "mem_not_counted_for_evict": 4, "maxmemory": 12}
    assert MemoryUse.parse(info) == MemoryUse(6, 12)
    assert MemoryUse.parse({}) == MemoryUse(0, 0)


def test_memory_use_describe_says_how_full():
    assert (
        MemoryUse(95 * MB, 100 * MB).describe() == "Redis is nearly full: used 95.0 MB of maxmemory 100.0 MB"
    )
    assert MemoryUse(101 * MB, 100 * MB).describe() == "Redis is full: used 101.0 MB of maxmemory 100.0 MB"


def test_watch_memory_free_again_resumes_above_the_reserve():
    """Otherwise hits would change their way all the time while the use is near the line."""
    used = [80, 91, 89, 88, 87, 89, 91]

    class Fake:
        async def info(self, section):
            return {"used_memory": used.pop(0) * MB, "maxmemory": 100 * MB}

    watch, seen = MemoryWatch(Fake(), 10 * MB), []
    while used:
        asyncio.run(watch.look())
        seen.append(watch.is_short)
    assert seen == [False, True, True, True, False, False, True]
    with pytest.raises(FullError, match="nearly full: used"):
        watch.refuse_if_short()
