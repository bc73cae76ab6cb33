"""A web site: views a second that one worker counts, compared with those that one web process stores.

python -m tests.bench.site [--views 1000000] [--visitors 200000] [--days 30] [--seconds 5] [--group 32]

The views are of 2,000 pages and 50 user agents, in visits of a few views each. They are written as a recorder
does with 64 connections. One campaign has the identity `own`, the other `cookie`. Also checks the figures.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import itertools
import json
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import quote

from pixel_server import hit
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import Identity, new_campaign
from pixel_server.hit import Hit
from pixel_server.store.client import connect_async
from pixel_server.store.shards import shard_of
from tests.bench import wrk
from tests.bench.hits import AGENTS, LANGUAGE, PATHS, SHARDS, Writer
from tests.bench.program import Figure, alone
from tests.bench.rollup import count
from tests.bench.sides import SECRETS, TOKENS, Bench, Side, server
from tests.bench.wrk import Load

DAY = 86_400_000
CAMPAIGNS: dict[str, Identity] = {"named": "own", "cookies": "cookie"}


@dataclass(frozen=True)
class Made:
    """Numbers of views and visitors of a made-up site, which the figures must show."""

    views: int
    visitors: int


def make(redis_url: str) -> None:
    """Creates the campaigns."""

    async def create() -> None:
        store = connect_async(redis_url)
        for name, identity in CAMPAIGNS.items():
            await storage.create(store, new_campaign(name, name, "web", identity=identity))
        await store.aclose()

    asyncio.run(create())


def site(
    draw: random.Random, views: int, visitors: int, days: int, now: float
) -> tuple[list[tuple[int, int]], Made]:
    """Returns (time in ms, visitor) of each view, in order, and the numbers that the figures must show."""
    begin = int(now * 1000) // DAY * DAY - (days - 1) * DAY
    seconds = int(now) - begin // 1000 - 3600
    views_made: list[tuple[int, int]] = []
    seen: set[int] = set()
    while len(views_made) < views:
        visitor = (
            len(seen) if len(seen) < visitors else draw.randrange(visitors)
        )  # each visitor comes at least once
        at = begin + draw.randrange(seconds) * 1000
        seen.add(visitor)
        for _ in range(min(draw.randint(1, 5), views - len(views_made))):
            views_made.append((at, visitor))
            at += draw.randrange(1000, 300_000)
    views_made.sort()
    return views_made, Made(len(views_made), len(seen))


def hits(
    draw: random.Random, campaign: str, views: list[tuple[int, int]]
) -> Iterator[tuple[int, int, bytes]]:
    """Yields (time in ms, shard, encoded hit) of each view."""
    cookie = CAMPAIGNS[campaign] == "cookie"
    visits: dict[int, tuple[int, int]] = {}
    for at, number in views:
        visitor = SECRETS.visitor_key(CAMPAIGNS[campaign].encode(), campaign.encode(), b"%d" % number)
        last, counted = visits.get(number, (0, 0))
        counted += at - last > 30 * 60_000
        is_new = cookie and not last
        visits[number] = (at, counted)
        path = draw.choice(PATHS)
        view = Hit(
            time=at,
            campaign=campaign,
            kind=hit.WEB,
            method="GET",
            visitor=visitor,
            address=b"\x0a" + visitor[:3],  # not an address of a network that scans mail
            agent=AGENTS[number % len(AGENTS)],
            referrer=path,
            language=LANGUAGE,
            page=path,
            visits=counted if cookie else 0,
            is_new=is_new,
        )
        yield at, shard_of(visitor, SHARDS), hit.encode(view)


def _requests(bench: Bench) -> Bench:
    """Returns the bench with paths of web pixels in place of tokens."""
    path = bench.home / "pages"
    if not path.exists():
        draw = random.Random(3)
        with path.open("w") as file:
            for number in range(TOKENS):
                file.write(f"named.gif?u={quote(draw.choice(PATHS), '')}&v=visitor-{number}\n")
    return replace(bench, tokens=path)


def measure(
    bench: Bench,
    views: int = 1_000_000,
    visitors: int = 200_000,
    days: int = 30,
    seconds: float = 5.0,
    group: int = 32,
) -> list[Figure]:
    draw = random.Random(11)
    figures: list[Figure] = []
    with server(bench) as side:
        assert side.store is not None
        make(side.settings.redis_url)
        time.sleep(1)  # until the web process knows the campaigns
        pages = replace(side, before="/p/", after="")
        stored: dict[int, float] = {}
        for connections in (64, 256):
            answers = wrk.run(_requests(bench), pages, Load(connections, seconds))
            assert not answers.bad, f"{answers.bad} views were refused"
            stored[connections] = answers.rate
            figures.append(
                Figure(f"one web process stores, {connections} connections", answers.rate, "views/s")
            )
            side.tidy()
        writer = Writer(side.store.client, group)
        stories = {name: site(draw, views, visitors, days, time.time()) for name in CAMPAIGNS}
        both = heapq.merge(*(hits(draw, name, story) for name, (story, _) in stories.items()), key=_time)
        rates: list[float] = []
        cpu, total = 0.0, 0
        while part := list(
            itertools.islice(both, 200_000)
        ):  # in parts, so that the store never holds all hits
            writer.write((shard, data) for _, shard, data in part)
            gc.collect()
            counted = count(bench, side)
            rates.append(counted.hits / counted.seconds)
            cpu, total = cpu + counted.cpu, total + counted.hits
            side.tidy()
        rate = statistics.median(rates)
        figures.append(Figure("one worker counts", rate, "views/s"))
        figures.append(Figure("CPU of the worker a view", cpu / total * 1e6, "us"))
        figures += [Figure(f"ratio, {n} connections", rate / web, least=1.0) for n, web in stored.items()]
        for name, (_, expected) in stories.items():
            figures += _figures(side, name, expected)
    return figures


def _time(view: tuple[int, int, bytes]) -> int:
    return view[0]


def _figures(side: Side, name: str, expected: Made) -> list[Figure]:
    status, body = side.get(f"/api/campaigns/{name}/stats")
    assert status == 200, body
    totals, kind = json.loads(body)["totals"], CAMPAIGNS[name]
    error = abs(totals["unique_visitors"] - expected.visitors) / expected.visitors
    return [
        Figure(f"{kind}: views missing or too many", abs(totals["views"] - expected.views), most=0.0),
        Figure(f"{kind}: visitors", expected.visitors),
        Figure(f"{kind}: error of unique visitors", error, most=0.02),
        Figure(f"{kind}: views in no visit", totals["views_no_visit"]),
    ]


if __name__ == "__main__":
    alone(__doc__, measure, views=1_000_000, visitors=200_000, days=30, seconds=5.0, group=32)
