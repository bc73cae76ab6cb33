"""Nodes of a cluster as its client knows them, and the nodes that it asks for the slot map.

This module does no I/O. The map is made of the views of several nodes, because a node that was cut off from
the others has an old view; see `slots`. Nodes with an old view can even be the only nodes that answer. So a
client also remembers for a while the views that it was told before.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import AuthenticationError, ResponseError

from pixel_server.store.slots import SlotMap, SlotRange, parse_ranges
from pixel_server.store_url import Address, shown_address

REFRESH_SECONDS = 0.5
"""Minimum number of seconds between two requests for the slot map."""
MAX_VIEW_SECONDS = 0.5
"""Maximum number of seconds that a node may take to tell its view of the slots, connecting included."""
OLD_SECONDS = 5.0
"""Seconds after which the map must be asked for again before all nodes are asked something.

Web processes ask all nodes each second. So they leave a primary that was replaced without their notice within
these seconds, although it answers on.
"""
VIEWS = 3
"""Number of nodes whose views make a slot map."""
MEMORY_SECONDS = 30.0
"""Seconds for which a node keeps its slots although the views name only nodes with a lower epoch.

After these seconds the cluster was made anew, with epochs from 1 on. A node that fails is forgotten at once.
"""


def view_seconds(timeout: float) -> float:
    """Returns how long a node may take to tell its view. A node that hangs must leave time for the call."""
    return min(MAX_VIEW_SECONDS, timeout / 4)


class Topology:
    """Nodes as a client knows them. seeds: the nodes that its URL names."""

    def __init__(self, seeds: Sequence[Address]) -> None:
        self._seeds = tuple(seeds)
        self._failed: set[Address] = set()
        self._is_outdated = True
        self._asked_at = -REFRESH_SECONDS
        self._lock = threading.Lock()
        self._named_at: dict[SlotRange, float] = {}
        self.slot_map = SlotMap()

    def note_outdated(self) -> None:
        """Notes that slots have moved, so that the map is asked for again."""
        self._is_outdated = True

    def note_failed(self, address: Address) -> None:
        """Notes that a node does not answer. The map is asked for again, from the other nodes first."""
        self._is_outdated = True
        self._failed.add(address)

    def is_due(self, now: float) -> bool:
        """Returns whether to ask for the map. now: monotonic, s."""
        return self._is_outdated and (now - self._asked_at >= REFRESH_SECONDS or not self.slot_map.primaries)

    def is_old(self, now: float) -> bool:
        """Returns whether the map must be asked for again to know of each node. now: monotonic, s."""
        return self._is_outdated or now - self._asked_at >= OLD_SECONDS

    def survey(self) -> Survey:
        """Returns a survey that begins with the nodes that have not failed."""
        known = dict.fromkeys((*self.slot_map.primaries, *self._seeds, *self.slot_map.all_replicas))
        return Survey(sorted(known, key=lambda address: address in self._failed))

    def learn(self, survey: Survey, now: float) -> None:
        """Makes a new map of the views of a survey and of remembered views. Keeps the old map if no node has
        answered.

        If there is no map yet, raises redis.ResponseError or redis.AuthenticationError if a node refuses to
        tell its view, otherwise redis.ConnectionError.
        """
        self._asked_at = now
        self._failed -= survey.views.keys()
        if survey.views:
            with self._lock:
                self._remember(survey, now)
                self.slot_map = SlotMap(sorted(self._named_at, key=self._named_at.__getitem__))
            self._is_outdated = False
        elif not self.slot_map.primaries:
            for error in survey.errors:
                if isinstance(error, ResponseError | AuthenticationError):
                    raise error
            reasons = "; ".join(str(error) for error in survey.errors)
            raise redis.ConnectionError(f"no node of the cluster answers: {reasons:.300}")

    def _remember(self, survey: Survey, now: float) -> None:
        """Notes when each range of slots was named last, and forgets ranges, see MEMORY_SECONDS."""
        remembered = {
            slots: named_at
            for slots, named_at in self._named_at.items()
            if now - named_at < MEMORY_SECONDS and slots.primary not in self._failed
        }
        named = {slots: now for view in survey.views.values() for slots in view}
        self._named_at = remembered | named


class Survey:
    """Asks nodes for their views of the slots: up to VIEWS nodes, but no more than most of those known."""

    def __init__(self, candidates: Sequence[Address]) -> None:
        self._known = dict.fromkeys(candidates)
        self._asked: set[Address] = set()
        self.views: dict[Address, list[SlotRange]] = {}
        self.errors: list[Exception] = []

    def next(self) -> list[Address]:
        """Returns the nodes to ask next. Returns [] if enough nodes have answered, or no node is left."""
        missing = min(VIEWS, len(self._known) // 2 + 1) - len(self.views)
        unasked = [address for address in self._known if address not in self._asked][: max(missing, 0)]
        self._asked.update(unasked)
        return unasked

    def add(self, address: Address, slots: Sequence[Any], nodes: bytes) -> None:
        """Adds the replies of a node to CLUSTER SLOTS and CLUSTER NODES."""
        self.views[address] = view = parse_ranges(slots, nodes, address)
        self._known.update(dict.fromkeys(part.primary for part in view))

    def fail(self, address: Address, error: Exception) -> None:
        """Notes that a node has not told its view."""
        is_refusal = isinstance(error, ResponseError)
        self.errors.append(error if is_refusal else named(address, error))


def named(address: Address, error: Exception) -> redis.RedisError:
    """Returns an error that says which node failed: `"node 10.0.0.1:7000: Connection refused"`."""
    text = f"node {shown_address(address)}: {error}"
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return type(error)(text)
    return redis.ConnectionError(text)
