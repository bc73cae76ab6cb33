"""How long a round trip to Redis takes, and how long one may take: TCP's smoothed estimate (RFC 6298)."""

from __future__ import annotations

ROOM = 0.05
"""Seconds above the smoothed round trip that are left at least, for a disk or a machine that is busy."""


class RoundTrips:
    """Measured round trips. within: seconds that the next may take, between `at_least` and `at_most`."""

    __slots__ = ("_variation", "at_least", "at_most", "smoothed", "within")

    def __init__(self, at_least: float, at_most: float) -> None:
        self.at_least = at_least
        self.at_most = at_most
        self.within = at_least
        self.smoothed = 0.0
        self._variation = 0.0

    def add(self, seconds: float) -> bool:
        """Adds a round trip; whether it came in time."""
        if self.smoothed:
            self._variation += (abs(seconds - self.smoothed) - self._variation) / 4
            self.smoothed += (seconds - self.smoothed) / 8
        else:
            self.smoothed, self._variation = seconds, seconds / 2
        wanted = self.smoothed + max(4 * self._variation, ROOM)
        self.within = min(self.at_most, max(self.at_least, wanted))
        return seconds <= self.at_most
