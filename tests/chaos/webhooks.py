"""Workers and Redis are killed and stopped while events are sent to endpoints that fail at random.

A client requests one pixel of each recipient, again until the answer is `recorded`. One endpoint takes single
events, another lists. Both answer errors, break off after they have noted a request, or are late. At the end
each recorded recipient's first open must have reached both endpoints, under one id.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable

from pixel_server.mail.links import Minter
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.client import connect_async
from pixel_server.store.protocols import AsyncRedis
from pixel_server.webhooks import queue, storage
from tests.chaos.outcome import Outcome
from tests.chaos.scenario import own_redis_url, say, whole_server
from tests.stack import Stack, until
from tests.webhooks import receiver as receivers
from tests.webhooks.receiver import Answer, Received, Receiver

SETTINGS = Settings(webhook_private=1)


def run(seed: int, log: bool = False, kills: int = 40) -> Outcome:
    outcome, draw = Outcome("webhooks", seed), random.Random(seed)
    with receivers.running() as receiver, whole_server(PIXEL_WEBHOOK_PRIVATE="1") as stack:
        answer = Answers(seed)
        receiver.answer = answer
        url, paths = own_redis_url(stack), {"single": 1, "lists": 20}
        for path, size in paths.items():
            asyncio.run(_make_endpoint(url, receiver.url.replace("/hook", f"/{path}"), size))
        stack.call("POST", "/api/campaigns", {"id": "spring", "name": "Spring", "kind": "email"})
        with Client(stack, Secrets.load(stack.data)) as client:
            while outcome.events.total() < kills:
                name, act = draw.choice(ACTS)
                say(log, name)
                act(stack, draw)
                outcome.events[name] += 1
                time.sleep(draw.uniform(0.3, 4.0))
        answer.is_calm = True
        _compare(client, receiver, url, list(paths), outcome)
    outcome.figures["requests to endpoints"] = len(receiver.requests)
    outcome.figures["of them answered badly"] = answer.bad
    return outcome


class Answers:
    """Answers of an endpoint: many are bad until `is_calm` is set."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed + 1)
        self.is_calm = False
        self.bad = 0

    def __call__(self, request: Received) -> Answer | None:
        chance = 1.0 if self.is_calm else self._draw.random()
        self.bad += chance < 0.3
        if chance < 0.1:
            return 500, {}, "not now"
        if chance < 0.2:
            return None  # noted, and broken off
        if chance < 0.3:
            time.sleep(1)
        return receivers.OK


class Client:
    """Requests one pixel of each recipient until the block ends. recorded: keys of those recorded."""

    def __init__(self, stack: Stack, secrets: Secrets) -> None:
        self._stack, self._secrets = stack, secrets
        self._minter = Minter(stack.address, secrets)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.recorded: set[str] = set()

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._over.is_set():
            name = f"person-{number}@example.org"
            with contextlib.suppress(OSError):
                if self._stack.get(str(self._minter.url("spring", name)))[1] == "recorded":
                    self.recorded.add(self._secrets.recipient_key(name).hex())
                    number += 1
            self._over.wait(0.02)


def _kill(words: str) -> Callable[[Stack, random.Random], None]:
    def act(stack: Stack, draw: random.Random) -> None:
        for pid in stack.pids(words):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    return act


def _stop_workers(stack: Stack, draw: random.Random) -> None:
    pids = stack.pids("work --one")
    for signals in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signals)
        time.sleep(draw.uniform(0.5, 7.0) if signals == signal.SIGSTOP else 0)


ACTS = [
    *[("workers killed", _kill("work --one"))] * 4,
    ("schedule and workers killed", _kill("work")),
    ("Redis killed", _kill("valkey-server")),
    ("workers stopped for a while", _stop_workers),
]


def _compare(client: Client, receiver: Receiver, url: str, paths: list[str], outcome: Outcome) -> None:
    """Notes the events that were lost, and those that were sent under two ids."""

    def ids() -> dict[str, dict[str, set[str]]]:
        """Returns the ids of the events on each recipient, by endpoint."""
        found: dict[str, dict[str, set[str]]] = {path: defaultdict(set) for path in paths}
        for request in list(receiver.requests):
            content = request.content
            items = content["data"] if content["type"] == "list" else [content]
            for item in items:
                event_id = item.get("id", request.headers["webhook-id"])
                found[request.path.strip("/")][item["data"]["key"]].add(event_id)
        return found

    def is_all_there() -> bool:
        asyncio.run(_send_all(url))
        found = ids()
        return all(client.recorded <= found[path].keys() for path in paths)

    with contextlib.suppress(AssertionError):
        until(is_all_there, within=120, every=1)
    found = ids()
    for path in paths:
        lost = client.recorded - found[path].keys()
        double = [key for key, event_ids in found[path].items() if len(event_ids) > 1]
        outcome.expect(not lost, f"{path}: {len(lost)} events were lost")
        outcome.expect(not double, f"{path}: {len(double)} events were sent under two ids")
    outcome.expect(found[paths[0]] == found[paths[1]], "the endpoints got different ids")
    outcome.sent = outcome.answered = outcome.counted = len(client.recorded)


async def _with_store(url: str, act: Callable[[AsyncRedis], Awaitable[object]]) -> None:
    store = connect_async(url, timeout=10)
    try:
        await act(store)
    finally:
        await store.aclose()


async def _make_endpoint(url: str, address: str, size: int) -> None:
    await _with_store(
        url,
        lambda store: storage.create(
            store, SETTINGS, url=address, events=["open.first"], scopes=["people"], events_per_request=size
        ),
    )


async def _send_all(url: str) -> None:
    """Makes all that waits due now, so that nobody waits for a pause."""

    async def act(store: AsyncRedis) -> None:
        for endpoint in await storage.list_all(store):
            waiting = await queue.page(store, endpoint.id, is_aside=False, limit=1000)
            await queue.send_again(store, endpoint.id, [unit.id for unit in waiting if unit.tries])
            await store.hdel(keys.hook_state(endpoint.id), "paused_until")

    await _with_store(url, act)
