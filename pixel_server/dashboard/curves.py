"""Opening curves as `curves.js` draws them, and their tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pixel_server.dashboard import formatting
from pixel_server.figures import opening_curve
from pixel_server.figures.opening_curve import Point

HOURS = {1: "1 h", 6: "6 h", 24: "1 d", 48: "2 d", 168: "7 d", 720: "30 d"}
"""Times since sending that a table of opening curves shows, and their labels."""


def drawn(
    name: str, points: Sequence[Point], rate: Mapping[str, Any] | None, *, with_high: bool = False
) -> dict[str, Any]:
    """Returns a curve as JSON: {name, points, estimate}. points: with shares, which must be known.

    Each point is [hours since sending, share], and with `with_high` its upper bound. The first is sending.
    estimate: [share, text] of the estimated open rate, None if the campaign has no estimate.
    """
    shares = [(point["hours"], point["share"] or 0, point["high"] or 0) for point in points]
    estimate = rate["estimate"] if rate and rate["low"] != rate["high"] else None
    return {
        "name": name,
        "points": [
            [hours, *(round(each, 4) for each in (bounds if with_high else bounds[:1]))]
            for hours, *bounds in [(0, 0, 0), *shares]
        ],
        "estimate": estimate and [estimate, f"\N{ALMOST EQUAL TO} {formatting.rate_parts(rate)['estimate']}"],
    }


def up_to(points: Sequence[Point] | None, hours: float = float("inf")) -> list[Point]:
    """Returns the points up to a time since sending. Returns [] if they or their shares are not known."""
    return [point for point in points or () if point["share"] is not None and point["hours"] <= hours]


def table(points: Sequence[Point]) -> dict[str, Any]:
    """Returns {labels, share, high}: the times that are over, and the shares at each."""
    times = [hours for hours in HOURS if hours <= points[-1]["hours"]]
    return {
        "labels": [HOURS[each] for each in times],
        "share": [opening_curve.share_at(points, each) for each in times],
        "high": [opening_curve.share_at(points, each, "high") for each in times],
    }
