"""A client that notes its requests and their answers, and compares both with the counters."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Self
from urllib.parse import urlsplit

from pixel_server.counters import recipient_record
from pixel_server.mail.links import Minter
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.client import connect, connect_async
from pixel_server.store.shards import shard_of
from pixel_server.store_url import Address, shown_address
from pixel_server.tokens import verify
from pixel_server.verification import store_check
from tests.chaos.outcome import Outcome
from tests.load import Request, flood

CAMPAIGN = "chaos"
RECIPIENTS = 500
CONNECTIONS = 6
"""Connections to each web process."""
BURST_REQUESTS = 60
SHARDS = 4


class Ledger:
    """A client that requests pixels of RECIPIENTS recipients, in bursts, from `start` to `stop`.

    As a context manager, it starts and stops with the block. ports: returns the local ports of the web
    processes, or their addresses; called before each burst. pause: seconds between bursts.
    """

    def __init__(
        self,
        seed: int,
        address: str,
        secrets: Secrets,
        ports: Callable[[], Sequence[int | Address]],
        pause: float = 0.01,
    ) -> None:
        self._random = random.Random(seed + 1)
        self._secrets = secrets
        self._minter = Minter(address, secrets)
        self._ports = ports
        self._pause = pause
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._request_bursts()))
        self.requests: list[Request] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the client. Does nothing if the client has ended or has not started."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def compare(self, redis_url: str, outcome: Outcome) -> None:
        """Adds the numbers of hits sent, answered, counted, lost and doubled to the outcome, and the faults
        of the store that `pixel-server verify` would report.

        Call it when all hits are counted. For each recipient, answered <= counted <= sent must hold.
        """
        sent: Counter[bytes] = Counter()
        answered: Counter[bytes] = Counter()
        refused = counted = 0
        for request in self.requests:
            token = urlsplit(request.url).path[3:-4].encode()
            key = verify(token, self._secrets.signing)[2]
            sent[key] += request.answer.sent
            answered[key] += request.answer.stored
            refused += request.answer.status == 503
        with connect(redis_url) as client:
            for key in sent:
                people = keys.people(shard_of(key, SHARDS), CAMPAIGN, recipient_record.people_bucket(key))
                opens = recipient_record.unpack(client.hget(people, key)).opens
                counted += opens
                outcome.lost += max(0, answered[key] - opens)
                outcome.doubled += max(0, opens - sent[key])
            totals = [client.hgetall(keys.total(shard, CAMPAIGN)) for shard in range(SHARDS)]
        in_totals = sum(int(total.get(b"opens", 0)) for total in totals)
        outcome.expect(in_totals == counted, f"totals say {in_totals} opens, recipients {counted}")
        outcome.sent, outcome.answered = sent.total(), answered.total()
        outcome.counted, outcome.refused = counted, refused
        outcome.failures += asyncio.run(_verify(redis_url))

    async def _request_bursts(self) -> None:
        while not self._over.is_set():
            addresses = [("127.0.0.1", port) if isinstance(port, int) else port for port in self._ports()]
            bursts = [(address, self._burst(address)) for address in addresses]
            for _, burst in bursts:
                self.requests += burst
            await asyncio.gather(*(flood(*address, burst, CONNECTIONS) for address, burst in bursts))
            await asyncio.sleep(self._pause)

    def _burst(self, address: Address) -> list[Request]:
        requests = []
        for _ in range(BURST_REQUESTS):
            url = self._minter.url(CAMPAIGN, f"r{self._random.randrange(RECIPIENTS)}")
            requests.append(Request(f"http://{shown_address(address)}{urlsplit(url).path}"))
        return requests


async def _verify(redis_url: str) -> list[str]:
    store = connect_async(redis_url, timeout=30)
    try:
        return [fault async for fault in store_check.verify(store, Settings(shards=SHARDS))]
    finally:
        await store.aclose()
