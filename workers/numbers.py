"""The numbers that a worker, or the schedule, publishes for `/metrics`."""

from __future__ import annotations

import threading
from collections import Counter

from pixel_server.metrics.numbers import Histogram, Numbers, Values

PASS_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds of the buckets of the seconds of a pass."""


class WorkNumbers:
    """Counts the passes and jobs of this process. Several threads may note at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pass_seconds = Histogram(PASS_BOUNDS)
        self._passes = Counter[str]()
        self._jobs = Counter[str]()
        self._counted = self._burst_hits = 0

    def note_pass(self, outcome: str, seconds: float, counted: int, burst_hits: int) -> None:
        """Notes a pass of a roll-up, and the numbers of hits that it counted and found in bursts."""
        with self._lock:
            self._passes[outcome] += 1
            self._counted += counted
            self._burst_hits += burst_hits
            if counted:
                self._pass_seconds.observe(seconds)

    def note_job(self, has_succeeded: bool) -> None:
        with self._lock:
            self._jobs["done" if has_succeeded else "failed"] += 1

    def gather(self, process: str) -> Numbers:
        """Returns the numbers. process: the kind of this process."""
        with self._lock:
            counters: dict[str, Values] = {
                "pixel_hits_counted_total": {"": self._counted},
                "pixel_burst_hits_total": {"": self._burst_hits},
                "pixel_rollup_pass_seconds": self._pass_seconds.values(),
                "pixel_rollup_passes_total": dict(self._passes),
                "pixel_jobs_total": {"done": 0, "failed": 0, **self._jobs},
            }
        return Numbers(process, counters)


WORK = WorkNumbers()
"""The numbers of this process."""
