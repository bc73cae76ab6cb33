"""The range picker of a page: reads the range of a query, and makes the links and dates of the picker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from pixel_server.figures import ranges
from pixel_server.figures.ranges import Range
from pixel_server.problems import Problem

PRESETS = (1, 7, 30, 90, 365)
"""Days of each preset range. The chart of one day is by hours."""


def query(params: Mapping[str, str]) -> dict[str, str]:
    """Returns the parameters of a range in the API's form: `until`, the last day in a form, becomes `to`.

    Raises Problem 422 if `until` is not a date.
    """
    api_query = {name: params[name] for name in ("from", "to", "interval", "tz") if params.get(name)}
    if params.get("until") and "to" not in api_query:
        try:
            api_query["to"] = (date.fromisoformat(params["until"]) + timedelta(days=1)).isoformat()
        except (ValueError, OverflowError):
            errors = [{"field": "until", "message": "must be a date, for example 2026-11-24"}]
            raise Problem(422, "some parameters cannot be used", errors) from None
    return api_query


def days(time_zone: str, range_query: Mapping[str, str], now: float) -> Range:
    """Returns the range by days, which breakdowns need, whatever the interval of the page's chart."""
    by_days = {name: value for name, value in range_query.items() if name in ("from", "to", "tz")}
    return ranges.parse(by_days, time_zone, now)


_FIELD_LABELS = {
    "from": "The first day",
    "to": "The last day",
    "until": "The last day",
    "interval": "The interval",
    "tz": "The time zone",
}


def error_messages(problem: Problem) -> list[str]:
    """Returns the error messages of a refused range: `"The first day must be a date"`."""
    return [error_message(error) for error in problem.errors or ()]


def error_message(error: Mapping[str, str]) -> str:
    """Returns the error message of one parameter of a refused range."""
    text = error["message"].replace("must lie before `to`", "must not be after the last")
    return text.capitalize() if text.startswith("the ") else f"{_FIELD_LABELS[error['field']]} {text}"


def context(
    range_query: Mapping[str, str],
    zone: ZoneInfo,
    period: Range,
    now: float,
    more: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Returns the dates, interval and presets that the picker shows. more: other parameters of its links."""
    today = date.fromisoformat(ranges.show(int(now), zone)[:10])
    first, last = (ranges.show(at, period.zone)[:10] for at in (period.start, period.end - 1))
    presets = []
    for days in PRESETS:
        start = (today - timedelta(days=days - 1)).isoformat()
        is_current = not period.is_all_time and (first, last) == (start, today.isoformat())
        hours = [("interval", "hour")] if days == 1 else []
        link = urlencode([*more, ("from", start), ("until", today.isoformat()), *hours])
        presets.append(("Today" if days == 1 else f"{days} days", link, is_current))
    return {
        "presets": [("All time", urlencode(more), period.is_all_time), *presets],
        "from": "" if period.is_all_time else first,
        "until": "" if period.is_all_time else last,
        "interval": period.interval,
        "all_time": period.is_all_time,
        "start": period.start,
        "last": period.end - 1,
        "zone": period.zone.key,
        "today": today.isoformat(),
        "query": urlencode(range_query),
    }
