"""Formats numbers, shares, times and differences for pages. Pure. An unknown value becomes a dash."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from pixel_server.times import DAY

UNKNOWN = "\N{EN DASH}"
_MINUTE, _HOUR = 60, 3600


def number(value: float | None) -> str:
    """Returns `"1,204"` for 1204."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def share(value: float | None) -> str:
    """Returns `"13.0%"` for 0.1304, `"100%"` for 1."""
    if value is None:
        return UNKNOWN
    return f"{value:.0%}" if value in (0, 1) else f"{value:.1%}"


def span(seconds: float | None) -> str:
    """Returns a duration in its two largest units: `"2 min 5 s"`."""
    if seconds is None:
        return UNKNOWN
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    for unit, size, smaller_unit, smaller_size in (("min", _MINUTE, "s", 1), ("h", _HOUR, "min", _MINUTE)):
        if whole < (_HOUR if unit == "min" else DAY):
            rest = whole % size // smaller_size
            return f"{whole // size} {unit}" + (f" {rest} {smaller_unit}" if rest else "")
    hours = whole % DAY // _HOUR
    return f"{whole // DAY} d" + (f" {hours} h" if hours else "")


def instant(at: str | float | None, zone: str = "UTC") -> str:
    """Returns an instant as `26 Nov 2026, 10:54 UTC`. at: ISO 8601, or seconds since 1970."""
    utc = _parse(at)
    if utc is None:
        return UNKNOWN
    local = utc.astimezone(ZoneInfo(zone))
    name = local.tzname() or ""
    # The time zone database names zones without an abbreviation by their offset: +0330.
    return f"{local.day} {local:%b %Y, %H:%M} {'UTC' if name[:1] in ('+', '-') else ''}{name}"


def exact(at: str | float) -> str:
    """Returns an instant with seconds: `26 Nov 2026, 10:54:07 UTC`."""
    utc = _parse(at)
    assert utc is not None
    return f"{utc.day} {utc:%b %Y, %H:%M:%S} UTC"


def day(at: str | float, zone: str) -> str:
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


def between(low: float, high: float) -> str:
    """Returns an interval of a difference in percentage points, without the unit: `"+0.3 to +2.7"`."""
    return f"{_signed(100 * low, '')} to {_signed(100 * high, '')}"


def _signed(value: float, unit: str) -> str:
    rounded = round(value, 1)
    if rounded == 0:
        return f"±0{unit}"
    return f"{rounded:+.1f}{unit}".replace("-", "\N{MINUS SIGN}")


def _parse(at: str | float | None) -> datetime | None:
    if at is None:
        return None
    return datetime.fromisoformat(at) if isinstance(at, str) else datetime.fromtimestamp(at, UTC)
