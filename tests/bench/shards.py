"""Many shards: what figures cost with 4, 32 and 256 shards, and what the merge costs that makes them cheap.

python -m tests.bench.shards [--campaigns 200] [--hits 600] [--requests 100]

Every campaign has `hits` opens by different recipients, spread over all shards within 14 days. The real
roll-up counts them, and the real merge merges them. A normal server answers over HTTP, one request after the
other. A request's cost is CPU time of the web process and of Valkey together. `from the shards`: without
merged values, as with up to 8 shards. A page that kept the values of each shard, and read those of changed
shards only, would cost this while every shard changes.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.store import keys
from pixel_server.store.client import connect, connect_async
from pixel_server.store.shards import shard_of
from tests.bench.hits import Writer, mail, recipients
from tests.bench.machine import cpu_us, on
from tests.bench.pages import Reader
from tests.bench.program import Figure, alone
from tests.bench.sides import SECRETS, Bench, Side, server
from workers import merge
from workers.rollup import drain_shards

SHARDS = (4, 32, 256)
DAY_MS = 86_400_000
_TODAY = datetime.now(UTC).date()
PATHS = {
    "stats": "/api/campaigns/campaign-0000/stats",
    "stats of a week": f"/api/campaigns/campaign-0000/stats?from={_TODAY - timedelta(days=6)}&interval=15m",
    "list": "/api/overview",
    "page": "/campaigns/campaign-0000",
}


def _hits(number: int, hits: int, shards: int) -> Iterator[tuple[int, bytes]]:
    draw = random.Random(25)
    people = recipients(10_000)
    end = int(time.time() * 1000)
    for i in range(number):
        for recipient in draw.sample(people, hits):
            data = mail(draw, f"campaign-{i:04}", recipient, end - draw.randrange(14 * DAY_MS))[1]
            yield shard_of(recipient, shards), data


def _roll_up(bench: Bench, side: Side) -> None:
    with on(bench.cores.serving), connect(side.settings.redis_url) as client:
        shards = range(side.settings.shards)
        while drain_shards(client, side.settings, SECRETS, shards, time.monotonic() + 60, time.time):
            pass


def _fill(bench: Bench, side: Side, campaigns: int, hits: int) -> None:
    assert side.store is not None

    async def make() -> None:
        store = connect_async(side.settings.redis_url)
        for i in range(campaigns):
            await storage.create(store, new_campaign(f"campaign-{i:04}", f"Campaign {i}", "email", 2 * hits))
        await store.aclose()

    asyncio.run(make())
    writer = Writer(side.store.client, shards=side.settings.shards)
    waiting = _hits(campaigns, hits, side.settings.shards)
    while part := list(itertools.islice(waiting, 20_000)):
        writer.write(part)
        _roll_up(bench, side)
    side.tidy()


def _merge(bench: Bench, side: Side) -> float:
    """Merges, and returns the CPU time (ms) of the worker and of Valkey."""
    assert side.store is not None
    with on(bench.cores.serving), connect(side.settings.redis_url, timeout=60.0) as client:
        client.hdel(keys.MERGED, "busy_until")
        worker, store = time.process_time(), cpu_us([side.store.pid])
        assert merge.merge(client, side.settings)
        return (time.process_time() - worker) * 1000 + (cpu_us([side.store.pid]) - store) / 1000


def _cost(side: Side, path: str, requests: int) -> tuple[float, float]:
    """Returns the CPU time (ms) of the web process and of Valkey a request."""
    assert side.store is not None
    reader = Reader(side)
    get = side.get if path.startswith("/api/") else reader.get
    for _ in range(5):
        get(path)
    web, store = cpu_us(side.pids()), cpu_us([side.store.pid])
    for _ in range(requests):
        get(path)
    reader.close()
    return (
        (cpu_us(side.pids()) - web) / 1000 / requests,
        (cpu_us([side.store.pid]) - store) / 1000 / requests,
    )


def _costs(side: Side, requests: int) -> dict[str, float]:
    """Returns the cost of each path. Prints its parts."""
    costs = {}
    for name, path in PATHS.items():
        web, store = _cost(side, path, requests)
        print(
            f"  {side.settings.shards:4} shards, {name:18} web {web:7.2f} ms   Valkey {store:6.2f} ms",
            flush=True,
        )
        costs[name] = web + store
    return costs


def measure(bench: Bench, campaigns: int = 200, hits: int = 600, requests: int = 100) -> list[Figure]:
    figures: list[Figure] = []
    costs: dict[int, dict[str, float]] = {}
    for shards in SHARDS:
        with server(bench, PIXEL_SHARDS=str(shards)) as side:
            _fill(bench, side, campaigns, hits)
            if shards > SHARDS[0]:
                first = _merge(bench, side)
                writer = Writer(side.store.client, shards=shards)
                writer.write(_hits(campaigns, min(hits, 2 * shards), shards))
                _roll_up(bench, side)
                merged = _merge(bench, side)
                figures += [
                    Figure(f"{shards} shards: merge of all values", first, "ms"),
                    Figure(f"{shards} shards: merge after hits in all campaigns and shards", merged, "ms"),
                ]
            costs[shards] = _costs(side, requests)
            figures += [
                Figure(f"{shards} shards: {name}", cost, "ms") for name, cost in costs[shards].items()
            ]
            if shards > SHARDS[0]:
                print("  from the shards:", flush=True)
                side.store.client.hdel(keys.MERGED, "as_of")
                direct = _costs(side, max(1, requests // 10))
                figures += [
                    Figure(f"{shards} shards, from the shards: {name}", cost, "ms")
                    for name, cost in direct.items()
                ]
    few, many = costs[SHARDS[0]], costs[SHARDS[-1]]
    return figures + [
        Figure(f"{name}: {SHARDS[-1]} shards against {SHARDS[0]}", many[name] / few[name], "times", most=2.0)
        for name in PATHS
    ]


if __name__ == "__main__":
    alone(__doc__, measure, campaigns=200, hits=600, requests=100)
