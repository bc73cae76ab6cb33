"""Latency of `stats` over 90 days, by day, of a campaign with a million recipients.

python -m tests.bench.stats [--requests 500] [--recipients 1000000]

A normal server answers over HTTP, on one keep-alive connection, one request after the other.
"""

from __future__ import annotations

import http.client
import json
import time
from datetime import UTC, datetime, timedelta

from tests.bench.memory import CAMPAIGN, DAYS, fill
from tests.bench.program import Figure, alone, percentile
from tests.bench.sides import API_KEY, Bench, Side, server

WARM_UP_REQUESTS = 20


def measure_on(side: Side, requests: int = 500) -> list[Figure]:
    """Measures on a server that has the campaign already."""
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    query = f"from={tomorrow - timedelta(days=DAYS)}&to={tomorrow}&interval=day"
    connection = http.client.HTTPConnection("127.0.0.1", side.port, timeout=10)
    took = []
    for _ in range(WARM_UP_REQUESTS + requests):
        began = time.perf_counter()
        connection.request(
            "GET",
            f"/api/campaigns/{CAMPAIGN}/stats?{query}",
            headers={"Authorization": f"Bearer {API_KEY}"},
        )
        answer = connection.getresponse()
        content = answer.read()
        took.append((time.perf_counter() - began) * 1000)
        assert answer.status == 200, content
    connection.close()
    read = json.loads(content)
    assert len(read["series"]) == DAYS
    assert all(item["opens"] for item in read["series"][1:])
    return [
        Figure("p50", percentile(took[WARM_UP_REQUESTS:], 0.5), "ms"),
        Figure("p99", percentile(took[WARM_UP_REQUESTS:], 0.99), "ms", most=10.0),
        Figure("unique opens shown", read["totals"]["unique_opens"]),
    ]


def measure(bench: Bench, requests: int = 500, recipients: int = 1_000_000) -> list[Figure]:
    with server(bench) as side:
        fill(bench, side, recipients)
        return measure_on(side, requests)


if __name__ == "__main__":
    alone(__doc__, measure, requests=500, recipients=1_000_000)
