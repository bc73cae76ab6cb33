"""The range picker: what it asks for, what it shows of what was asked."""

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
"""Days. Of one, the chart is by hours."""


def query(params: Mapping[str, str]) -> dict[str, str]:
    """A range as the API takes it, of what a form or the API gives. until: the last day of a form's range.

    Problem 422: `until` is no date.
    """
    found = {name: params[name] for name in ("from", "to", "interval", "tz") if params.get(name)}
    if params.get("until") and "to" not in found:
        try:
            found["to"] = (date.fromisoformat(params["until"]) + timedelta(days=1)).isoformat()
        except (ValueError, OverflowError):
            errors = [{"field": "until", "message": "must be a date, as 2026-11-24"}]
            raise Problem(422, "some parameters cannot be used", errors) from None
    return found


_NAMES = {
    "from": "The first day",
    "to": "The last day",
    "until": "The last day",
    "interval": "The interval",
    "tz": "The time zone",
}


def refused(problem: Problem) -> list[str]:
    """What is wrong with a range, in the words of its form."""
    found = []
    for error in problem.errors or ():
        text = error["message"].replace("must lie before `to`", "must not be after the last")
        found.append(text.capitalize() if text.startswith("the ") else f"{_NAMES[error['field']]} {text}")
    return found


def shown(
    asked: Mapping[str, str], zone: ZoneInfo, wanted: Range, now: float, more: Sequence[tuple[str, str]] = ()
) -> dict[str, Any]:
    """Its dates, the presets as links, what is shown now. more: what links carry on."""
    today = date.fromisoformat(ranges.show(int(now), zone)[:10])
    first, last = (ranges.show(at, wanted.zone)[:10] for at in (wanted.start, wanted.end - 1))
    presets = []
    for days in PRESETS:
        start = (today - timedelta(days=days - 1)).isoformat()
        is_it = not wanted.all_time and (first, last) == (start, today.isoformat())
        hours = [("interval", "hour")] if days == 1 else []
        link = urlencode([*more, ("from", start), ("until", today.isoformat()), *hours])
        presets.append(("Today" if days == 1 else f"{days} days", link, is_it))
    return {
        "presets": [("All time", urlencode(more), wanted.all_time), *presets],
        "from": "" if wanted.all_time else first,
        "until": "" if wanted.all_time else last,
        "interval": wanted.interval,
        "all_time": wanted.all_time,
        "start": wanted.start,
        "last": wanted.end - 1,
        "zone": wanted.zone.key,
        "today": today.isoformat(),
        "of": urlencode(asked),
    }
