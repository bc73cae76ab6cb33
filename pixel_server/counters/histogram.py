"""Histograms of durations, and the quantiles that are read from them.

Each bin is about 9 % wider than the bin before it, so the duration doubles over 8 bins. A quantile is the
middle of its bin, and its error is at most RELATIVE_ERROR.

There are two scales. A delay is the time from sending to the first open; its scale starts at 0 s. A span is a
time on a page or the length of a visit; its scale starts at 0.1 s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import log2

_BINS_PER_DOUBLING = 8
"""Number of bins over which a duration doubles. Never change this: stored labels hold the number of a bin,
such as `t48` for delays of 58 to 62 s."""
MAX_BIN = 250
RELATIVE_ERROR = 2 ** (0.5 / _BINS_PER_DOUBLING) - 1
"""Largest relative error of a duration that is read from its bin: 0.044."""


def delay_bin(seconds: int) -> int:
    """Returns the bin of a delay, 1 to MAX_BIN: 48 for 60 s. Returns 0 for an open before the sending."""
    return min(MAX_BIN, 1 + int(_BINS_PER_DOUBLING * log2(seconds + 1))) if seconds >= 0 else 0


def span_bin(ms: int) -> int:
    """Returns the bin of a span, 1 to MAX_BIN: 74 for 60,000 ms. Bin 1 holds every span below 109 ms."""
    return min(MAX_BIN, 1 + int(_BINS_PER_DOUBLING * log2(max(ms, 100) / 100)))


def delay_seconds(number: int) -> float:
    """Returns the seconds in the middle of a bin of delays."""
    return float(2 ** ((number - 0.5) / _BINS_PER_DOUBLING) - 1)


def delay_bounds(middle: float) -> tuple[float, float]:
    """Returns the first and the last second of the bin of delays whose middle is `middle` seconds."""
    half_bin = 2 ** (0.5 / _BINS_PER_DOUBLING)
    return max(0.0, (middle + 1) / half_bin - 1), (middle + 1) * half_bin - 1


def span_seconds(number: int) -> float:
    """Returns the seconds in the middle of a bin of spans."""
    return float(2 ** ((number - 0.5) / _BINS_PER_DOUBLING)) / 10


def quantiles(
    counts: Mapping[int, int], shares: Iterable[float], bin_seconds: Callable[[int], float] = delay_seconds
) -> list[float] | None:
    """Returns, for each share, the seconds below which this share of all durations lies: the median for 0.5.

    counts: number of durations by bin. bin_seconds: returns the seconds of a bin, on its scale. Returns None
    if no duration was counted.
    """
    total = sum(counts.values())
    if not total:
        return None
    result = []
    for share in shares:
        remaining = share * total
        for number in sorted(counts):
            remaining -= counts[number]
            if remaining <= 0:
                result.append(bin_seconds(number))
                break
    return result
