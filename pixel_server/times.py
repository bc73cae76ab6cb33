"""Days, and times as the API writes them."""

from __future__ import annotations

from datetime import UTC, datetime

DAY = 86_400
"""Seconds in a UTC day."""
DAY_MS = DAY * 1000
"""Milliseconds in a UTC day."""


def iso(seconds: int) -> str:
    """Returns an instant in UTC: `"2026-11-24T08:30:00Z"` for 1795509000 seconds since 1970."""
    return _with_z(datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds"))


def iso_ms(ms: int) -> str:
    """Returns an instant in UTC: `"2026-11-24T08:30:00.250Z"` for 1795509000250 ms since 1970."""
    return _with_z(datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds"))


def iso_day(number: int) -> str:
    """Returns the date of a UTC day: `"2026-11-24"` for 20781 days since 1970-01-01."""
    return datetime.fromtimestamp(number * DAY, UTC).date().isoformat()


def _with_z(text: str) -> str:
    return text.removesuffix("+00:00") + "Z"
