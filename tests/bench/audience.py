"""The audience of 20 campaigns with a million recipients, while pixels are requested.

python -m tests.bench.audience [--recipients 1000000] [--campaigns 20]

Each recipient is on the list of each campaign and opened it with a probability of 0.4, which makes 20 million
entries and 8 million records. They are written to Valkey directly. Then the server answers who opened none,
who opened at least two, and how many opened each number of campaigns. Meanwhile another connection requests a
pixel every 5 ms. CPU is that of the server without Valkey. The peak is the largest resident memory of one of
its processes since they started.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import random
import time
from collections.abc import Iterable, Iterator

from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.counters import recipient_record
from pixel_server.counters.recipient_record import RecipientRecord
from pixel_server.figures import recipients as figures
from pixel_server.store import keys
from pixel_server.store.client import connect_async
from tests.bench.hits import SHARDS, recipients
from tests.bench.machine import cpu_us, peak_mb
from tests.bench.program import Figure, alone, percentile
from tests.bench.sides import Bench, Side, server
from tests.bench.upload import AUTHORIZATION, PixelRequests

OPEN_SHARE = 0.4
SENT_AT = 1_790_000_000
RECORDS = 1000
"""Number of different records."""
PART_PLACES = 256
"""Number of places that are written at once."""
MAX_SECONDS = 20.0


def fill(side: Side, people: int, campaigns: int) -> list[str]:
    """Creates the campaigns with their lists and records. Returns their ids."""
    assert side.store is not None
    ids = [f"campaign-{number:02}" for number in range(campaigns)]
    asyncio.run(_create(side, ids))
    draw = random.Random(17)
    records = [recipient_record.pack(_record(draw)) for _ in range(RECORDS)]
    places: dict[int, list[bytes]] = {}
    for recipient in recipients(people):
        places.setdefault(figures.place(recipient, SHARDS), []).append(recipient)
    for campaign in ids:
        for part in _parts(places.items()):
            pipe = side.store.client.pipeline(transaction=False)
            for place, of_place in part:
                shard, bucket = divmod(place, keys.PEOPLE_BUCKETS)
                day = str(SENT_AT // 86_400)
                pipe.hset(keys.listed(shard, campaign, bucket), mapping=dict.fromkeys(of_place, day))
                opened = {key: draw.choice(records) for key in of_place if draw.random() < OPEN_SHARE}
                if opened:
                    pipe.hset(keys.people(shard, campaign, bucket), mapping=opened)
                pipe.hincrby(keys.total(shard, campaign), "listed", len(of_place))
            pipe.execute()
    side.tidy()
    return ids


async def _create(side: Side, ids: Iterable[str]) -> None:
    store = connect_async(side.settings.redis_url)
    for campaign in ids:
        await storage.create(store, new_campaign(campaign, campaign, "email"))
    await store.aclose()


def _record(draw: random.Random) -> RecipientRecord:
    """Returns a record: seven of ten by a person alone, the others also or only by a machine."""
    first, opens = SENT_AT + draw.randrange(10**6), draw.choice((1, 1, 1, 2, 3))
    last = first + (draw.randrange(10**5) if opens > 1 else 0)
    if draw.random() < 0.7:
        return RecipientRecord(
            first, last, opens, 0, opens, first, delay=draw.randrange(100), last_person=last
        )
    if draw.random() < 0.5:
        return RecipientRecord(first, last, opens, prefetch=opens)
    return RecipientRecord(first, last + 500, opens + 1, 0, opens, first + 200, prefetch=1, last_person=last)


def _parts(places: Iterable[tuple[int, list[bytes]]]) -> Iterator[list[tuple[int, list[bytes]]]]:
    waiting = iter(places)
    while part := list(itertools.islice(waiting, PART_PLACES)):
        yield part


def ask(side: Side, path: str, accept: str) -> tuple[float, float, bytes]:
    """Returns (seconds until all of the answer has arrived, CPU of the server in s, the answer)."""
    connection = http.client.HTTPConnection("127.0.0.1", side.port, timeout=600)
    before, began = cpu_us(side.pids()), time.monotonic()
    connection.request("GET", path, headers={**AUTHORIZATION, "Accept": accept})
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status == 200, content[:500]
    connection.close()
    return time.monotonic() - began, (cpu_us(side.pids()) - before) / 1e6, content


def measure(bench: Bench, recipients: int = 1_000_000, campaigns: int = 20) -> list[Figure]:
    with server(bench) as side:
        ids = fill(side, recipients, campaigns)
        assert side.store is not None
        query = f"of={','.join(ids)}"
        calls = {
            "who opened none, CSV": (f"/api/audience?{query}&opened=none", "text/csv"),
            "who opened two or more, CSV": (f"/api/audience?{query}&opened=2", "text/csv"),
            "counts": (f"/api/audience/counts?{query}", "application/json"),
        }
        before = peak_mb(side.pids())
        pixels = PixelRequests(side, f"/o/{bench.tokens.open().readline().strip()}.gif")
        pixels.start()
        shown, rows = [], {}
        for name, (path, accept) in calls.items():
            valkey = cpu_us([side.store.pid])
            seconds, cpu, content = ask(side, path, accept)
            rows[name] = content
            shown += [
                Figure(f"{name}: time", seconds, "s", most=MAX_SECONDS),
                Figure(f"{name}: CPU", cpu, "s"),
                Figure(f"{name}: CPU of Valkey", (cpu_us([side.store.pid]) - valkey) / 1e6, "s"),
            ]
        pixels.end()
        counts = json.loads(rows["counts"])
        none, two, _ = (content.count(b"\n") - 1 for content in rows.values())
        assert counts["recipients"] == recipients
        assert (none, two) == (counts["opened"][0], sum(counts["opened"][2:]))
        latencies_ms = [seconds * 1000 for seconds in pixels.latencies]
        return [
            *shown,
            Figure("rows of who opened none", none),
            Figure("rows of who opened two or more", two),
            Figure("peak memory of a process before", before, "MB"),
            Figure("peak memory after", peak_mb(side.pids()), "MB", most=before + 16),
            Figure("pixels meanwhile: p50", percentile(latencies_ms, 0.5), "ms"),
            Figure("pixels meanwhile: p99", percentile(latencies_ms, 0.99), "ms", most=300.0),
            Figure("pixels meanwhile: not recorded", pixels.refused, most=0.0),
        ]


if __name__ == "__main__":
    alone(__doc__, measure, recipients=1_000_000, campaigns=20)
