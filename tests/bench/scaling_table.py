"""How many processes and nodes a number of hits a second needs, computed from the costs of a hit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, Protocol

BUSY = 0.6
"""Share of its core that a process may use. The rest is for peaks, pages, retries and a node that is away."""
DAY_SECONDS = 86_400


class Measured(Protocol):
    """The measured costs of a hit, see `scaling.Round`."""

    @property
    def web(self) -> float: ...
    @property
    def redis(self) -> float: ...
    @property
    def aof(self) -> float: ...
    @property
    def worker(self) -> float: ...
    @property
    def counting_redis(self) -> float: ...
    @property
    def counting_aof(self) -> float: ...


class Costs(NamedTuple):
    """Costs of a hit. web, redis, worker: CPU time in us, of storing and counting. aof: bytes that a primary
    writes.
    """

    web: float
    redis: float
    worker: float
    aof: float


class Needs(NamedTuple):
    """Processes and nodes for a number of hits a second. primaries: Redis nodes without their replicas.

    written: bytes a day that all primaries write to their append-only files.
    """

    web: int
    primaries: int
    workers: int
    written: float


def costs(result: Measured) -> Costs:
    """Returns the costs of a hit that is stored and counted."""
    redis = result.redis + result.counting_redis
    return Costs(result.web, redis, result.worker, result.aof + result.counting_aof)


def needs(rate: int, of_hit: Costs) -> Needs:
    """Returns what this number of hits a second needs, if each process and node has a core."""

    def cores(cost_us: float) -> int:
        return max(1, math.ceil(rate * cost_us / 1e6 / BUSY))

    return Needs(
        cores(of_hit.web), cores(of_hit.redis), cores(of_hit.worker), rate * of_hit.aof * DAY_SECONDS
    )


def print_table(by_rate: Mapping[int, Costs]) -> None:
    print(f"\nProcesses and nodes, each busy for {BUSY:.0%} of a core")
    print(f"  {'hits/s':>9}{'web':>6}{'primaries':>11}{'workers':>9}{'AOF a day, TB':>15}")
    for rate, of_hit in by_rate.items():
        needed = needs(rate, of_hit)
        written = needed.written / 1e12
        print(f"  {rate:>9,}{needed.web:>6}{needed.primaries:>11}{needed.workers:>9}{written:>15.1f}")
