"""The range picker of a page: reads the range of a query, and makes the links and dates of the picker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from pixel_server.api.context import Api
from pixel_server.api.stats import bucket_days
from pixel_server.campaigns.campaign import Campaign
from pixel_server.dashboard.glossary import DIMENSION_NAMES
from pixel_server.figures import ranges, sending_ranges
from pixel_server.figures.ranges import Range
from pixel_server.problems import Problem
from pixel_server.times import DAY

PRESETS = (1, 7, 30, 90, 365)
"""Days of each preset range. The chart of one day is by hours."""
PARAMS = ("from", "to", "interval", "tz", sending_ranges.PARAMETER)
"""Parameters of a range in the API's form."""
SINCE_SENDING = {"24h": "24 hours", "3d": "3 days", "7d": "7 days"}
"""Labels of the limited ranges since sending."""


def query(params: Mapping[str, str]) -> dict[str, str]:
    """Returns the parameters of a range in the API's form: `until`, the last day in a form, becomes `to`.

    Raises Problem 422 if `until` is not a date.
    """
    api_query = {name: params[name] for name in PARAMS if params.get(name)}
    if params.get("until") and "to" not in api_query:
        try:
            api_query["to"] = (date.fromisoformat(params["until"]) + timedelta(days=1)).isoformat()
        except (ValueError, OverflowError):
            errors = [{"field": "until", "message": "must be a date, for example 2026-11-24"}]
            raise Problem(422, "some parameters cannot be used", errors) from None
    return api_query


def parse(api: Api, campaign: Campaign, range_query: Mapping[str, str], now: float) -> Range:
    """Returns the range of a query. Raises Problem 422 if a parameter is invalid."""
    return sending_ranges.parse(range_query, campaign, bucket_days(api, campaign), now)


def with_default(range_query: dict[str, str], campaign: Campaign, now: float) -> dict[str, str]:
    """Returns the query, with all time since sending if it has no range and the mailing was sent."""
    has_range = any(name in range_query for name in ("from", "to", "interval", sending_ranges.PARAMETER))
    if has_range or not sending_ranges.is_sent(campaign, now):
        return range_query
    return {**range_query, sending_ranges.PARAMETER: sending_ranges.ALL}


def days(time_zone: str, range_query: Mapping[str, str], now: float) -> Range:
    """Returns the range by days, which breakdowns need, whatever the interval of the page's chart."""
    by_days = {name: value for name, value in range_query.items() if name in ("from", "to", "tz")}
    return ranges.parse(by_days, time_zone, now)


_FIELD_LABELS = {
    **{name: f"The filter {label}" for name, label in DIMENSION_NAMES.items()},
    "from": "The first day",
    "to": "The last day",
    "until": "The last day",
    "interval": "The interval",
    "tz": "The time zone",
    sending_ranges.PARAMETER: "The time since sending",
}


def error_messages(problem: Problem) -> list[str]:
    """Returns the error messages of a refused range or filter: `"The first day must be a date"`."""
    messages = [_error_message(error) for error in problem.errors or ()]
    return messages or [problem.detail[0].upper() + problem.detail[1:]]


def _error_message(error: Mapping[str, str]) -> str:
    text = error["message"].replace("must lie before `to`", "must not be after the last")
    if error["field"] in ("from", "to", "until") and text.startswith("must be a date"):
        text = "must be a date"
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
        "presets": [*presets, ("All time", urlencode(more), period.is_all_time)],
        "label": "All time" if period.is_all_time else "",
        "chart_days": f"the last {ranges.DEFAULT_DAYS} days" if period.is_all_time else "",
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


def _preset_label(choice: str) -> str:
    """Returns the label of a range since sending. The first says that the ranges begin with sending."""
    label = SINCE_SENDING[choice]
    return f"First {label}" if choice == next(iter(SINCE_SENDING)) else label


def since_sending(
    api: Api, campaign: Campaign, range_query: Mapping[str, str], period: Range, now: float
) -> dict[str, Any]:
    """Returns the picker of a mailing that was sent. Its presets are ranges since sending.

    The limited ranges are offered while the series of the first hours is kept.
    """
    chosen = range_query.get(sending_ranges.PARAMETER, "")
    start = sending_ranges.first_instant(campaign) or 0
    has_hours = sending_ranges.has_hours(campaign, bucket_days(api, campaign), now)
    presets = [
        (_preset_label(choice), urlencode({sending_ranges.PARAMETER: choice}), choice == chosen)
        for choice in SINCE_SENDING
        if has_hours or choice == chosen
    ]
    picker = context(range_query, campaign.zone, period, now)
    is_limited = chosen in SINCE_SENDING and not period.is_all_time
    dates = {"from": "", "until": "", "interval": "day"} if chosen else {}
    is_cut = now >= start + sending_ranges.MAX_SERIES_DAYS * DAY
    chart_days = {}
    if chosen in SINCE_SENDING:
        chart_days = {"chart_days": f"the first {SINCE_SENDING[chosen]}"}
    elif chosen:
        whole = f"the first {sending_ranges.MAX_SERIES_DAYS} days" if is_cut else "since sending"
        chart_days = {"chart_days": whole}
    label = f"The first {SINCE_SENDING[chosen]} after sending" if is_limited else picker["label"]
    return {
        **picker,
        **dates,
        "presets": [*presets, ("All time", "", chosen == sending_ranges.ALL)],
        "label": label,
        **chart_days,
    }
