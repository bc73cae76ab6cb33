"""The upload of a list of a million recipients with names, while pixels are requested.

python -m tests.bench.upload [--rows 1000000]

The list is sent in chunks. Another connection requests a pixel every 5 ms meanwhile.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator

from tests.bench.machine import resident_mb
from tests.bench.program import Figure, alone, percentile
from tests.bench.sides import API_KEY, Bench, Side, server

KEYED = {"Authorization": f"Bearer {API_KEY}"}
CAMPAIGN = "listed"


def chunks(rows: int) -> Iterator[bytes]:
    for first in range(0, rows, 1000):
        lines = (
            json.dumps({"recipient": f"person-{n}@example.org", "name": f"Person {n}"})
            for n in range(first, min(first + 1000, rows))
        )
        yield "".join(f"{line}\n" for line in lines).encode()


class Asking(threading.Thread):
    """Requests a pixel every 5 ms until stopped. waits: seconds of each answer."""

    def __init__(self, side: Side, path: str) -> None:
        super().__init__(daemon=True)
        self._side, self._path = side, path
        self._stop_asking = threading.Event()
        self.waits: list[float] = []
        self.refused = 0

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._side.port, timeout=10)
        while not self._stop_asking.wait(0.005):
            started = time.monotonic()
            connection.request("GET", self._path)
            answer = connection.getresponse()
            answer.read()
            self.waits.append(time.monotonic() - started)
            self.refused += answer.headers["x-pixel"] != "recorded"
        connection.close()

    def end(self) -> None:
        self._stop_asking.set()
        self.join()


def measure(bench: Bench, rows: int = 1_000_000) -> list[Figure]:
    with server(bench) as side:
        connection = http.client.HTTPConnection("127.0.0.1", side.port, timeout=600)
        campaign = {"id": CAMPAIGN, "name": "Listed", "kind": "email", "mode": "identified"}
        kind = {"Content-Type": "application/json"}
        connection.request("POST", "/api/campaigns", json.dumps(campaign), {**KEYED, **kind})
        connection.getresponse().read()
        asking = Asking(side, f"/o/{bench.tokens.open().readline().strip()}.gif")
        before = resident_mb(side.process.pid)
        asking.start()
        started = time.monotonic()
        headers = {**KEYED, "Content-Type": "application/x-ndjson"}
        path = f"/api/campaigns/{CAMPAIGN}/recipients"
        connection.request("PUT", path, chunks(rows), headers, encode_chunked=True)
        answer = connection.getresponse()
        took, counts = time.monotonic() - started, json.loads(answer.read())
        asking.end()
        assert (answer.status, counts.get("new")) == (200, rows), counts
        waits = [wait * 1000 for wait in asking.waits]
        return [
            Figure("rows", rows / took, "a second"),
            Figure("memory of the web process before", before, "MB"),
            Figure("memory after", resident_mb(side.process.pid), "MB", most=before + 16),
            Figure("pixels meanwhile: p50", percentile(waits, 0.5), "ms"),
            Figure("pixels meanwhile: p99", percentile(waits, 0.99), "ms", most=300.0),
            Figure("pixels meanwhile: not recorded", asking.refused, most=0.0),
        ]


if __name__ == "__main__":
    alone(__doc__, measure, rows=1_000_000)
