"""The numbers of one process, as the process publishes them to the others of its host.

A number stands under the name of its metric, and then under the values of the metric's labels, joined by `|`:
`{"pixel_requests_total": {"ignored|gpc": 3}}`. A metric without labels has the key `""`. A histogram has one
key for each bucket, named by its upper bound, and the key `sum`: `{"0.001": 12, "+Inf": 0, "sum": 0.004}`.
The values of its labels stand before: `"GET|/api/keys|0.01"`. Its buckets are not cumulative.
"""

from __future__ import annotations

import os
import resource
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

import msgspec

Values = dict[str, float]
"""The values of one metric, by the values of its labels."""

INFINITE, SUM = "+Inf", "sum"
"""Names of the last bucket of a histogram, and of the sum of what was observed."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Numbers(msgspec.Struct):
    """The numbers of a process. process: its kind, such as `web`.

    counters: numbers that only grow, and stay in the sums after the process has ended. gauges: numbers that
    count while the process runs.
    """

    process: str
    counters: dict[str, Values] = {}
    gauges: dict[str, Values] = {}

    def add(self, other: Numbers) -> None:
        """Adds the numbers of another process."""
        add_values(self.counters, other.counters)
        add_values(self.gauges, other.gauges)


def add_values(total: dict[str, Values], added: Mapping[str, Mapping[str, float]]) -> None:
    """Adds values to `total`."""
    for name, values in added.items():
        sums = total.setdefault(name, {})
        for key, value in values.items():
            sums[key] = sums.get(key, 0) + value


class Histogram:
    """Counts observed values by size. bounds: upper bounds of the buckets, in order, without infinity."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def values(self, labels: Iterable[str] = ()) -> Values:
        """Returns the buckets and the sum. labels: values of the labels."""
        start = "".join(f"{label}|" for label in labels)
        names = [*map(str, self.bounds), INFINITE]
        buckets: Values = {start + name: count for name, count in zip(names, self.counts, strict=True)}
        return buckets | {f"{start}{SUM}": self.sum}


def add_process_figures(numbers: Numbers) -> None:
    """Adds what the operating system says of this process: processor time, memory, open files."""
    kind = numbers.process
    usage = resource.getrusage(resource.RUSAGE_SELF)
    numbers.counters["pixel_process_cpu_seconds_total"] = {kind: usage.ru_utime + usage.ru_stime}
    numbers.gauges["pixel_processes"] = {kind: 1}
    try:
        with open("/proc/self/statm", "rb") as file:
            pages = int(file.read().split()[1])
        open_files = len(os.listdir("/proc/self/fd"))
    except OSError:  # not on Linux
        return
    numbers.gauges["pixel_process_resident_memory_bytes"] = {kind: pages * _PAGE_BYTES}
    numbers.gauges["pixel_process_open_fds"] = {kind: open_files}
