"""Ranges of time since a mailing was sent: its first day, 3 days or 7 days, or all time. Pure.

The series of such a range begins with the 15 minutes in which the mailing was sent. It has an interval for
each of the first 48 hours, then an interval for each further 24 hours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from pixel_server.campaigns import retention
from pixel_server.campaigns.campaign import Campaign
from pixel_server.counters.series import BUCKET_SECONDS
from pixel_server.figures import ranges
from pixel_server.figures.ranges import HOUR_THEN_DAY, Range
from pixel_server.problems import Problem, bad_parameter
from pixel_server.times import DAY

PARAMETER = "since_sending"
DAYS = {"24h": 1, "3d": 3, "7d": 7}
"""Days of each limited range, by the value of `since_sending`."""
ALL = "all"
CHOICES = (*DAYS, ALL)
MAX_SERIES_DAYS = 30
"""Largest number of days after sending in the series of `all`. The totals are of all time."""


def parse(query: Mapping[str, str], campaign: Campaign, bucket_days: int, now: float) -> Range:
    """Returns the range of `since_sending`, or of from, to and interval if the query has no `since_sending`.

    A range that is not over yet is the range of all time. bucket_days: days for which the campaign's
    15-minute series is kept. If that of the first hours is removed, `all` has a series of local days. Raises
    Problem 422 if a parameter is invalid, and 409 if parameters cannot be combined, or if the campaign has no
    time of sending or is not sent yet.
    """
    choice = query.get(PARAMETER)
    if choice is None:
        return ranges.parse(query, campaign.time_zone, now)
    _refuse_invalid(query, choice, campaign, now)
    zone = ranges.parse({"tz": query["tz"]} if "tz" in query else {}, campaign.time_zone, now).zone
    start = first_instant(campaign)
    assert start is not None
    end = start + DAYS.get(choice, MAX_SERIES_DAYS) * DAY
    is_all_time = choice == ALL or end > now
    if is_all_time and not has_hours(campaign, bucket_days, now):
        return _by_local_days(start, zone, now)
    return Range(start, min(end, _running_end(start, now)), HOUR_THEN_DAY, zone, is_all_time)


def is_sent(campaign: Campaign, now: float) -> bool:
    """Returns whether the campaign has a time of sending that has passed."""
    return campaign.sent_at is not None and campaign.sent_at <= now


def first_instant(campaign: Campaign) -> int | None:
    """Returns the start (s) of the 15 minutes in which the mailing was sent, or None if it is not known."""
    return None if campaign.sent_at is None else campaign.sent_at // BUCKET_SECONDS * BUCKET_SECONDS


def has_hours(campaign: Campaign, bucket_days: int, now: float) -> bool:
    """Returns whether the series of the first hours after sending is kept."""
    start = first_instant(campaign)
    return start is not None and start >= retention.oldest_bucket(campaign, bucket_days, now)


def includes_sending(campaign: Campaign, period: Range) -> bool:
    """Returns whether a range is all time, or begins at the time of sending or before.

    Returns False if the range is limited and the time of sending is not known.
    """
    start = first_instant(campaign)
    return period.is_all_time or (start is not None and period.start <= start)


def _refuse_invalid(query: Mapping[str, str], choice: str, campaign: Campaign, now: float) -> None:
    if choice not in CHOICES:
        raise bad_parameter(PARAMETER, f"must be one of: {', '.join(CHOICES)}")
    if combined := [name for name in ("from", "to", "interval") if name in query]:
        raise _unfit(combined, f"cannot be combined with `{PARAMETER}`")
    if campaign.sent_at is None:
        raise _unfit([PARAMETER], "needs the campaign's `sent_at`: set it, or use `from` and `to`")
    if campaign.sent_at > now:
        raise _unfit([PARAMETER], "cannot be used before the campaign's `sent_at`")


def _unfit(names: Sequence[str], message: str) -> Problem:
    """Returns the error for valid parameters that do not fit each other or the campaign."""
    errors = [{"field": name, "message": message} for name in names]
    return Problem(409, "some parameters do not fit", errors)


def _running_end(start: int, now: float) -> int:
    """Returns the end of the interval that includes now."""
    step = ranges.HOUR if now < start + ranges.HOURS_END else DAY
    return start + (int(now - start) // step + 1) * step


def _by_local_days(start: int, zone: ZoneInfo, now: float) -> Range:
    """Returns the local days from sending to today, at most MAX_SERIES_DAYS."""
    first = datetime.fromtimestamp(start, zone).date()
    last = min(datetime.fromtimestamp(now, zone).date(), first + timedelta(days=MAX_SERIES_DAYS - 1))
    begin, end = ranges.midnight(first, zone), ranges.midnight(last + timedelta(days=1), zone)
    return Range(begin, end, "day", zone, True)
