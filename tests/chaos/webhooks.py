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
from collections.abc import Awaitable, Callable, Sequence, Set

from pixel_server.mail.links import Minter
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.client import connect_async
from pixel_server.store.protocols import AsyncRedis
from pixel_server.webhooks import queue, queue_view, storage
from tests.chaos.outcome import Outcome
from tests.chaos.scenario import own_redis_url, say, whole_server
from tests.stack import Stack, until
from tests.webhooks import receiver as receivers
from tests.webhooks.receiver import Answer, Received, Receiver

SETTINGS = Settings(webhook_private=1)
ENDPOINTS = {"single": 1, "lists": 20}
"""Events of a request, by path of the endpoint."""

Opener = tuple[str, str]
"""A campaign, and the key of a recipient who opened its mail."""

Act = Callable[[Stack, random.Random], None]


def run(seed: int, log: bool = False, kills: int = 40) -> Outcome:
    outcome, draw = Outcome("webhooks", seed), random.Random(seed)
    with receivers.running() as receiver, whole_server(PIXEL_WEBHOOK_PRIVATE="1") as stack:
        answer = Answers(seed)
        receiver.answer = answer
        url = own_redis_url(stack)
        make_endpoints(url, receiver)
        stack.call("POST", "/api/campaigns", {"id": "spring", "name": "Spring", "kind": "email"})
        with Client(stack, Secrets.load(stack.data)) as client:
            while outcome.events.total() < kills:
                name, act = draw.choice(acts(receiver))
                say(log, name)
                act(stack, draw)
                outcome.events[name] += 1
                time.sleep(draw.uniform(0.3, 4.0))
        note(client, answer, receiver, url, outcome)
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


def kill(words: str) -> Act:
    """Returns what kills the processes whose command line has these words, once there are any."""

    def act(stack: Stack, draw: random.Random) -> None:
        for pid in until(lambda: stack.pids(words)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    return act


def stop_workers(stack: Stack, draw: random.Random) -> None:
    pids = until(lambda: stack.pids("work --one"))
    for signals in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signals)
        time.sleep(draw.uniform(0.5, 7.0) if signals == signal.SIGSTOP else 0)


def kill_sending_workers(receiver: Receiver) -> Act:
    """Returns what kills the workers at the next request to an endpoint.

    Without the wait, kills would follow one another sooner than the next worker begins to send.
    """

    def act(stack: Stack, draw: random.Random) -> None:
        number = len(receiver.requests)
        until(lambda: len(receiver.requests) > number, within=120, every=0.01)
        kill("work --one")(stack, draw)

    return act


def acts(receiver: Receiver) -> list[tuple[str, Act]]:
    return [
        *[("workers killed while they send", kill_sending_workers(receiver))] * 4,
        ("schedule and workers killed", kill("work")),
        ("Redis killed", kill("valkey-server")),
        ("workers stopped for a while", stop_workers),
    ]


def _received(receiver: Receiver, paths: Sequence[str]) -> dict[str, dict[Opener, set[str]]]:
    """Returns the ids of the events on each recipient, by endpoint."""
    ids: dict[str, dict[Opener, set[str]]] = {path: defaultdict(set) for path in paths}
    for request in list(receiver.requests):
        content = request.content
        items = content["data"] if content["type"] == "list" else [content]
        for item in items:
            opener = item["data"]["campaign"], item["data"]["key"]
            ids[request.path.strip("/")][opener].add(item.get("id", request.headers["webhook-id"]))
    return ids


def compare(openers: Set[Opener], receiver: Receiver, url: str, outcome: Outcome) -> None:
    """Notes the events that were lost, and those that were sent under two ids. url: of the store."""
    paths = list(ENDPOINTS)

    def is_all_there() -> bool:
        asyncio.run(_send_all(url))
        received = _received(receiver, paths)
        return all(openers <= received[path].keys() for path in paths)

    with contextlib.suppress(AssertionError):
        until(is_all_there, within=120, every=1)
    received = _received(receiver, paths)
    for path in paths:
        lost = openers - received[path].keys()
        double = [opener for opener, event_ids in received[path].items() if len(event_ids) > 1]
        outcome.expect(not lost, f"{path}: {len(lost)} events were lost")
        outcome.expect(not double, f"{path}: {len(double)} events were sent under two ids")
    outcome.expect(received[paths[0]] == received[paths[1]], "the endpoints got different ids")
    outcome.figures["requests to webhooks"] = len(receiver.requests)


def note(client: Client, answer: Answers, receiver: Receiver, url: str, outcome: Outcome) -> None:
    """Lets the endpoints answer well, and notes what reached them. url: of the store."""
    answer.is_calm = True
    compare({("spring", key) for key in client.recorded}, receiver, url, outcome)
    outcome.sent = outcome.answered = outcome.counted = len(client.recorded)
    outcome.figures["of them answered badly"] = answer.bad


async def _with_store(url: str, act: Callable[[AsyncRedis], Awaitable[object]]) -> None:
    store = connect_async(url, timeout=10)
    try:
        await act(store)
    finally:
        await store.aclose()


def make_endpoints(url: str, receiver: Receiver) -> None:
    """Makes endpoints for `open.first` at the receiver. url: of the store."""

    async def make(store: AsyncRedis) -> None:
        for path, size in ENDPOINTS.items():
            await storage.create(
                store,
                SETTINGS,
                url=receiver.url.replace("/hook", f"/{path}"),
                events=["open.first"],
                scopes=["people"],
                events_per_request=size,
            )

    asyncio.run(_with_store(url, make))


async def _send_all(url: str) -> None:
    """Makes all that waits due now, so that nobody waits for a pause, or for the claim of a killed worker."""

    async def act(store: AsyncRedis) -> None:
        for endpoint in await storage.list_all(store):
            waiting = await queue_view.page(store, endpoint.id, is_aside=False, limit=1000)
            await queue.send_again(store, endpoint.id, [unit.id for unit in waiting])
            await store.hdel(keys.hook_state(endpoint.id), "paused_until")

    await _with_store(url, act)
