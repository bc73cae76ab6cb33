"""Writes made-up hits to the streams, as a web process does."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterable, Iterator

from pixel_server import hit
from pixel_server.hit import Hit
from pixel_server.store import keys, producer
from pixel_server.store.protocols import Redis
from pixel_server.store.shards import shard_of
from pixel_server.tokens import Token
from tests.bench.sides import SECRETS

SHARDS = 4
MAILS, SITE = ("spring-sale", "newsletter", "welcome", "receipts"), "site"
WEIGHTS = (70, 20, 7, 3)
WEB = 0.2
"""Share of hits that come from web pages."""

_SYSTEMS = (
    "Windows NT 10.0; Win64; x64",
    "Macintosh; Intel Mac OS X 10_15_7",
    "X11; Linux x86_64",
    "Linux; Android 10; K",
    "iPhone; CPU iPhone OS 18_5 like Mac OS X",
)
AGENTS = [
    f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36"
    for system in _SYSTEMS
    for version in range(130, 140)
]
PATHS = [f"https://www.example.org/articles/{number}/a-title-of-usual-length" for number in range(2000)]
LANGUAGE = "en-GB,en;q=0.7,de;q=0.3"
FLAGS = Token(MAILS[0], 0).flags


def recipients(count: int) -> list[bytes]:
    return [SECRETS.recipient_key(f"person-{i}@example.org") for i in range(count)]


def mail(draw: random.Random, campaign: str, recipient: bytes, at_ms: int) -> tuple[int, bytes]:
    """Returns (shard, encoded hit) of one open of a mail."""
    opening = Hit(
        time=at_ms,
        campaign=campaign,
        kind=hit.EMAIL,
        method="GET",
        flags=FLAGS,
        token_time=at_ms // 1000 - 3600,
        recipient=recipient,
        address=recipient[:4],  # one address a reader, because several at once would be a burst
        agent=AGENTS[recipient[4] % len(AGENTS)],
        referrer="https://mail.example.org/",
        language=LANGUAGE,
    )
    return shard_of(recipient, SHARDS), hit.encode(opening)


def page(draw: random.Random, at_ms: int) -> tuple[int, bytes]:
    """Returns (shard, encoded hit) of one view of a web page."""
    address, agent, path = draw.randbytes(4), draw.choice(AGENTS), draw.choice(PATHS)
    view = Hit(
        time=at_ms,
        campaign=SITE,
        kind=hit.WEB,
        method="GET",
        address=address,
        agent=agent,
        referrer=path,
        language=LANGUAGE,
        page=path,
    )
    return shard_of(SECRETS.routing_key(address, agent.encode()), SHARDS), hit.encode(view)


def realistic(
    draw: random.Random, people: list[bytes], count: int, ago: int = 60
) -> Iterator[tuple[int, bytes]]:
    """Yields hits of four mails and a web site, with 50 user agents and 2,000 paths.

    people: recipient keys. The hits are 50,000 a second. ago: seconds from the first hit until now.
    """
    at = int((time.time() - ago) * 1000)
    for i in range(count):
        if draw.random() < WEB:
            yield page(draw, at + i // 50)
        else:
            campaign = draw.choices(MAILS, WEIGHTS)[0]
            yield mail(draw, campaign, draw.choice(people), at + i // 50)


class Writer:
    """Writes groups of hits. Splits each group into one batch a shard, as a recorder does."""

    def __init__(self, client: Redis, group: int = 32, shards: int = SHARDS) -> None:
        self._client = client
        self._group = group
        self._append = client.register_script(producer.APPEND).sha
        client.script_load(producer.APPEND)
        self._id = producer.new_id(time.time())
        self._sequence = [0] * shards

    def write(self, hits: Iterable[tuple[int, bytes]]) -> None:
        waiting = iter(hits)
        while True:
            pipe = self._client.pipeline(transaction=False)
            for _ in range(100):
                self._add(pipe, list(itertools.islice(waiting, self._group)))
            if not len(pipe):
                return
            pipe.execute()

    def _add(self, pipe: Redis, group: list[tuple[int, bytes]]) -> None:
        batches: dict[int, list[bytes]] = {}
        for shard, data in group:
            batches.setdefault(shard, []).append(data)
        for shard, datas in batches.items():
            self._sequence[shard] += 1
            arguments = (
                2,
                keys.hits(shard),
                keys.producers(shard),
                self._id,
                self._sequence[shard],
                str(hit.FORMAT),
                hit.encode_batch(datas),
                0,
            )
            pipe.evalsha(self._append, *arguments)
