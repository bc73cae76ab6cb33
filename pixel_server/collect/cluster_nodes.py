"""The nodes of a cluster that have shards, and the connections of this process to each of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Hashable, Set
from typing import Any, Protocol

import redis

from pixel_server import tasks
from pixel_server.collect.node import Node
from pixel_server.logs import Log
from pixel_server.store.slots import SlotMap, slot_of_shard
from pixel_server.store_url import Address, shown_address

log = Log(__name__)

REFRESH_SECONDS = 2.0
"""Seconds between two looks at the slot map."""
HURRY_SECONDS = 0.1
"""Minimum number of seconds between two looks if a node said that a slot has moved."""
UNUSED_SECONDS = 30.0
"""Seconds without a shard after which the connections to a node are closed."""


class SlotSource(Protocol):
    """A client of the cluster, as it knows the slots."""

    async def refresh(self) -> SlotMap:
        """Asks the nodes for the slot map. Raises redis.RedisError if there is no map."""
        ...


class ClusterNodes:
    """Knows which node has a shard (it is a `nodes.Nodes`), and opens and closes the nodes.

    open_node: makes the connections to a node.
    """

    def __init__(self, slots: SlotSource, shards: int, open_node: Callable[[Address], Node]) -> None:
        self._slots = slots
        self._slots_of_shards = [slot_of_shard(shard) for shard in range(shards)]
        self._open_node = open_node
        self._nodes: dict[Address, Node] = {}
        self._running: dict[Address, asyncio.Task[Any]] = {}
        self._used_at: dict[Address, float] = {}
        """Time of the event loop (s) at which a node last had a shard."""
        self._is_outdated = asyncio.Event()
        self._is_closed = False
        self.places: list[Address | None] = [None] * shards
        """The node of each shard, None if it is not known."""
        self.on_moved: Callable[[], None] = lambda: None
        """Called when shards may have another node."""

    def node_of(self, shard: int) -> Address | None:
        """Returns the node of a shard. The spool may have batches of more shards than the store has."""
        return self.places[shard % len(self.places)]

    def present(self) -> Set[Hashable]:
        """Returns the nodes to which there is a connection."""
        return {address for address, node in self._nodes.items() if node.hits.is_connected}

    def shards_of(self, address: Address) -> list[int]:
        """Returns the shards that a node has."""
        return [shard for shard, place in enumerate(self.places) if place == address]

    def is_ready(self, address: Address | None) -> bool:
        """Returns whether there is a connection to a node with good round trips."""
        return address in self._nodes and self._nodes[address].hits.is_ready

    def node(self, address: Address) -> Node:
        """Returns the connections to a node. Raises ConnectionError once this process ends."""
        node = self._nodes.get(address)
        if node is None:
            if self._is_closed:
                raise ConnectionError("closed")
            node = self._nodes[address] = self._open_node(address)
            self._used_at[address] = asyncio.get_running_loop().time()
            (self._running[address],) = tasks.start([node.run()])
        return node

    def note_moved(self, shard: int, address: Address) -> None:
        """Notes that a node said that `address` has the shard now."""
        self._is_outdated.set()
        if self.places[shard] != address:
            self.places[shard] = address
            self.on_moved()

    async def settle(self) -> None:
        """Reads the slot map, and waits until the nodes are connected, so that hits need no spool."""
        with contextlib.suppress(redis.RedisError, OSError):
            await self._refresh()
            await asyncio.gather(*(node.hits.settle() for node in self._nodes.values()))

    async def run(self) -> None:
        """Follows the slot map until cancelled."""
        while True:
            with contextlib.suppress(redis.RedisError, OSError):  # the lanes report that nodes are away
                await self._refresh()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_SECONDS):
                    await self._is_outdated.wait()
            await asyncio.sleep(HURRY_SECONDS)
            self._is_outdated.clear()

    def close(self) -> None:
        self._is_closed = True
        for address in list(self._nodes):
            self._close_node(address)

    def _close_node(self, address: Address) -> None:
        self._running.pop(address).cancel()
        self._nodes.pop(address).close()
        del self._used_at[address]

    async def _refresh(self) -> None:
        """Reads the slot map. Opens nodes that have shards, and closes nodes that have had none for long."""
        slot_map = await self._slots.refresh()
        places = [slot_map.primary(slot) for slot in self._slots_of_shards]
        self._is_outdated.clear()
        has_changed = places != self.places
        self.places = places
        now = asyncio.get_running_loop().time()
        for address in filter(None, places):
            self.node(address)
            self._used_at[address] = now
        for address, used_at in list(self._used_at.items()):
            if now - used_at > UNUSED_SECONDS:
                self._close_node(address)
        if has_changed:
            log.info(
                "cluster-nodes",
                "the shards are on %(nodes)s",
                nodes=", ".join(sorted(map(shown_address, self._nodes))),
            )
        self.on_moved()
