"""Load from wrk with one thread, by default on the core that does not serve."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.machine import on, tool
from tests.bench.sides import Bench, Side

SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True)
class Load:
    """A load. close: opens a new connection for each request. pause: mean ms before a connection's request.

    forwarded: sends a different head with each request, as a reverse proxy does.
    """

    connections: int
    seconds: float
    close: bool = False
    forwarded: bool = False
    pause: float = 0.0


@dataclass(frozen=True)
class Answers:
    """Result of a load. p50, p99: latency in ms. bad: number of answers that are not 2xx.

    errors: number of socket errors, and of answers after more than 2 s.
    """

    requests: int
    seconds: float
    p50: float
    p99: float
    bad: int
    errors: int

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def start(bench: Bench, side: Side, load: Load, cores: Sequence[int] = ()) -> subprocess.Popen[str]:
    """Starts the load. Each call uses other tokens than the call before."""
    first = bench.next_token(int(load.seconds * 40_000))
    kept = "close" if load.close else "keep-alive"
    command = [
        *(tool("wrk", "wrk"), "--threads", "1", "--connections", str(load.connections)),
        *("--duration", f"{math.ceil(load.seconds)}s", "--script", str(SCRIPT), side.address, "--"),
        *(str(bench.tokens), side.before, side.after, str(first), kept, str(load.pause)),
        "forwarded" if load.forwarded else "50",
    ]
    with on(*(cores or [bench.cores.other])):
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def result(running: subprocess.Popen[str]) -> Answers:
    """Waits for the end of the load. Raises AssertionError if wrk failed."""
    output, _ = running.communicate()
    for line in output.splitlines():
        if line.startswith("RESULT "):
            return Answers(**json.loads(line[7:]))
    raise AssertionError(f"wrk failed:\n{output}")


def run(bench: Bench, side: Side, load: Load, cores: Sequence[int] = ()) -> Answers:
    return result(start(bench, side, load, cores))


def paced(rate: float, seconds: float, connections: int = 256, latency: float = 1.0) -> Load:
    """Returns a load of about `rate` requests a second, as close to an open loop as wrk comes.

    Each connection pauses for a random time, so that all connections together reach the rate. A late answer
    delays its own connection alone. latency: expected ms of an answer.
    """
    return Load(connections, seconds, pause=max(0.5, connections / rate * 1000 - latency))
