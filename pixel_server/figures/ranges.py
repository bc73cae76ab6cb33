"""Ranges of time, read from a query, and their intervals. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from pixel_server.counters.series import BUCKET_SECONDS
from pixel_server.problems import bad_parameter, bad_parameters
from pixel_server.settings import time_zones
from pixel_server.times import DAY, parse_time

Interval = Literal["15m", "hour", "day", "hour_then_day"]
HOUR_THEN_DAY: Interval = "hour_then_day"
"""Interval of ranges since sending (`sending_ranges`): an hour for 48 hours, then 24 hours."""
INTERVALS: tuple[Interval, ...] = ("15m", "hour", "day")
"""Intervals that a query can choose."""
HOUR = 3600
HOURS_END = 48 * HOUR
"""Seconds from the beginning of a range by HOUR_THEN_DAY to its first interval of 24 hours."""
DEFAULT_DAYS = 30
"""Number of days of a range whose query has no beginning."""
MAX_DAYS = 3660
"""Largest number of days of a range with the interval `day` in the campaign's own zone."""
MAX_FINE_DAYS = 40
"""Largest number of days of a range that is read from 15-minute buckets: by 15 minutes or hours, or in
another time zone."""
FIRST_YEAR, END_YEAR = 2000, 2100
"""Years in which ranges may lie. END_YEAR is excluded."""


@dataclass(frozen=True, slots=True)
class Range:
    """A range of time in seconds since 1970. It includes `start` and excludes `end`, both interval
    boundaries.

    is_all_time: whether the query has no range. Totals are then of all time, and the series is of the last
    days.
    """

    start: int
    end: int
    interval: Interval
    zone: ZoneInfo
    is_all_time: bool

    def starts(self) -> list[int]:
        """Returns the start of each interval, in seconds."""
        if self.interval == "15m":
            return list(range(self.start, self.end, BUCKET_SECONDS))
        if self.interval == HOUR_THEN_DAY:
            days_start = self.start + HOURS_END
            return [
                *range(self.start, min(self.end, days_start), HOUR),
                *range(days_start, self.end, DAY),
            ]
        if self.interval == "hour":
            return [at for at in range(self.start, self.end, BUCKET_SECONDS) if _is_hour(at, self.zone)]
        day = _date(self.start, self.zone)
        days: list[int] = []
        while (at := midnight(day, self.zone)) < self.end:
            if at not in days[-1:]:  # a zone may leave out a day, as Samoa did on 2011-12-30
                days.append(at)
            day += timedelta(days=1)
        return days


def parse(query: Mapping[str, str], own_zone: str, now: float) -> Range:
    """Returns the range of the parameters from, to, interval and tz. Raises Problem 422 with all errors."""
    errors: list[dict[str, str]] = []
    interval: Interval = "day"
    for choice in INTERVALS:
        if query.get("interval") == choice:
            interval = choice
    if query.get("interval", interval) != interval:
        errors.append({"field": "interval", "message": f"must be one of: {', '.join(INTERVALS)}"})
    name = query.get("tz", own_zone)
    if name not in time_zones():
        errors.append({"field": "tz", "message": "must be a name from the IANA time zone database"})
        name = own_zone
    zone = ZoneInfo(name)
    ends: dict[str, int | None] = {"from": None, "to": None}
    for field in ends:
        if field in query:
            try:
                ends[field] = _boundary(query[field], interval, zone)
            except ValueError as error:
                errors.append({"field": field, "message": str(error)})
    if errors:
        raise bad_parameters(errors)
    start, end = ends["from"], ends["to"]
    if end is None:
        end = _after(now, interval, zone)
    if start is None:
        start = midnight(_date(end - 1, zone) - timedelta(days=DEFAULT_DAYS - 1), zone)
    if start >= end:
        raise bad_parameter("from", "must lie before `to`")
    max_days = MAX_DAYS if interval == "day" and name == own_zone else MAX_FINE_DAYS
    if end - start > max_days * DAY + DAY:
        raise bad_parameter("from", f"the range may have {max_days} days at most at this interval and zone")
    return Range(start, end, interval, zone, "from" not in query and "to" not in query)


def by_days(time_range: Range) -> Range | None:
    """Returns the same range with interval `day`, or None if it does not begin and end at midnight."""
    if not all(_is_boundary(at, "day", time_range.zone) for at in (time_range.start, time_range.end)):
        return None
    return replace(time_range, interval="day")


def midnight(day: date, zone: ZoneInfo) -> int:
    """Returns the first instant of a local day."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def show(at: int, zone: ZoneInfo) -> str:
    """Returns an instant in a zone: `"2026-11-24T09:00:00+01:00"`. at: seconds."""
    return datetime.fromtimestamp(at, zone).isoformat()


def _date(at: float, zone: ZoneInfo) -> date:
    return datetime.fromtimestamp(at, zone).date()


def _boundary(text: str, interval: Interval, zone: ZoneInfo) -> int:
    try:
        # A "+" that was not encoded in a query arrives as a space.
        when = parse_time(text.strip().replace(" ", "+"))
    except ValueError:
        raise ValueError(
            "must be a date, or a date and time, as 2026-11-24 or 2026-11-24T09:00:00Z"
        ) from None
    if not FIRST_YEAR <= when.year < END_YEAR:
        raise ValueError(f"must lie in the years {FIRST_YEAR} to {END_YEAR - 1}")
    at = int((when if when.tzinfo else when.replace(tzinfo=zone)).timestamp())
    if when.microsecond or not _is_boundary(at, interval, zone):
        boundary = {"15m": "minute 0, 15, 30 or 45", "hour": "a full hour", "day": "midnight"}[interval]
        raise ValueError(f"must be a time at which an interval begins: {boundary} in {zone.key}")
    return at


def _is_boundary(at: int, interval: Interval, zone: ZoneInfo) -> bool:
    if interval == "day":
        return midnight(_date(at, zone), zone) == at
    return at % BUCKET_SECONDS == 0 and (interval == "15m" or _is_hour(at, zone))


def _is_hour(at: int, zone: ZoneInfo) -> bool:
    """Returns whether the wall clock shows a full hour, or is put back or forward at this instant."""
    local_time = datetime.fromtimestamp(at, zone)
    if local_time.minute == 0:
        return True
    return local_time.utcoffset() != datetime.fromtimestamp(at - 1, zone).utcoffset()


def _after(now: float, interval: Interval, zone: ZoneInfo) -> int:
    """Returns the first interval boundary after now, in seconds."""
    if interval == "day":
        return midnight(_date(now, zone) + timedelta(days=1), zone)
    at = (int(now) // BUCKET_SECONDS + 1) * BUCKET_SECONDS
    while not _is_boundary(at, interval, zone):
        at += BUCKET_SECONDS
    return at
