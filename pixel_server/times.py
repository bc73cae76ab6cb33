"""Lengths of days, local days of time zones, and times as the API writes them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

DAY = 86_400
"""Seconds in a UTC day."""
DAY_MS = DAY * 1000
"""Milliseconds in a UTC day."""
MAX_SECONDS = 253_402_300_799
"""Seconds since 1970 at the end of the year 9999, after which no date can be shown."""


MAX_INSTANT = 2**32 - 1
"""Largest instant that a sender or operator may name, in seconds since 1970: in the year 2106."""

_TWO_DIGITS = tuple(f"{number:02}" for number in range(60))
"""Minutes and seconds as text: `"07"`. A list of a million times takes a third less time with them."""
_leap_second = re.compile(r"(T\d\d:59:)60").sub


class InstantOutOfRangeError(ValueError):
    """An instant is before 1970 or after MAX_INSTANT. The text is the end of a sentence about a field."""

    def __init__(self) -> None:
        super().__init__(f"must lie between 1970-01-01 and {iso(MAX_INSTANT)[:10]}")


def parse_time(text: str) -> datetime:
    """Returns a date, or a date and time with or without an offset, from ISO 8601 or RFC 3339 (section 5.6).

    `"2026-11-24t09:00:00z"` is 9 o'clock in UTC, because RFC 3339 allows small letters. A leap second is read
    as the second before it. Raises ValueError for other text.
    """
    return datetime.fromisoformat(_leap_second(r"\g<1>59", text.strip().upper()))


def parse_instant(text: str, zone: tzinfo | None) -> int:
    """Returns the seconds since 1970 of a date, or of a date and time. A date stands for its first instant.

    zone: zone of a text without an offset; None refuses such a text. Raises InstantOutOfRangeError, or
    another ValueError for other text.
    """
    at = parse_time(text)
    if at.tzinfo is None and zone is None:
        raise ValueError("has no offset")
    try:
        seconds = int((at if at.tzinfo else at.replace(tzinfo=zone)).timestamp())
    except OverflowError:
        raise InstantOutOfRangeError from None
    if not 0 <= seconds <= MAX_INSTANT:
        raise InstantOutOfRangeError
    return seconds


def parse_end_of_day(text: str, zone: tzinfo) -> int:
    """Does the same as `parse_instant`, but a date alone stands for its last instant."""
    try:
        next_day = date.fromisoformat(text.strip()) + timedelta(days=1)
    except ValueError:
        return parse_instant(text, zone)
    except OverflowError:
        raise InstantOutOfRangeError from None
    return parse_instant(next_day.isoformat(), zone)


def iso(seconds: int) -> str:
    """Returns an instant in UTC: `"2026-11-24T08:30:00Z"` for 1795509000 seconds since 1970."""
    return _with_z(datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds"))


def iso_ms(ms: int) -> str:
    """Returns an instant in UTC: `"2026-11-24T08:30:00.250Z"` for 1795509000250 ms since 1970."""
    hour, ms = divmod(ms, 3_600_000)
    second, ms = divmod(ms, 1000)
    return f"{_iso_hour(hour)}:{_TWO_DIGITS[second // 60]}:{_TWO_DIGITS[second % 60]}.{ms:03}Z"


@lru_cache(10_000)
def _iso_hour(number: int) -> str:
    """Returns a UTC hour: `"2026-11-24T08"` for 498752 hours since 1970. Kept, because lists repeat hours."""
    return datetime.fromtimestamp(number * 3600, UTC).isoformat()[:13]


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
