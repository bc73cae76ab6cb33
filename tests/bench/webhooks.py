"""Webhooks: what an endpoint costs the roll-up, and how fast events reach one.

python -m tests.bench.webhooks [--rounds 3] [--hits 60000] [--events 20000]

Two stores count the same realistic hits in turn: one without endpoints, one with an endpoint that wants
`open.first`. Three of four hits of the first round are first opens. Then a courier sends events to a receiver
on Node that verifies each signature with npm's `standardwebhooks`, in lists of 100 and one by one.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pixel_server.campaigns import storage as campaigns
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.settings import Settings
from pixel_server.store.client import connect_async
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import StoreMark
from pixel_server.webhooks import event, outbox, queue, storage
from pixel_server.webhooks.event import FIRST_OPEN
from tests.bench.hits import MAILS, SHARDS, Writer, realistic, recipients
from tests.bench.program import Figure, alone
from tests.bench.rollup import RECIPIENTS, count, make_site
from tests.bench.sides import SECRETS, Bench, Side, server
from tests.node_packages import node
from tests.stack import free_port
from workers.courier import Courier

NOW_MS = int(time.time() * 1000)


@contextmanager
def node_receiver(port: int, secret: str) -> Iterator[None]:
    """Runs a receiver on Node until the block ends."""
    command = node("webhook_receiver.mjs", str(port), secret, "quiet")
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()


async def make_endpoint(store: AsyncRedis, settings: Settings, port: int, size: int) -> tuple[str, str]:
    """Returns (id, secret) of a new endpoint for `open.first`. size: events of a request."""
    made, secret = await storage.create(
        store,
        settings,
        url=f"http://127.0.0.1:{port}/",
        events=[FIRST_OPEN],
        scopes=["people"],
        events_per_request=size,
    )
    return made.id, secret


def costs(bench: Bench, rounds: int, hits: int) -> dict[str, list[float]]:
    """Returns the CPU of the worker, us a hit, by round, without and with an endpoint."""
    found: dict[str, list[float]] = {"none": [], "one": []}
    with server(bench) as none, server(bench) as one:
        asyncio.run(_with_store(one, lambda store: make_endpoint(store, _private(one), 9, 1)))
        for number in range(rounds):
            for name, side in (("none", none), ("one", one)):
                assert side.store is not None
                if not number:
                    make_site(side)
                draw = random.Random(number)
                people = recipients(RECIPIENTS)
                Writer(side.store.client).write(realistic(draw, people, hits, ago=600 * (rounds - number)))
                counted = count(bench, side)
                found[name].append(counted.cpu / counted.hits * 1e6)
                side.tidy()
    return found


async def _with_store(side: Side, act: Callable[[AsyncRedis], Awaitable[Any]]) -> Any:
    store = connect_async(side.settings.redis_url, timeout=20)
    try:
        return await act(store)
    finally:
        await store.aclose()


def _private(side: Side) -> Settings:
    return replace(side.settings, webhook_private=1)


def rate(side: Side, size: int, events: int) -> float:
    """Returns the events a second that reach an endpoint. size: events of a request."""

    async def send(store: AsyncRedis) -> float:
        port, settings = free_port(), _private(side)
        endpoint, secret = await make_endpoint(store, settings, port, size)
        await fill(store, events, size)
        with node_receiver(port, secret):
            courier = Courier(store, settings, SECRETS, StoreMark())
            began = time.perf_counter()
            await courier.step()
            while (await queue.read_length(store, endpoint)).events:
                await courier._pause()
                await courier.step()
            await courier.finish()
        await storage.delete(store, endpoint)
        return events / (time.perf_counter() - began)

    return float(asyncio.run(_with_store(side, send)))


async def fill(store: AsyncRedis, events: int, size: int) -> None:
    """Puts events into the outboxes."""
    for first in range(0, events, 1000):
        pipe = store.pipeline(transaction=False)
        made = [
            event.make(
                *(f"evt_{size}_{n}", FIRST_OPEN, NOW_MS, MAILS[0], n.to_bytes(8)),
                verdict="person",
                rule="mail-client",
                client="Thunderbird",
                country="DE",
            )
            for n in range(first, min(first + 1000, events))
        ]
        for command in outbox.commands(SECRETS, first // 1000 % SHARDS, made, [], 0, SHARDS):
            pipe.execute_command(*command)
        await pipe.execute()


def measure(bench: Bench, rounds: int = 3, hits: int = 60_000, events: int = 20_000) -> list[Figure]:
    cpu = costs(bench, rounds, hits)
    none, one = statistics.median(cpu["none"]), statistics.median(cpu["one"])
    with server(bench) as side:
        made = new_campaign(MAILS[0], MAILS[0], "email")
        asyncio.run(_with_store(side, lambda store: campaigns.create(store, made)))
        in_lists, singly = rate(side, 100, events), rate(side, 1, max(1, events // 20))
    return [
        Figure("CPU of the worker a hit, no endpoint", none, "us"),
        Figure("CPU of the worker a hit, one endpoint", one, "us"),
        Figure("events that reach an endpoint, lists of 100", in_lists, "a second"),
        Figure("events that reach an endpoint, one a request", singly, "a second"),
    ]


if __name__ == "__main__":
    alone(__doc__, measure, rounds=3, hits=60_000, events=20_000)
