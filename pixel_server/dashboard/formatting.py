"""Formats numbers, shares, times and differences for pages. Pure. An unknown value becomes a dash.

The rule: a page shows no digit that the figure does not know, and writes each kind of value in one way.

- Counts are exact and have all their digits: `1,204`.
- Shares have one decimal, because they are compared: `13.0%`.
- The limits of a share that is not known exactly are in whole percent.
- The parts of an open rate are in whole percent if the rate is known less exactly than that: `27%` to `55%`.
- Durations are known within 5%, so they have two digits or so: `36 min`, `2 h 10 min`.
- Times are to the minute, in the zone of the campaign: `17 Nov 2026, 08:30 CET`. In a log of
  events they are to the second, so that its lines can be told apart: `17 Nov 2026, 08:30:07 UTC`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from pixel_server.times import DAY

UNKNOWN = "\N{EN DASH}"
MAX_EXACT_SPAN = 0.02
"""Largest distance of the ends of an open rate that is written with a decimal."""
_TINY = 1e-9
"""More than the error of a whole percent as a float."""
RATE_PARTS = ("low", "high", "estimate")
_MINUTE, _HOUR = 60, 3600
_UNITS = (
    ("min", _MINUTE, "s", 1, 5, _HOUR),
    ("h", _HOUR, "min", _MINUTE, 5 * _MINUTE, DAY),
    ("d", DAY, "h", _HOUR, _HOUR, 10 * DAY),
)
"""Unit, its seconds, the next smaller unit, its seconds, seconds to which both are rounded, seconds of the
limit from which the next unit is used."""


def number(value: float | None) -> str:
    """Returns `"1,204"` for 1204."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def counted(value: float | None, noun: str, plural: str = "") -> str:
    """Returns `"1 recipient"`, `"1,204 recipients"`. plural: by default the noun with an s."""
    return f"{number(value)} {noun if value == 1 else plural or noun + 's'}"


def share(value: float | None) -> str:
    """Returns `"13.0%"` for 0.1304, `"100%"` for 1."""
    if value is None:
        return UNKNOWN
    return f"{value:.0%}" if value in (0, 1) else f"{value:.1%}"


def share_range(low: float | None, high: float | None) -> str:
    """Returns the limits of a share in whole percent, or the share itself if they agree.

    `low` is rounded down and `high` up, so that the true share never lies outside.
    """
    if low is None or high is None or low == high:
        return share(low)
    return f"{math.floor(100 * low + _TINY)}\N{EN DASH}{math.ceil(100 * high - _TINY)}%"


def rate(value: float | None, low: float, high: float) -> str:
    """Returns a part of an open rate that lies between `low` and `high`.

    The text is in whole percent if they are more than MAX_EXACT_SPAN apart: `"34%"`, else as `share` writes.
    `low` is rounded down and `high` up, so that what is said to be certain is.
    """
    if value is None or high - low <= MAX_EXACT_SPAN:
        return share(value)
    if value == low:
        return low_end(value)
    return high_end(value) if value == high else _whole(value, round(value * 100))


def low_end(value: float) -> str:
    """Returns the low end of an uncertain open rate: `"27%"` for 0.279."""
    return _whole(value, math.floor(value * 100 + _TINY))


def high_end(value: float) -> str:
    """Returns the high end of an uncertain open rate: `"28%"` for 0.271."""
    return _whole(value, math.ceil(value * 100 - _TINY))


def _whole(value: float, percent: int) -> str:
    return "under 1%" if percent == 0 < value else f"{percent}%"


def rate_parts(open_rate: Mapping[str, Any] | None) -> dict[str, str]:
    """Returns the texts of an open rate's `low`, `high` and `estimate`: dashes if the rate is not known."""
    if open_rate is None:
        return dict.fromkeys(RATE_PARTS, UNKNOWN)
    return {part: rate(open_rate[part], open_rate["low"], open_rate["high"]) for part in RATE_PARTS}


def interval(ends: Sequence[float]) -> str:
    """Returns the two ends of an interval of open rates: `"32% to 37%"`."""
    low, high = ends
    return f"{rate(low, low, high)} to {rate(high, low, high)}"


def span(seconds: float | None) -> str:
    """Returns a duration: `"36 min"`.

    Below 10 of a unit, the next smaller unit follows, rounded to 5 s, 5 min or 1 h: `"2 min 10 s"`.
    """
    if seconds is None:
        return UNKNOWN
    if round(seconds) < _MINUTE:
        return f"{seconds:.0f} s" if seconds >= 1 else "under 1 s" if seconds else "0 s"
    for unit, size, smaller_unit, smaller_size, step, limit in _UNITS:
        rounded = _round_to(seconds, step)
        if rounded < 10 * size:
            rest = rounded % size // smaller_size
            return f"{rounded // size} {unit}" + (f" {rest} {smaller_unit}" if rest else "")
        rounded = _round_to(seconds, size)
        if rounded < limit:
            return f"{rounded // size} {unit}"
    return f"{_round_to(seconds, DAY) // DAY:,} d"


def instant(at: str | float | None, zone: str = "UTC") -> str:
    """Returns an instant as `26 Nov 2026, 10:54 UTC`. at: ISO 8601, or seconds since 1970."""
    return _instant(at, zone, "%H:%M")


def log_time(at: str | float) -> str:
    """Returns the instant of a line of a log: `26 Nov 2026, 10:54:07 UTC`. at: as for `instant`."""
    return _instant(at, "UTC", "%H:%M:%S")


def _instant(at: str | float | None, zone: str, clock_format: str) -> str:
    utc = _parse(at)
    if utc is None:
        return UNKNOWN
    local = utc.astimezone(ZoneInfo(zone))
    name = local.tzname() or ""
    # The time zone database names zones without an abbreviation by their offset: +0330.
    return (
        f"{local.day} {local:%b %Y}, {local:{clock_format}} {'UTC' if name[:1] in ('+', '-') else ''}{name}"
    )


def instant_here(at: str | float, zone: str) -> str:
    """Returns an instant without its zone, for a column whose page names the zone: `26 Nov 2026, 10:54`."""
    return instant(at, zone).rpartition(" ")[0]


def day(at: str | float, zone: str = "UTC") -> str:
    """Returns the date of an instant in a time zone: `26 Nov 2026`."""
    utc = _parse(at)
    assert utc is not None
    local = utc.astimezone(ZoneInfo(zone))
    return f"{local.day} {local:%b %Y}"


def iso(at: str | float) -> str:
    """Returns an instant for the `datetime` attribute of a `<time>` element: `2026-11-26T10:54:07+00:00`."""
    utc = _parse(at)
    assert utc is not None
    return utc.isoformat(timespec="seconds")


def ago(at: float | None, now: float) -> str:
    """Returns how long ago an instant was, in the largest unit: `"3 h ago"`."""
    if at is None:
        return "never"
    passed = max(0, int(now - at))
    for size, unit in ((DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if passed >= size:
            return f"{passed // size} {unit} ago"
    return "just now"


def change(now: float | None, before: float | None) -> str:
    """Returns the relative change: `"+12.3%"`. Returns "" if a value is unknown or `before` is 0."""
    if now is None or not before:
        return ""
    return _signed(100 * (now - before) / before, "%")


def points(now: float | None, before: float | None) -> str:
    """Returns the difference of two shares in percentage points: `"+1.5 points"`."""
    return "" if now is None or before is None else _signed(100 * (now - before), " points")


def whole_points(difference: float) -> str:
    """Returns the size of a difference of two shares: `"34 points"`, `"1 point"`, `"less than 1 point"`."""
    size = round(100 * abs(difference))
    return counted(size, "point") if size else "less than 1 point"


def between(low: float, high: float) -> str:
    """Returns an interval of a difference in whole percentage points, without the unit: `"+3 to +22"`."""
    ends = (f"{round(100 * end):+d}" for end in (low, high))
    return " to ".join("0" if end == "+0" else end.replace("-", "\N{MINUS SIGN}") for end in ends)


def _round_to(seconds: float, step: int) -> int:
    return round(seconds / step) * step


def _signed(value: float, unit: str) -> str:
    rounded = round(value, 1)
    if rounded == 0:
        return f"±0{unit}"
    return f"{rounded:+.1f}{unit}".replace("-", "\N{MINUS SIGN}")


def _parse(at: str | float | None) -> datetime | None:
    if at is None:
        return None
    return datetime.fromisoformat(at) if isinstance(at, str) else datetime.fromtimestamp(at, UTC)
