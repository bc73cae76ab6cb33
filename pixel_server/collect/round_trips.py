"""The timeout of a round trip to Redis, from measured round trips, by TCP's estimate (RFC 6298)."""

from __future__ import annotations

MIN_MARGIN_SECONDS = 0.05
"""Minimum number of seconds by which the timeout exceeds the smoothed round trip, as a disk may be busy."""


class RoundTrips:
    """Measured round trips to one Redis.

    timeout_seconds: seconds that the next round trip may take, between `min_seconds` and `max_seconds`.
    smoothed_seconds: smoothed time of a round trip, 0 before the first.
    """

    __slots__ = (
        "_variation",
        "max_seconds",
        "min_seconds",
        "smoothed_seconds",
        "timeout_seconds",
    )

    def __init__(self, min_seconds: float, max_seconds: float) -> None:
        self.min_seconds = min_seconds
        self.max_seconds = max_seconds
        self.timeout_seconds = min_seconds
        self.smoothed_seconds = 0.0
        self._variation = 0.0

    def add(self, seconds: float) -> bool:
        """Adds a round trip. Returns whether it took at most `max_seconds` seconds."""
        if self.smoothed_seconds:
            self._variation += (abs(seconds - self.smoothed_seconds) - self._variation) / 4
            self.smoothed_seconds += (seconds - self.smoothed_seconds) / 8
        else:
            self.smoothed_seconds, self._variation = seconds, seconds / 2
        estimate = self.smoothed_seconds + max(4 * self._variation, MIN_MARGIN_SECONDS)
        self.timeout_seconds = min(self.max_seconds, max(self.min_seconds, estimate))
        return seconds <= self.max_seconds
