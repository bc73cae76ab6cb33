"""Lengths of days, local days of time zones, and times as the API writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

DAY = 86_400
"""Seconds in a UTC day."""
DAY_MS = DAY * 1000
"""Milliseconds in a UTC day."""
MAX_SECONDS = 253_402_300_799
"""Seconds since 1970 at the end of the year 9999, after which no date can be shown."""


def iso(seconds: int) -> str:
    """Returns an instant in UTC: `"2026-11-24T08:30:00Z"` for 1795509000 seconds since 1970."""
    return _with_z(datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds"))


def iso_ms(ms: int) -> str:
    """Returns an instant in UTC: `"2026-11-24T08:30:00.250Z"` for 1795509000250 ms since 1970."""
    return _with_z(datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds"))


def iso_day(number: int) -> str:
    """Returns the date of a UTC day: `"2026-11-24"` for 20781 days since 1970-01-01."""
    return datetime.fromtimestamp(number * DAY, UTC).date().isoformat()


@lru_cache(10_000)
def local_day(at: int, zone: ZoneInfo) -> tuple[str, int, int]:
    """Returns a day of a zone: its date, its first second, and the first second of the next day.

    `("20260329", 1774738800, 1774821600)` is 29 March 2026 in Berlin, a day of 23 hours. at: seconds since
    1970; use the start of a 15-minute bucket, so that few instants fill the cache. The days of every zone
    begin with such a bucket.
    """
    day = datetime.fromtimestamp(at, zone).date()
    start, end = (
        int(datetime(date.year, date.month, date.day, tzinfo=zone).timestamp())
        for date in (day, day + timedelta(days=1))
    )
    return day.strftime("%Y%m%d"), start, end


def _with_z(text: str) -> str:
    return text.removesuffix("+00:00") + "Z"
