"""Resident memory of a web process under a flood while Redis is stopped.

python -m tests.bench.flood [--minutes 1] [--connections 512]

The limit is the memory after five seconds of the same flood with Redis, plus PIXEL_PENDING_BYTES, plus
SLACK_MB. Redis is stopped with SIGSTOP, so that it neither answers nor refuses connections.
"""

from __future__ import annotations

import os
import signal
import time

from tests.bench import wrk
from tests.bench.machine import resident_mb
from tests.bench.program import Figure, alone
from tests.bench.sides import Bench, server
from tests.bench.wrk import Load

SLACK_MB = 32
SPOOL_BYTES = 512 << 20
"""Size of the spool: so small that it is full within ten minutes."""


def measure(bench: Bench, minutes: float = 1.0, connections: int = 512) -> list[Figure]:
    with server(bench, PIXEL_SPOOL_BYTES=str(SPOOL_BYTES)) as side:
        assert side.store is not None
        pid = side.process.pid
        started = resident_mb(pid)
        before = wrk.run(bench, side, Load(connections, 5))
        warm = resident_mb(pid)
        bound = warm + side.settings.pending_bytes / (1 << 20) + SLACK_MB
        os.kill(side.store.pid, signal.SIGSTOP)
        try:
            flood = wrk.start(bench, side, Load(connections, minutes * 60))
            most = warm
            while flood.poll() is None:
                most = max(most, resident_mb(pid))
                time.sleep(0.2)
            answers = wrk.result(flood)
            assert side.process.poll() is None, "the web process ended"
        finally:
            os.kill(side.store.pid, signal.SIGCONT)
    return [
        Figure("minutes of flood", minutes),
        Figure("resident at the start", started, "MB"),
        Figure("resident after a flood with Redis", warm, "MB"),
        Figure("most resident while Redis was stopped", most, "MB", most=bound),
        Figure("requests with Redis", before.rate, "a second"),
        Figure("requests while Redis was stopped", answers.rate, "a second"),
        Figure("of these answered 2xx", answers.rate - answers.bad / answers.seconds, "a second"),
        Figure("p99 while Redis was stopped", answers.p99, "ms"),
    ]


if __name__ == "__main__":
    alone(__doc__, measure, minutes=1.0, connections=512)
