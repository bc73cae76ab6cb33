"""CPU of a hit after a million recipients have withdrawn, compared with the CPU without withdrawals.

python -m tests.bench.withdrawals [--rounds 7] [--seconds 3]

Two servers answer in turn, on 256 keep-alive connections. The withdrawals are sent to the API, 10,000 a
request. No recipient who opens a mail has withdrawn, so each hit is looked up and stored. CPU is that of the
serving process.
"""

from __future__ import annotations

import http.client
import json
import statistics
import time

from tests.bench import wrk
from tests.bench.machine import cpu_us
from tests.bench.program import Figure, alone
from tests.bench.sides import API_KEY, Bench, Side, server
from tests.bench.wrk import Load

COUNT, ROWS = 1_000_000, 10_000


def withdraw(side: Side) -> float:
    """Withdraws COUNT recipients. Returns the seconds that it took. Raises AssertionError if it failed."""
    started = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", side.port, timeout=60)
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
    for first in range(0, COUNT, ROWS):
        body = json.dumps({"recipients": [f"withdrawn-{n}@example.org" for n in range(first, first + ROWS)]})
        connection.request("POST", "/api/withdrawals", body, headers)
        answer = connection.getresponse()
        body = answer.read()
        assert json.loads(body) == {"withdrawn": ROWS, "new": ROWS}, body
    connection.close()
    return time.monotonic() - started


def measure(bench: Bench, rounds: int = 7, seconds: float = 3.0) -> list[Figure]:
    load = Load(256, seconds)
    cpu: dict[str, list[float]] = {"nobody": [], "a million": []}
    with server(bench) as nobody, server(bench) as many:
        took = withdraw(many)
        for side in (nobody, many):
            wrk.run(bench, side, Load(256, 1))
        for _ in range(rounds):
            for name, side in (("nobody", nobody), ("a million", many)):
                side.tidy()
                before = cpu_us(side.pids())
                answers = wrk.run(bench, side, load)
                assert not answers.bad, "hits were refused"
                cpu[name].append((cpu_us(side.pids()) - before) / answers.requests)
    none, million = statistics.median(cpu["nobody"]), statistics.median(cpu["a million"])
    return [
        Figure("CPU a hit, nobody has withdrawn", none, "us"),
        Figure("CPU a hit, a million have", million, "us"),
        Figure("ratio", million / none, most=1.1),
        Figure("withdrawn over the API", COUNT / took, "a second"),
    ]


if __name__ == "__main__":
    alone(__doc__, measure, rounds=7, seconds=3.0)
