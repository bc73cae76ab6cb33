"""Opening curves as `curves.js` draws them, and their tables. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pixel_server.dashboard import formatting
from pixel_server.figures import opening_curve
from pixel_server.figures.opening_curve import Point

HOURS = {1: "1 h", 6: "6 h", 24: "1 d", 48: "2 d", 168: "7 d", 720: "30 d"}
"""Times since sending that a table of opening curves shows, and their labels."""


def drawn(
    name: str, points: Sequence[Point], rate: Mapping[str, Any] | None, *, with_high: bool = False
) -> dict[str, Any]:
    """Returns a curve as JSON: {name, points, isWhole, estimate}. points: with shares, which must be known.

    Each point is [hours since sending, share], and with `with_high` its upper bound. The first is sending.
    isWhole: see `is_whole`. estimate: [share, text] of the estimated open rate, None if the campaign has no
    estimate.
    """
    shares = [(point["hours"], point["share"] or 0, point["high"] or 0) for point in points]
    estimate = estimate_text(rate)
    return {
        "name": name,
        "points": [
            [hours, *(round(each, 4) for each in (bounds if with_high else bounds[:1]))]
            for hours, *bounds in [(0, 0, 0), *shares]
        ],
        "isWhole": is_whole(points),
        "estimate": [rate["estimate"], estimate] if rate and estimate else None,
    }


def up_to(points: Sequence[Point] | None, hours: float = float("inf")) -> list[Point]:
    """Returns the points up to a time since sending. Returns [] if they or their shares are not known."""
    return [point for point in points or () if point["share"] is not None and point["hours"] <= hours]


def is_whole(points: Sequence[Point]) -> bool:
    """Returns whether the shares of a curve are written in whole percent, as the open rate of its end is."""
    last = points[-1]
    return (last["high"] or 0) - (last["share"] or 0) > formatting.MAX_EXACT_SPAN


def share_texts(points: Sequence[Point], times: Iterable[float]) -> list[str]:
    """Returns the shares opened by people at some times (hours since sending): `["9%", "27%"]`."""
    shares = [opening_curve.share_at(points, each) for each in times]
    return [_text(each, formatting.low_end, points) for each in shares]


def table(points: Sequence[Point], rate: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns {labels, share, high, estimate}: the times that are over and now, and the text of each share.

    rate: the open rate of all time, or None to leave out now. estimate: see `estimate_text`.
    """
    times = [hours for hours in HOURS if hours <= points[-1]["hours"]]
    highs = [opening_curve.share_at(points, each, "high") for each in times]
    share, high = share_texts(points, times), [_text(each, formatting.high_end, points) for each in highs]
    now = formatting.rate_parts(rate)
    return {
        "labels": [*(HOURS[each] for each in times), *(["now"] if rate else [])],
        "share": [*share, now["low"]] if rate else share,
        "high": [*high, now["high"]] if rate else high,
        "estimate": estimate_text(rate),
    }


def _text(share: float | None, whole: Callable[[float], str], points: Sequence[Point]) -> str:
    return whole(share) if share is not None and is_whole(points) else formatting.share(share)


def estimate_text(rate: Mapping[str, Any] | None) -> str:
    """Returns the estimated open rate: `"≈ 34%"`, or "" if the rate has no estimate or is exact."""
    if not rate or rate["estimate"] is None or rate["low"] == rate["high"]:
        return ""
    return f"\N{ALMOST EQUAL TO} {formatting.rate_parts(rate)['estimate']}"
