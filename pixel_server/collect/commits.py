"""Counts the group commits of a process: how long each took, and how many requests it answered."""

from __future__ import annotations

from pixel_server.metrics.numbers import Histogram

COMMIT_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Upper bounds of the histogram's buckets, in seconds. A request waits for at most 0.25 s."""


class Commits:
    """The group commits of a process, over all lanes.

    seconds: histogram of the seconds from a group's departure until it was stored. recorded: number of
    requests that were answered as recorded. Called once a group, so that a hit costs nothing.
    """

    __slots__ = ("recorded", "seconds")

    def __init__(self) -> None:
        self.seconds = Histogram(COMMIT_BOUNDS)
        self.recorded = 0

    def note(self, seconds: float, recorded: int) -> None:
        """Notes that a group is stored."""
        self.seconds.observe(seconds)
        self.recorded += recorded
