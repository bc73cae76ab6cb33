"""An outage of Redis: how long it lasts, and when hits may go to Redis again."""

from __future__ import annotations

HOLD_SECONDS, MAX_HOLD_SECONDS = 0.25, 30.0
"""Minimum seconds for which hits go to the spool after a failure of Redis. Each failure soon after another
doubles them, from the first value up to the second."""
STEADY_SECONDS = 60.0
"""Seconds without a failure after which HOLD_SECONDS applies again."""


class Outage:
    """The current outage of Redis, or the last outage. Times of the event loop are in seconds.

    is_going_on: whether hits go to the spool. since: when Redis first failed (s since 1970), None if Redis
    stores hits.
    """

    def __init__(self) -> None:
        self.is_going_on = False
        self.since: float | None = None
        self._hold_seconds = HOLD_SECONDS
        self._not_before = 0.0
        self._ended_at = 0.0

    def begin(self, now: float, loop_time: float) -> bool:
        """Notes a failure. Returns whether an outage begins with it. now: s since 1970."""
        self.is_going_on = True
        if self.since is not None:
            return False
        self.since = now
        is_repeated = self._ended_at and loop_time - self._ended_at < STEADY_SECONDS
        self._hold_seconds = min(2 * self._hold_seconds, MAX_HOLD_SECONDS) if is_repeated else HOLD_SECONDS
        self._not_before = loop_time + self._hold_seconds
        return True

    def may_end(self, loop_time: float) -> bool:
        """Returns whether the outage has lasted long enough for hits to go to Redis again."""
        return loop_time >= self._not_before

    def end(self, loop_time: float) -> None:
        """Notes that Redis stores hits again."""
        self.is_going_on = False
        self.since = None
        self._ended_at = loop_time
