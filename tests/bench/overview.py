"""The list of campaigns: `GET /api/overview` over 5,000 campaigns with figures, in each order.

python -m tests.bench.overview [--campaigns 5000] [--requests 40]

Four of five campaigns are mails that some 20 recipients opened. The others are web sites with some 20
visitors. The hits lie within 14 days, and the real roll-up counts them. A normal server answers over HTTP,
one request after the other. The first request reads the figures of all campaigns, and so does a request after
a minute without requests. `changed`: a campaign was changed just before.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import random
import time
from collections.abc import Iterator

from pixel_server import hit
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import Kind, new_campaign
from pixel_server.hit import Hit
from pixel_server.store import keys
from pixel_server.store.client import connect_async
from pixel_server.store.shards import shard_of
from tests.bench.hits import AGENTS, LANGUAGE, PATHS, SHARDS, Writer, mail, recipients
from tests.bench.program import Figure, alone, percentile
from tests.bench.rollup import count
from tests.bench.sides import API_KEY, SECRETS, Bench, Side, server

DAY_MS = 86_400_000
DAYS = 14
HITS_PER_CAMPAIGN = 20
PART_HITS = 20_000
"""Number of hits that are written before they are counted."""
SORTS = ("-last_hit", "name", "-sent_at", "-rate", "-uniques")


def fill(bench: Bench, side: Side, number: int) -> int:
    """Creates the campaigns and fills them with hits. Returns the number of hits."""
    assert side.store is not None

    async def make() -> None:
        store = connect_async(side.settings.redis_url)
        for i in range(number):
            kind: Kind = "email" if i % 5 else "web"
            sent = 30 + i % 40 if kind == "email" else None
            await storage.create(store, new_campaign(_id(i), f"Campaign number {i} of many", kind, sent))
        await store.aclose()

    asyncio.run(make())
    writer, waiting, total = Writer(side.store.client), _hits(number), 0
    while part := list(itertools.islice(waiting, PART_HITS)):
        writer.write(part)
        total += count(bench, side).hits
    side.tidy()
    return total


def _id(number: int) -> str:
    return f"campaign-{number:05}"


def _hits(number: int) -> Iterator[tuple[int, bytes]]:
    """Yields hits of one campaign after the other, so that each pass of the roll-up has few campaigns."""
    draw = random.Random(13)
    people = recipients(2000)
    end = int(time.time() * 1000)
    for i in range(number):
        for _ in range(HITS_PER_CAMPAIGN):
            at = end - draw.randrange(DAYS * DAY_MS)
            yield mail(draw, _id(i), draw.choice(people), at) if i % 5 else _view(draw, _id(i), at)


def _view(draw: random.Random, campaign: str, at: int) -> tuple[int, bytes]:
    address, agent, path = draw.randbytes(4), draw.choice(AGENTS), draw.choice(PATHS)
    view = Hit(
        time=at,
        campaign=campaign,
        kind=hit.WEB,
        method="GET",
        address=address,
        agent=agent,
        referrer=path,
        language=LANGUAGE,
        page=path,
    )
    return shard_of(SECRETS.routing_key(address, agent.encode()), SHARDS), hit.encode(view)


def measure_on(side: Side, number: int, requests: int) -> list[Figure]:
    """Measures on a server that has the campaigns already."""
    assert side.store is not None
    connection = http.client.HTTPConnection("127.0.0.1", side.port, timeout=10)
    figures: list[Figure] = []
    for changed, query in itertools.product((True, False), (*(f"sort={sort}" for sort in SORTS), "q=99")):
        took = []
        for _ in range(1 + requests):
            if changed:
                side.store.client.xadd(keys.CHANGES, {"id": _id(0)})
            began = time.perf_counter()
            connection.request(
                "GET", f"/api/overview?{query}", headers={"Authorization": f"Bearer {API_KEY}"}
            )
            answer = connection.getresponse()
            content = answer.read()
            took.append((time.perf_counter() - began) * 1000)
            assert answer.status == 200, content
        page = json.loads(content)
        assert len(page["items"]) == 50
        assert page["total"] == number or query == "q=99"
        assert all(sum(item["days"]) and item["last_hit"] for item in page["items"])
        if not figures:
            figures.append(Figure("the first request", took[0], "ms", most=300.0))
        name = f"{query}{', changed' * changed}"
        figures += [
            Figure(f"{name}: p50", percentile(took[1:], 0.5), "ms"),
            Figure(f"{name}: p99", percentile(took[1:], 0.99), "ms", most=300.0),
        ]
    connection.close()
    return figures


def measure(bench: Bench, campaigns: int = 5000, requests: int = 40) -> list[Figure]:
    with server(bench) as side:
        hits = fill(bench, side, campaigns)
        return [*measure_on(side, campaigns, requests), Figure("hits counted", hits)]


if __name__ == "__main__":
    alone(__doc__, measure, campaigns=5000, requests=40)
