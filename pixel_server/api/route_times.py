"""The seconds that the calls of the API take, by route."""

from __future__ import annotations

from pixel_server.metrics.numbers import Histogram, Values

ROUTE_BOUNDS = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
"""Upper bounds of the histogram's buckets, in seconds."""


class RouteTimes:
    """A histogram for each call of the API that was made, by method and path of its route."""

    def __init__(self) -> None:
        self._histograms: dict[tuple[str, str], Histogram] = {}

    def note(self, method: str, route: str, seconds: float) -> None:
        histogram = self._histograms.get((method, route))
        if histogram is None:
            histogram = self._histograms[method, route] = Histogram(ROUTE_BOUNDS)
        histogram.observe(seconds)

    def values(self) -> Values:
        values: Values = {}
        for labels, histogram in self._histograms.items():
            values |= histogram.values(labels)
        return values
