"""Opening curves as `curves.js` draws them, and their tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pixel_server.dashboard import formatting
from pixel_server.figures import opening_curve
from pixel_server.figures.opening_curve import Point

HOURS = {1: "1 h", 6: "6 h", 24: "1 d", 48: "2 d", 168: "7 d", 720: "30 d"}
"""Times since sending that a table of opening curves shows, and their labels."""
_SHARES: tuple[Literal["share"], Literal["high"]] = ("share", "high")


def drawn(
    name: str, points: Sequence[Point], rate: Mapping[str, Any] | None, *, with_high: bool = False
) -> dict[str, Any]:
    """Returns a curve as JSON: {name, points, estimate}. points: with shares, which must be known.

    Each point is [hours since sending, share], and with `with_high` its upper bound. The first is sending.
    estimate: [share, text] of the estimated open rate, None if the campaign has no estimate.
    """
    shares = [(point["hours"], point["share"] or 0, point["high"] or 0) for point in points]
    estimate = estimate_text(rate)
    return {
        "name": name,
        "points": [
            [hours, *(round(each, 4) for each in (bounds if with_high else bounds[:1]))]
            for hours, *bounds in [(0, 0, 0), *shares]
        ],
        "estimate": [rate["estimate"], estimate] if rate and estimate else None,
    }


def up_to(points: Sequence[Point] | None, hours: float = float("inf")) -> list[Point]:
    """Returns the points up to a time since sending. Returns [] if they or their shares are not known."""
    return [point for point in points or () if point["share"] is not None and point["hours"] <= hours]


def table(points: Sequence[Point], rate: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns {labels, share, high, estimate}: the times that are over and now, and the shares at each.

    rate: the open rate of all time, or None to leave out now. estimate: see `estimate_text`.
    """
    times = [hours for hours in HOURS if hours <= points[-1]["hours"]]
    share, high = ([opening_curve.share_at(points, each, name) for each in times] for name in _SHARES)
    return {
        "labels": [*(HOURS[each] for each in times), *(["now"] if rate else [])],
        "share": [*share, rate["low"]] if rate else share,
        "high": [*high, rate["high"]] if rate else high,
        "estimate": estimate_text(rate),
    }


def estimate_text(rate: Mapping[str, Any] | None) -> str:
    """Returns the estimated open rate: `"≈ 34%"`, or "" if the rate has no estimate or is exact."""
    if not rate or rate["estimate"] is None or rate["low"] == rate["high"]:
        return ""
    return f"\N{ALMOST EQUAL TO} {formatting.rate_parts(rate)['estimate']}"
