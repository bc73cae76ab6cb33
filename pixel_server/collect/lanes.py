"""The lanes of a cluster: one recorder for each node that has shards.

Each lane has groups, producer ids, retries and outages of its own. So a node that is away sends only the hits
of its own shards to the spool. A hit belongs to one shard, and is answered when the lane of its shard has
stored it. When a shard moves to another node, its next hits go to the lane of that node. That is safe at any
time, because producers do not depend on each other; hits that the former lane still has reach the new node
through the sink.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

from pixel_server import tasks
from pixel_server.collect.cluster_nodes import ClusterNodes
from pixel_server.collect.group import AnswerCallback
from pixel_server.collect.recorder import Recorder
from pixel_server.store_url import Address, shown_address

LINGER_SECONDS = 0.002
"""Seconds between two departures of a lane's groups. Otherwise several lanes would make several times as many
groups as one recorder, and each group costs as much processor time as some hits."""


class Lanes:
    """Has the methods of a `Recorder`, and passes each hit to the recorder of its shard's node.

    max_pending_bytes: as in `Recorder`, for all lanes together. Each lane has a part by the number of its
    shards, so that a lane that cannot store its hits leaves room to the others. make_recorder: makes the
    recorder of a node; None is a node that is not known.
    """

    def __init__(
        self,
        nodes: ClusterNodes,
        shards: int,
        max_pending_bytes: int,
        make_recorder: Callable[[Address | None], Recorder],
    ) -> None:
        self._nodes = nodes
        self._shards = shards
        self._max_pending_bytes = max_pending_bytes
        self._make_recorder = make_recorder
        self._lanes: dict[Address | None, Recorder] = {}
        self._lane_of_shard: list[Recorder] = []
        self._next_shard = 0
        self._ended = Counter[str]()
        """Sums of the counts of the lanes that have ended."""
        self._ended_spooled_groups = 0
        self._ending: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Makes the lanes, and begins to store."""
        self._nodes.on_moved = self._route
        self._route()

    async def close(self, timeout_seconds: float = 5.0) -> None:
        """Stores waiting hits, for at most `timeout_seconds`, and ends."""
        self._nodes.on_moved = lambda: None
        lanes = self._lanes.values()
        await asyncio.gather(*(lane.close(timeout_seconds) for lane in lanes), *self._ending)

    def record(self, shard: int | None, data: bytes, answered: AnswerCallback) -> bool:
        """Accepts a hit, as `Recorder.record`."""
        if shard is None:
            self._next_shard = shard = (self._next_shard + 1) % self._shards
        return self._lane_of_shard[shard].record(shard, data, answered)

    def _route(self) -> None:
        """Makes lanes for new nodes, and ends lanes that have neither shards nor hits."""
        places = self._nodes.places
        for address in dict.fromkeys(places):
            if address not in self._lanes:
                self._lanes[address] = lane = self._make_recorder(address)
                lane.start()
        self._lane_of_shard = [self._lanes[address] for address in places]
        for address in self._lanes.keys() - set(places):
            if self._lanes[address].pending_bytes == 0:
                self._end(self._lanes.pop(address))
        shard_counts = Counter(places)
        unused = [lane for address, lane in self._lanes.items() if address not in shard_counts]
        shared_bytes = self._max_pending_bytes - sum(lane.pending_bytes for lane in unused)
        for address, lane in self._lanes.items():
            lane.max_pending_bytes = shared_bytes * shard_counts[address] // self._shards

    def _end(self, lane: Recorder) -> None:
        self._ended.update(lane.counts)
        self._ended_spooled_groups += lane.spooled_groups()
        (ending,) = tasks.start([lane.close()])
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    @property
    def counts(self) -> dict[str, int]:
        """Returns the sums of the counts of all lanes."""
        counts = Counter(self._ended)
        for lane in self._lanes.values():
            counts.update(lane.counts)
        return dict(counts)

    @property
    def pending_bytes(self) -> int:
        return sum(lane.pending_bytes for lane in self._lanes.values())

    @property
    def waiting_hits(self) -> int:
        return sum(lane.waiting_hits for lane in self._lanes.values())

    @property
    def last_error(self) -> str:
        """Returns the last error of a lane that is away: `"node 10.0.0.1:7000: TimeoutError: ..."`."""
        for address, lane in self._away():
            return f"node {shown_address(address)}: {lane.last_error}" if address else lane.last_error
        return ""

    @property
    def failing_since(self) -> float | None:
        """Returns when the first node that is away began to fail (s since 1970)."""
        return min((lane.failing_since or 0.0 for _, lane in self._away()), default=None)

    @property
    def is_redis_away(self) -> bool:
        """Returns whether hits of any shard go to the spool."""
        return any(lane.is_redis_away for lane in self._lanes.values())

    @property
    def can_store(self) -> bool:
        """Returns whether the last hits of each shard could be stored."""
        return all(lane.can_store for lane in self._lane_of_shard)

    def _away(self) -> list[tuple[Address | None, Recorder]]:
        """Returns the lanes that have shards and store no hits in Redis."""
        places = set(self._nodes.places)
        return [
            (place, lane) for place, lane in self._lanes.items() if place in places and lane.is_redis_away
        ]

    def resume(self, shards: Iterable[int]) -> None:
        """Calls `Recorder.resume` of the lanes of these shards."""
        for address in {self._nodes.node_of(shard) for shard in shards}:
            if lane := self._lanes.get(address):
                lane.resume()

    def spooled_groups(self) -> int:
        return self._ended_spooled_groups + sum(lane.spooled_groups() for lane in self._lanes.values())

    def note_drained(self, groups: int) -> None:
        """Notes that all batches of the first groups that were sent to the spool are in Redis."""
        if groups == self.spooled_groups():
            for lane in self._lanes.values():
                lane.note_drained(lane.spooled_groups())

    def count_removed(self, hits: int) -> None:
        self._ended["removed"] += hits

    def count_lost(self, batches: int) -> None:
        self._ended["gaps"] += batches
