"""Freshness at half the maximum rate: from the answer to a hit until `stats` shows it.

python -m tests.bench.freshness [--seconds 20]

The rate is measured as in latency.py. `pixel-server work` runs on any core. Besides that load, one recipient
of another campaign opens a mail ten times a second (a probe), and the figures of that campaign are read every
25 ms.
"""

from __future__ import annotations

import json
import threading
import time

from pixel_server.mail.links import Minter
from tests.bench import wrk
from tests.bench.latency import maximum, pacing
from tests.bench.program import Figure, alone, percentile
from tests.bench.sides import SECRETS, Bench, Side, server, workers

CAMPAIGN = "probe"
PROBE_SECONDS, READ_SECONDS = 0.1, 0.025
"""Seconds between two probes, and between two reads of the figures."""
MAX_SECONDS = 10.0
"""Seconds after which a probe counts as not shown."""


def measure(bench: Bench, seconds: float = 20.0) -> list[Figure]:
    with server(bench) as side:
        half = maximum(bench, side, 5) / 2
        load = pacing(bench, side, half, seconds + 4)
        with workers(bench, side):
            running = wrk.start(bench, side, load)
            time.sleep(2)
            took, probes = _probe(side, seconds)
            answers = wrk.result(running)
    return [
        Figure("rate", answers.rate, "hits/s"),
        Figure("p50", percentile(took, 0.5) if took else MAX_SECONDS, "s"),
        Figure("p99", percentile(took, 0.99) if took else MAX_SECONDS, "s", most=2.0),
        Figure("probes", probes),
        Figure(f"probes not shown within {MAX_SECONDS:.0f} s", probes - len(took), most=0.0),
    ]


def _probe(side: Side, seconds: float) -> tuple[list[float], int]:
    """Returns (seconds until each probe was shown, number of probes)."""
    url = Minter("http://pixel.test", SECRETS).url(CAMPAIGN, "probe@example.org")
    assert url is not None
    path = url.removeprefix("http://pixel.test")
    answered: list[float] = []
    took: list[float] = []
    end = time.monotonic() + seconds

    def open_mails() -> None:
        while time.monotonic() < end:
            status, _ = side.get(path)
            assert status == 200
            answered.append(time.monotonic())
            time.sleep(PROBE_SECONDS)

    opening = threading.Thread(target=open_mails)
    opening.start()
    # One recipient is in one shard, so the probes are counted in the order of their answers.
    while opening.is_alive() or (len(took) < len(answered) and time.monotonic() < end + MAX_SECONDS):
        status, content = side.get(f"/api/campaigns/{CAMPAIGN}/stats")
        shown = json.loads(content)["totals"]["hits"] if status == 200 else 0
        now = time.monotonic()
        took += [max(0.0, now - at) for at in answered[len(took) : shown]]
        time.sleep(READ_SECONDS)
    opening.join()
    return took, len(answered)


if __name__ == "__main__":
    alone(__doc__, measure, seconds=20.0)
