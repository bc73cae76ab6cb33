"""Geometry of the small pictures that the server draws: pure, in units of a view box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pixel_server.counters.labels import OTHER
from pixel_server.verdicts import CLASSES

SPARK_WIDTH, SPARK_HEIGHT = 5, 20
"""Of a day's bar, with its gap of 1; of the whole."""
MOST_ROWS = 10
"""Of one breakdown."""


class Part(NamedTuple):
    """One part of all hits: where it begins and how wide it is, in percent."""

    name: str
    hits: int
    share: float
    start: float
    width: float


def stack(counts: Mapping[str, int | None], names: Sequence[str] = CLASSES) -> list[Part]:
    """Parts side by side, from 0 to 100. Empty: there is nothing, or it is not known."""
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
    """A path of bars, one a day; what is above zero is seen."""
    most = max((day or 0 for day in days), default=0)
    path = []
    for i, day in enumerate(days):
        if day:
            height = max(1, round(SPARK_HEIGHT * day / most))
            path.append(f"M{SPARK_WIDTH * i} {SPARK_HEIGHT}v-{height}h{SPARK_WIDTH - 1}v{height}z")
    return "".join(path)


def bars(values: Sequence[int | None], width: int, height: int) -> tuple[str, int]:
    """(a path of bars over a width, the highest value)."""
    most = max((value or 0 for value in values), default=0)
    step = width / max(1, len(values))
    bar = step * 0.8 if step > 2 else step
    path = [
        f"M{i * step:.1f} {height}v-{max(1, height * value / most):.1f}h{bar:.1f}V{height}z"
        for i, value in enumerate(values)
        if value
    ]
    return "".join(path), most


def interval(rate: Mapping[str, Any] | None, top: float = 1) -> dict[str, float] | None:
    """An open rate from 0 to 100: low, width up to high (seen also where it is nothing), estimate or -1.

    top: the rate that stands at 100.
    """
    if rate is None:
        return None
    low, high, estimate = rate["low"] / top, rate["high"] / top, rate["estimate"]
    return {
        "low": round(min(100 * low, 99), 2),
        "width": round(max(1, 100 * (high - low)), 2),
        "estimate": -1 if estimate is None else round(100 * estimate / top, 2),
    }


def ranked(rows: Sequence[Mapping[str, Any]], count: str, most: int = MOST_ROWS) -> list[dict[str, Any]]:
    """The `most` rows with most, then `(other)`; each with its share of all, and its width beside the
    greatest of them in percent."""
    named = sorted((row for row in rows if row["name"] != OTHER), key=lambda row: -row[count])
    shown = [*named[:most], *(row for row in rows if row["name"] == OTHER)]
    whole = sum(row[count] for row in rows)
    top = max((row[count] for row in shown), default=0)
    return [
        {
            **row,
            "share": row[count] / whole if whole else None,
            "width": _percent(row[count], top) if top else 0,
        }
        for row in shown
    ]


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 2)
