"""The roll-up: hits a second that one worker counts, compared with the hits that one web process stores.

python -m tests.bench.rollup [--rounds 3] [--hits 200000] [--seconds 5] [--group 32]

Hits are realistic (see hits.py). The hits of a round are ten minutes later than those of the previous round.
They are written in groups, as a recorder does with 64 connections: about 32 hits a group, so eight a batch.
Worker and web process run in turn on the serving core. The store runs on the other core.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
from dataclasses import dataclass

from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.store.client import connect, connect_async
from tests.bench import wrk
from tests.bench.hits import SHARDS, SITE, Writer, realistic, recipients
from tests.bench.machine import cpu_us, on
from tests.bench.program import Figure, alone
from tests.bench.sides import SECRETS, Bench, Side, server
from tests.bench.wrk import Load
from workers.rollup import JOB_SECONDS, drain_shards, shards_of_job

RECIPIENTS = 200_000


@dataclass(frozen=True)
class Counted:
    """Result of one roll-up. cpu, store: seconds of CPU time of the worker and of its Valkey."""

    hits: int
    seconds: float
    cpu: float
    store: float


def count(bench: Bench, side: Side, core: int | None = None) -> Counted:
    """Rolls up all shards at once, as a worker does, in this process. core: by default the serving core."""
    assert side.store is not None
    hits, store = 0, cpu_us([side.store.pid])
    gc.collect()
    with on(bench.cores.serving if core is None else core), connect(side.settings.redis_url) as client:
        began, cpu = time.perf_counter(), time.process_time()
        shards = shards_of_job(0, SHARDS, 1)
        while counted := drain_shards(
            *(client, side.settings, SECRETS, shards, time.monotonic() + JOB_SECONDS, time.time),
            sends_events=False,
        ):
            hits += counted
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
    return Counted(hits, took, cpu, (cpu_us([side.store.pid]) - store) / 1e6)


def make_site(side: Side) -> None:
    """Creates the web campaign to which the hits of web pages belong."""

    async def make() -> None:
        store = connect_async(side.settings.redis_url)
        await storage.create(store, new_campaign(SITE, SITE, "web"))
        await store.aclose()

    asyncio.run(make())


def measure(
    bench: Bench, rounds: int = 3, hits: int = 200_000, seconds: float = 5.0, group: int = 32
) -> list[Figure]:
    draw = random.Random(7)
    people = recipients(RECIPIENTS)
    web: dict[int, list[float]] = {64: [], 256: []}
    counted: list[Counted] = []
    with server(bench) as side:
        assert side.store is not None
        make_site(side)
        writer = Writer(side.store.client, group)
        for number in range(rounds):
            for connections, rates in web.items():
                rates.append(wrk.run(bench, side, Load(connections, seconds)).rate)
                side.tidy()
            writer.write(realistic(draw, people, hits, ago=600 * (rounds - number)))
            counted.append(count(bench, side))
            assert counted[-1].hits == hits, f"{counted[-1].hits} of {hits} hits were counted"
            side.tidy()
    rate = statistics.median(result.hits / result.seconds for result in counted)
    stored = {connections: statistics.median(rates) for connections, rates in web.items()}
    return [
        Figure("one worker counts", rate, "hits/s"),
        Figure("CPU of the worker a hit", statistics.median(c.cpu / c.hits for c in counted) * 1e6, "us"),
        Figure("CPU of Valkey a hit", statistics.median(c.store / c.hits for c in counted) * 1e6, "us"),
        *(
            Figure(f"one web process stores, {n} connections", web_rate, "hits/s")
            for n, web_rate in stored.items()
        ),
        *(Figure(f"ratio, {n} connections", rate / web_rate, least=1.0) for n, web_rate in stored.items()),
    ]


if __name__ == "__main__":
    alone(__doc__, measure, rounds=3, hits=200_000, seconds=5.0, group=32)
