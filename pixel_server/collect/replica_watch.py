"""Follows how far the replicas of a primary are, by its replies to ROLE."""

from __future__ import annotations

from pixel_server.store.role import Role

DOUBT_SECONDS = 3.0
"""Seconds without a confirmation of what was written before, after which the replicas count as cut off. A
replica confirms each second."""


class ReplicaWatch:
    """The replicas of the primary that a sink writes to. Times of the event loop are in seconds.

    confirmed_before: a replica has everything that the primary had acknowledged before this time.
    """

    def __init__(self) -> None:
        self.confirmed_before = float("-inf")
        self._node = ""
        self._unconfirmed: tuple[float, int] | None = None
        """A time, and the offset that the primary had then. No replica has confirmed this offset yet."""
        self._replicas = self._most_replicas = 0

    def note(self, node: str, role: Role, asked_at: float) -> None:
        """Notes a primary's reply to ROLE, which was asked at this time."""
        if node != self._node:
            self._node, self._unconfirmed, self.confirmed_before = node, None, float("-inf")
        self._replicas = len(role.replica_offsets)
        self._most_replicas = max(self._most_replicas, self._replicas)
        if self._unconfirmed is not None:
            time, offset = self._unconfirmed
            if max(role.replica_offsets, default=-1) < offset:
                return
            self.confirmed_before = time
        self._unconfirmed = asked_at, role.offset

    def is_doubtful(self, now: float) -> bool:
        """Returns whether a replica has gone or is cut off. It may have been promoted meanwhile."""
        is_late = self._unconfirmed is not None and now - self._unconfirmed[0] > DOUBT_SECONDS
        return self._most_replicas > 0 and (self._replicas < self._most_replicas or is_late)
