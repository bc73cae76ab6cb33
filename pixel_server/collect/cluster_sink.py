"""The sink that stores batches in a cluster: it sends each batch to the node of its shard.

A node may refuse a batch because the slot of its shard is on another node, or on its way there, or because
the node cannot take anything now. It has stored nothing of the batch then. So the sink sends the batch again,
where the reply says or after a pause, until the timeout of the group. `APPEND` has two keys. While their slot
moves, a node replies ASK only if it has neither key any more, and the new node replies TRYAGAIN unless it has
both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pixel_server.collect.batch import Batch, Sink
from pixel_server.collect.cluster_nodes import ClusterNodes
from pixel_server.collect.memory_reserve_sink import MemoryReserveSink
from pixel_server.collect.node import Node
from pixel_server.collect.redirects import Redirected, ask_at, moved_to
from pixel_server.collect.redis_sink import RedisSink
from pixel_server.store_url import Address, shown_address

PAUSE_SECONDS = 0.005
"""Seconds until a batch is sent again that a node could not take."""
MAX_MOVES = 4
"""Times that a group follows MOVED and ASK without a pause. Two nodes can name each other for a moment."""


class _Target(NamedTuple):
    """A node that batches are sent to.

    asked: the node that replied ASK, and so still has the slot, or None. ASKING then goes before each batch.
    """

    address: Address
    asked: Address | None = None


class ClusterSink:
    """A `Sink`. sink_of: returns the connection of a node that this sink uses."""

    def __init__(self, nodes: ClusterNodes, sink_of: Callable[[Node], RedisSink]) -> None:
        self._nodes = nodes
        self._sink_of = sink_of

    async def append(self, batches: Sequence[Batch]) -> list[int]:
        """Raises the errors of `RedisSink.append`, and ConnectionError if a shard has no node."""
        begun_at = asyncio.get_running_loop().time()
        places = self._nodes.places
        address = self._place(batches[0].shard)
        replies: list[Any] = [None] * len(batches)
        for batch in batches:
            if places[batch.shard] != address:
                break
        else:
            try:
                return await self._sink(address).append(batches)
            except Redirected as redirected:
                replies = redirected.replies
        timeout_seconds = self._sink_of(self._nodes.node(address)).timeout_seconds
        delivery = _Delivery(self._nodes, batches, replies, _Target(address))
        try:
            async with asyncio.timeout_at(begun_at + timeout_seconds):
                await self._deliver(delivery)
        except TimeoutError:
            raise TimeoutError(delivery.refusal or f"no answer within {timeout_seconds:.2f} s") from None
        return delivery.replies

    async def _deliver(self, delivery: _Delivery) -> None:
        """Sends batches until none is refused any more. Raises the error of the first node that fails."""
        while parts := delivery.next_parts():
            if delivery.must_pause:
                await asyncio.sleep(PAUSE_SECONDS)
            outcomes = await asyncio.gather(
                *(self._send(target, [delivery.batches[i] for i in part]) for target, part in parts.items()),
                return_exceptions=True,  # so that no part is still on its way when this ends
            )
            for (target, part), outcome in zip(parts.items(), outcomes, strict=True):
                if isinstance(outcome, Redirected):
                    delivery.take(target, part, outcome.replies)
                elif isinstance(outcome, BaseException):
                    raise outcome
                else:
                    delivery.take(target, part, outcome)

    async def _send(self, target: _Target, batches: Sequence[Batch]) -> list[int]:
        if target.asked is None:
            return await self._sink(target.address).append(batches)
        seen = await self._sink_of(self._nodes.node(target.address)).append_asking(batches)
        self._sink_of(self._nodes.node(target.asked)).note_appended(batches, seen)
        return seen

    def _place(self, shard: int) -> Address:
        address = self._nodes.places[shard]
        if address is None:
            raise ConnectionError(f"no node of the cluster is known to have shard {shard}")
        return address

    def _sink(self, address: Address) -> Sink:
        node = self._nodes.node(address)
        return MemoryReserveSink(self._sink_of(node), node.memory)


class _Delivery:
    """Batches on their way, and for each its last reply: None if it is not sent yet.

    refusal: the last reply by which a node refused a batch, or "". must_pause: whether to wait before the
    next parts are sent.
    """

    def __init__(
        self, nodes: ClusterNodes, batches: Sequence[Batch], replies: list[Any], first: _Target
    ) -> None:
        self.batches = batches
        self.replies = replies
        self.refusal = ""
        self.must_pause = False
        self._nodes = nodes
        self._asked = [first.address] * len(batches)
        self._rounds = 0

    def take(self, target: _Target, part: Sequence[int], replies: Sequence[Any]) -> None:
        """Takes the replies of a node. part: the positions of the batches that it was sent."""
        for i, reply in zip(part, replies, strict=True):
            self.replies[i] = reply
            self._asked[i] = target.address

    def next_parts(self) -> dict[_Target, list[int]]:
        """Returns the positions of the batches to send next, by node. Returns {} if each batch is stored."""
        parts: dict[_Target, list[int]] = {}
        self._rounds += 1
        self.must_pause = self._rounds > MAX_MOVES
        for i, (batch, reply) in enumerate(zip(self.batches, self.replies, strict=True)):
            if not isinstance(reply, int):
                parts.setdefault(self._target(batch, reply, self._asked[i]), []).append(i)
        return parts

    def _target(self, batch: Batch, reply: Any, asked: Address) -> _Target:
        if reply is not None:
            self.refusal = f"node {shown_address(asked)}: {reply}"
            if address := ask_at(reply, asked):
                return _Target(address, asked)
            if address := moved_to(reply, asked):
                self._nodes.note_moved(batch.shard, address)
            else:
                self.must_pause = True
        address = self._nodes.places[batch.shard]
        if address is None:
            raise ConnectionError(f"no node of the cluster is known to have shard {batch.shard}")
        return _Target(address)
