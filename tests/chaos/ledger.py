"""Notes the requests of a client and their answers, and compares them with the counters."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from pixel_server.counters import recipient_record
from pixel_server.mail.links import Minter
from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.client import connect
from pixel_server.store.shards import shard_of
from pixel_server.tokens import verify
from tests.chaos.outcome import Outcome
from tests.load import Request, flood

CAMPAIGN = "chaos"
RECIPIENTS = 500
CONNECTIONS = 6
BURST = 60
SHARDS = 4


class Ledger:
    """A client that requests pixels of RECIPIENTS recipients, in bursts, until `stop`.

    ports: returns the local ports of the web processes; called before each burst.
    pause: seconds between bursts.
    """

    def __init__(
        self,
        seed: int,
        address: str,
        secrets: Secrets,
        ports: Callable[[], Sequence[int]],
        pause: float = 0.01,
    ) -> None:
        self._draw = random.Random(seed + 1)
        self._secrets = secrets
        self._minter = Minter(address, secrets)
        self._ports = ports
        self._pause = pause
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask()))
        self.requests: list[Request] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the client. May be called twice."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def compare(self, redis_url: str, outcome: Outcome) -> None:
        """Adds the hits sent, answered, counted, lost and doubled to the outcome.

        Call it once nothing waits. For each recipient, answered <= counted <= sent must hold.
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
                name = keys.people(shard_of(key, SHARDS), CAMPAIGN, recipient_record.people_bucket(key))
                opens = recipient_record.unpack(client.hget(name, key)).opens
                counted += opens
                outcome.lost += max(0, answered[key] - opens)
                outcome.doubled += max(0, opens - sent[key])
            totals = [client.hgetall(keys.total(shard, CAMPAIGN)) for shard in range(SHARDS)]
        in_totals = sum(int(total.get(b"opens", 0)) for total in totals)
        outcome.expect(in_totals == counted, f"totals say {in_totals} opens, recipients {counted}")
        outcome.sent, outcome.answered = sent.total(), answered.total()
        outcome.counted, outcome.refused = counted, refused

    async def _ask(self) -> None:
        while not self._over.is_set():
            bursts = [(port, self._burst(port)) for port in self._ports()]
            for _, burst in bursts:
                self.requests += burst
            await asyncio.gather(*(flood("127.0.0.1", port, burst, CONNECTIONS) for port, burst in bursts))
            await asyncio.sleep(self._pause)

    def _burst(self, port: int) -> list[Request]:
        requests = []
        for _ in range(BURST):
            url = self._minter.url(CAMPAIGN, f"r{self._draw.randrange(RECIPIENTS)}")
            requests.append(Request(f"http://127.0.0.1:{port}{urlsplit(url).path}"))
        return requests
