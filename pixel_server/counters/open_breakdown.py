"""What opens of people break down into: mail clients, devices, countries, and how long to the first open.

Counted by day of the campaign's zone. One hash a campaign and shard: by month (YYYYMM), and under ALL of all
time; each value is msgpack of [format, {day of the month, or 0: {label: count}}]. A label is one letter, then
a name out of a fixed list: so there are some 300 at most, whatever strangers send.

Times to open are counted in bins, each an eleventh wider than the one before: of a median that is read from
them, no more is known than that it lies in its bin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import log2

import msgspec
from iptocc import country_code

from pixel_server.addresses import unpack as unpack_address
from pixel_server.counters.labels import UNKNOWN
from pixel_server.counters.series import refuse_newer

FORMAT = 1
ALL = "all"
CLIENT, DEVICE, COUNTRY, DELAY, PAGE, VISIT = "c", "d", "n", "t", "p", "v"
"""First letters of labels: of what they are the name, or the bin: DELAY of a time to open, PAGE and VISIT of
a time on a page and of a visit. Stored in every label: append only."""

_BINS = 8
"""Bins in which a time doubles. Stored labels hold the number of a bin: never change this."""
MOST_BIN = 250
ERROR = 2 ** (0.5 / _BINS) - 1
"""Relative error of a time that is read from its bin, at most."""

Counts = dict[str, int]
Days = dict[int, Counts]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, Days]).decode


def pack(days: Days) -> bytes:
    """Without what is zero."""
    kept = {day: {label: n for label, n in sorted(counts.items()) if n} for day, counts in days.items()}
    return _encode((FORMAT, {day: counts for day, counts in sorted(kept.items()) if counts}))


def unpack(value: bytes | None) -> Days:
    """NewerFormat: a newer version wrote it."""
    if value is None:
        return {}
    refuse_newer(value, FORMAT, "breakdown")
    return _decode(value)[1]


def add(days: Days, day: int, counts: Mapping[str, int]) -> None:
    """Adds counts to one day. They may be negative; what comes out is not."""
    known = days.setdefault(day, {})
    for label, count in counts.items():
        known[label] = max(0, known.get(label, 0) + count)


def country(address: bytes) -> str:
    """The label of an address's country, by the registries' allocations (the package iptocc)."""
    return COUNTRY + (country_code(unpack_address(address)) or UNKNOWN)


def delay_bin(seconds: int) -> int:
    """The bin of a time to open, 1 to MOST_BIN; 0 for one that cannot be: opened before it was sent."""
    return min(MOST_BIN, 1 + int(_BINS * log2(seconds + 1))) if seconds >= 0 else 0


def span_bin(ms: int) -> int:
    """The bin of a time on a page or of a visit, 1 to MOST_BIN; the first holds all below 0.11 s."""
    return min(MOST_BIN, 1 + int(_BINS * log2(max(ms, 100) / 100)))


def span_of(number: int) -> float:
    """The middle of such a bin, seconds."""
    return float(2 ** ((number - 0.5) / _BINS)) / 10


def delay_of(number: int) -> float:
    """The middle of a bin, seconds."""
    return float(2 ** ((number - 0.5) / _BINS) - 1)


def quantiles(
    counts: Mapping[int, int], at: Iterable[float], of: Callable[[int], float] = delay_of
) -> list[float] | None:
    """Times below which these shares of all lie, in seconds. counts: by bin. None: there are none."""
    total = sum(counts.values())
    if not total:
        return None
    found = []
    for share in at:
        left = share * total
        for number in sorted(counts):
            left -= counts[number]
            if left <= 0:
                found.append(of(number))
                break
    return found
