"""Hits leave a part of Redis's memory free, and the operator learns why."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from pixel_server.app import create_app
from pixel_server.mail.links import Minter
from pixel_server.store import jobs, keys
from pixel_server.store.client import connect, connect_async
from pixel_server.store.memory_reserve import FullError, MemoryUse, MemoryWatch
from tests.stack import until
from tests.store.test_compatibility import full

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
    assert MemoryUse.parse(info) == (6, 12)
    assert MemoryUse.parse({}) == (0, 0)


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


def test_web_redis_nearly_full_spools_until_there_is_room(client, settings, secrets):
    """Hits stop before Redis itself refuses them."""
    queue = jobs.queue(connect(settings.redis_url))
    settings = replace(settings, memory_reserve=1 << 40)
    url = Minter("http://pixel.test", secrets).link("spring", "ada@example.org").url
    waiting = lambda: sum(client.xlen(keys.hits(shard)) for shard in range(4))  # noqa: E731
    app = create_app(settings, secrets, connect_async(settings.redis_url), queue)
    try:
        with TestClient(app, base_url="http://pixel.test") as web:
            client.setrange("others", 40 * MB, b"x")
            client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.2))
            until(lambda: "Redis is nearly full: used" in " ".join(web.get("/readyz").json()["warnings"]))
            until(lambda: (web.get(url), web.get("/readyz").json()["spool"]["hits"])[1])
            report = web.get("/readyz").json()
            assert "hits go to the spool until there is room" in " ".join(report["warnings"])
            assert report["redis"]["full"].startswith("Redis is nearly full")
            before = waiting()
            client.config_set("maxmemory", 0)
            until(lambda: waiting() > before)
            until(lambda: not web.get("/readyz").json()["spool"]["hits"])
            assert "full" not in web.get("/readyz").json()["redis"]
    finally:
        client.config_set("maxmemory", 0)


def test_web_redis_full_names_the_cause(client, settings, secrets):
    queue = jobs.queue(connect(settings.redis_url))
    app = create_app(settings, secrets, connect_async(settings.redis_url), queue)
    with full(client), TestClient(app, base_url="http://pixel.test") as web:
        warnings = " ".join(web.get("/readyz").json()["warnings"])
        assert "Redis is full: used" in warnings
        assert "raise maxmemory" in warnings
