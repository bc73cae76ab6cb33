"""Counts of people's opens by mail client, device, country and time to open, packed by month.

A campaign has one Redis hash in each shard. Its fields are months of the campaign's zone (YYYYMM), and ALL
for all time. A value is msgpack of [format, {day of the month: {label: count}}]; ALL has the single day 0:
`[1, {24: {"cFirefox": 2, "nDE": 1}}]`.

Names in labels come from fixed lists, so a day has at most some 300 labels, whatever strangers send.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pixel_server.counters.stored_format import refuse_newer

FORMAT = 1
ALL = "all"
"""Field of the counts of all time."""

Counts = dict[str, int]
"""Counts by label."""
Days = dict[int, Counts]
"""Counts by day of the month, or under 0 for all time."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, Days]).decode


def pack(days: Days) -> bytes:
    """Returns the stored bytes. Leaves out zeros and empty days."""
    counted = {day: {label: n for label, n in sorted(counts.items()) if n} for day, counts in days.items()}
    return _encode((FORMAT, {day: counts for day, counts in sorted(counted.items()) if counts}))


def unpack(value: bytes | None) -> Days:
    """Returns the counts of a stored value, and {} for None. Raises NewerFormat."""
    if value is None:
        return {}
    refuse_newer(value, FORMAT, "breakdown")
    return _decode(value)[1]


def add(days: Days, day: int, changes: Mapping[str, int]) -> None:
    """Adds changes to the counts of a day. A change may be negative; a count stops at 0."""
    counts = days.setdefault(day, {})
    for label, change in changes.items():
        counts[label] = max(0, counts.get(label, 0) + change)
