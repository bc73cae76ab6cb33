"""Redis memory per recipient: a million people open a mail within 90 days; 30 of 100 open the mail again.

python -m tests.bench.memory [--recipients 1000000]

Measures how much `used_memory_dataset` grows from an empty store. The real roll-up counts the hits.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator

from tests.bench.hits import Writer, mail, recipients
from tests.bench.program import Figure, alone
from tests.bench.rollup import count
from tests.bench.sides import Bench, Side, server

CAMPAIGN = "million"
DAY_MS = 86_400_000
DAYS = 90
OPENED_TWICE_SHARE = 0.3
PART_HITS = 50_000
"""Number of hits that are written before they are counted."""


def fill(bench: Bench, side: Side, people: int) -> int:
    """Fills the campaign with hits. Returns their number."""
    assert side.store is not None
    writer = Writer(side.store.client)
    waiting, total = _opens(people), 0
    while part := list(itertools.islice(waiting, PART_HITS)):
        writer.write(part)
        total += count(bench, side).hits
    side.tidy()
    return total


def _opens(people: int) -> Iterator[tuple[int, bytes]]:
    draw = random.Random(11)
    keys = recipients(people)
    end = int(time.time() * 1000)
    begin = end - DAYS * DAY_MS + DAY_MS
    for i, key in enumerate(keys):
        yield mail(draw, CAMPAIGN, key, begin + (end - begin) * i // people)
    again = draw.sample(keys, int(OPENED_TWICE_SHARE * people))
    for i, key in enumerate(again):
        yield mail(draw, CAMPAIGN, key, end - DAY_MS + DAY_MS * i // len(again))


def measure_on(bench: Bench, side: Side, recipients: int = 1_000_000) -> list[Figure]:
    """Measures on a server whose store is empty. The campaign stays in it."""
    assert side.store is not None
    before = side.store.client.info("memory")
    began = time.monotonic()
    hits = fill(bench, side, recipients)
    took = time.monotonic() - began
    after = side.store.client.info("memory")

    def each(field: str) -> float:
        return float(after[field] - before[field]) / recipients

    return [
        Figure("a recipient, by used_memory_dataset", each("used_memory_dataset"), "bytes", most=40.0),
        Figure("a recipient, by used_memory", each("used_memory"), "bytes"),
        Figure("recipients", recipients),
        Figure("hits made and counted", hits / took, "hits/s"),
    ]


def measure(bench: Bench, recipients: int = 1_000_000) -> list[Figure]:
    with server(bench) as side:
        return measure_on(bench, side, recipients)


if __name__ == "__main__":
    alone(__doc__, measure, recipients=1_000_000)
