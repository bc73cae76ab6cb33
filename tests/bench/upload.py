"""The upload of a list of a million recipients with names, then the list sorted, searched and counted, while
pixels are requested.

python -m tests.bench.upload [--rows 1000000]

The list is sent in chunks. Meanwhile another connection requests a pixel every 5 ms.
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

AUTHORIZATION = {"Authorization": f"Bearer {API_KEY}"}
CAMPAIGN = "listed"


def chunks(rows: int) -> Iterator[bytes]:
    for first in range(0, rows, 1000):
        lines = (
            json.dumps({"recipient": f"person-{n}@example.org", "name": f"Person {n}"})
            for n in range(first, min(first + 1000, rows))
        )
        yield "".join(f"{line}\n" for line in lines).encode()


class PixelRequests(threading.Thread):
    """Requests a pixel every 5 ms until `end`. latencies: seconds until each answer."""

    def __init__(self, side: Side, path: str) -> None:
        super().__init__(daemon=True)
        self._side, self._path = side, path
        self._over = threading.Event()
        self.latencies: list[float] = []
        self.refused = 0

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._side.port, timeout=10)
        while not self._over.wait(0.005):
            started = time.monotonic()
            connection.request("GET", self._path)
            answer = connection.getresponse()
            answer.read()
            self.latencies.append(time.monotonic() - started)
            self.refused += answer.headers["x-pixel"] != "recorded"
        connection.close()

    def end(self) -> None:
        self._over.set()
        self.join()


def timed(connection: http.client.HTTPConnection, method: str, path: str, body: str | None = None) -> float:
    """Returns the seconds until a call of the API is answered."""
    started = time.monotonic()
    connection.request(method, path, body, {**AUTHORIZATION, "Content-Type": "application/json"})
    answer = connection.getresponse()
    content = json.loads(answer.read())
    assert (answer.status, bool(content["items"])) == (200, True), content
    return time.monotonic() - started


def measure(bench: Bench, rows: int = 1_000_000) -> list[Figure]:
    with server(bench) as side:
        connection = http.client.HTTPConnection("127.0.0.1", side.port, timeout=600)
        campaign = {"id": CAMPAIGN, "name": "Listed", "kind": "email", "mode": "identified"}
        kind = {"Content-Type": "application/json"}
        connection.request("POST", "/api/campaigns", json.dumps(campaign), {**AUTHORIZATION, **kind})
        connection.getresponse().read()
        pixels = PixelRequests(side, f"/o/{bench.tokens.open().readline().strip()}.gif")
        before = resident_mb(side.process.pid)
        pixels.start()
        started = time.monotonic()
        headers = {**AUTHORIZATION, "Content-Type": "application/x-ndjson"}
        path = f"/api/campaigns/{CAMPAIGN}/recipients"
        connection.request("PUT", path, chunks(rows), headers, encode_chunked=True)
        answer = connection.getresponse()
        took, counts = time.monotonic() - started, json.loads(answer.read())
        assert (answer.status, counts.get("new")) == (200, rows), counts
        after_upload = resident_mb(side.process.pid)
        search = json.dumps({"text": f"person {rows - 1}"})
        seconds = {
            "sorted by last open": timed(connection, "GET", f"{path}?state=all&sort=last_open"),
            "sorted by name": timed(connection, "GET", f"{path}?state=all&sort=name"),
            "searched": timed(connection, "POST", f"{path}/search", search),
        }
        pixels.end()
        latencies_ms = [seconds * 1000 for seconds in pixels.latencies]
        return [
            Figure("rows", rows / took, "a second"),
            Figure("memory of the web process before", before, "MB"),
            Figure("memory after", after_upload, "MB", most=before + 16),
            *(Figure(name, took, "s") for name, took in seconds.items()),
            Figure("memory after these", resident_mb(side.process.pid), "MB", most=before + 16),
            Figure("pixels meanwhile: p50", percentile(latencies_ms, 0.5), "ms"),
            Figure("pixels meanwhile: p99", percentile(latencies_ms, 0.99), "ms", most=300.0),
            Figure("pixels meanwhile: not recorded", pixels.refused, most=0.0),
        ]


if __name__ == "__main__":
    alone(__doc__, measure, rows=1_000_000)
