"""Geometry of the small charts that the server draws. Pure. Lengths are in units of the view box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pixel_server.counters.labels import OTHER
from pixel_server.counters.web_breakdown import NONE
from pixel_server.verdicts import CLASSES

SPARK_WIDTH, SPARK_HEIGHT = 5, 20
"""Width of a day's bar with its gap of 1, and height of the chart."""
MAX_ROWS = 10
"""Number of named rows of one breakdown. A single row that is left over is shown too."""


class Part(NamedTuple):
    """One part of a stacked bar. share: from 0 to 1. start, width: percent of the bar."""

    name: str
    hits: int
    share: float
    start: float
    width: float


def stack(counts: Mapping[str, int | None], names: Sequence[str] = CLASSES) -> list[Part]:
    """Returns the parts of a stacked bar. Returns an empty list if all counts are 0 or unknown."""
    whole = sum(counts[name] or 0 for name in names)
    if not whole:
        return []
    parts, before = [], 0
    for name in names:
        count = counts[name] or 0
        parts.append(Part(name, count, count / whole, _percent(before, whole), _percent(count, whole)))
        before += count
    return parts


def spark(days: Sequence[int | None]) -> str:
    """Returns the path of a chart with one bar per day. The bar of a day with hits is at least 1 high."""
    highest = max((day or 0 for day in days), default=0)
    path = []
    for i, day in enumerate(days):
        if day:
            height = max(1, round(SPARK_HEIGHT * day / highest))
            path.append(f"M{SPARK_WIDTH * i} {SPARK_HEIGHT}v-{height}h{SPARK_WIDTH - 1}v{height}z")
    return "".join(path)


def bars(
    values: Sequence[float | None], width: int, height: int, weights: Sequence[float] | None = None
) -> tuple[str, float]:
    """Returns the path of a bar chart, and the highest value.

    weights: the bars' widths relative to each other. By default all bars have the same width.
    """
    highest = max((value or 0 for value in values), default=0)
    weights = weights or [1] * len(values)
    unit, path, left = width / max(1, sum(weights)), [], 0.0
    for value, weight in zip(values, weights, strict=True):
        step = weight * unit
        if value:
            bar, bar_height = step * 0.8 if step > 2 else step, max(1, height * value / highest)
            path.append(f"M{left:.1f} {height}v-{bar_height:.1f}h{bar:.1f}V{height}z")
        left += step
    return "".join(path), highest


def open_rate_bar(rate: Mapping[str, Any] | None, top: float = 1) -> dict[str, float] | None:
    """Returns the bar of an open rate in percent: low, width, and estimate (-1 if not known).

    width: from low to high; 0 if they agree, else at least 1. top: the rate at the right end of the scale.
    Returns None if `rate` is None.
    """
    if rate is None:
        return None
    low, high, estimate = rate["low"] / top, rate["high"] / top, rate["estimate"]
    return {
        "low": round(100 * low if low == high else min(100 * low, 99), 2),
        "width": round(max(1, 100 * (high - low)), 2) if high > low else 0,
        "estimate": -1 if estimate is None else round(100 * estimate / top, 2),
    }


def ranked(
    rows: Sequence[Mapping[str, Any]], count_field: str, max_rows: int = MAX_ROWS, unnamed: int = 0
) -> list[dict[str, Any]]:
    """Returns the rows with the highest counts, then `(none)` and `(other)`, with their shares and bars.

    count_field: the field of a row that holds its count. unnamed: the most that can belong to the rows or to
    other names without being in their counts. If it is not 0, `rows` must not have `(other)`.
    share: the count divided by the sum over all rows and `unnamed`, also if the row has another share.
    share_high: the same for the count with `unnamed`. width, width_high: these two as bars, in percent of the
    longest bar.

    The rows `(none)` and `(other)` are no names (`is_nameless`). `(none)` is often much longer than all
    others, such as the visits without a UTM parameter, so the scale is that of the other rows. Its bar is cut
    at 100 % (`is_cut`).
    """
    named = _named(rows, count_field)
    nameless = sorted((row for row in rows if row["name"] in (NONE, OTHER)), key=lambda row: row["name"])
    shown = [*named[: _shown_count(named, max_rows)], *nameless]
    whole = sum(row[count_field] for row in rows) + unnamed
    top = max((row[count_field] + unnamed for row in shown if row["name"] != NONE), default=0)
    return [
        {
            **row,
            **_shares(row[count_field], unnamed, whole),
            "width": min(100, _percent(row[count_field], top)) if top else 0,
            "width_high": min(100, _percent(row[count_field] + unnamed, top)) if top else 0,
            "is_nameless": row["name"] in (NONE, OTHER),
            "is_cut": 0 < top < row[count_field] + unnamed,
        }
        for row in shown
    ]


def rest(
    rows: Sequence[Mapping[str, Any]], count_field: str, max_rows: int = MAX_ROWS, unnamed: int = 0
) -> dict[str, Any] | None:
    """Returns what `ranked` leaves out: number of rows, their count and its shares. None if it shows all.

    count_field: the field that holds a row's count, and that holds the sum in the result. unnamed, share,
    share_high: as in `ranked`.
    """
    named = _named(rows, count_field)
    left_out = named[_shown_count(named, max_rows) :]
    if not left_out:
        return None
    whole = sum(row[count_field] for row in rows) + unnamed
    count = sum(row[count_field] for row in left_out)
    return {"number": len(left_out), count_field: count, **_shares(count, unnamed, whole)}


def _shares(count: int, unnamed: int, whole: int) -> dict[str, float | None]:
    return {
        "share": count / whole if whole else None,
        "share_high": (count + unnamed) / whole if whole else None,
    }


def _named(rows: Sequence[Mapping[str, Any]], count_field: str) -> list[Mapping[str, Any]]:
    """Returns the rows without `(none)` and `(other)`, the highest counts first."""
    return sorted(
        (row for row in rows if row["name"] not in (NONE, OTHER)), key=lambda row: -row[count_field]
    )


def _shown_count(named: Sequence[Mapping[str, Any]], max_rows: int) -> int:
    """Returns the number of rows that are shown: a row "1 more" would need the room of the row itself."""
    return max_rows + (len(named) == max_rows + 1)


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 2)
