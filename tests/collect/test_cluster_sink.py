"""The sink of a cluster: where it sends a batch that a node has refused."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import hiredis
import pytest

from pixel_server.collect.batch import Batch
from pixel_server.collect.cluster_nodes import ClusterNodes
from pixel_server.collect.cluster_sink import ClusterSink
from pixel_server.collect.node import Node
from pixel_server.collect.redirects import Redirected
from pixel_server.collect.redis_sink import RedisSink
from pixel_server.store.memory_reserve import MemoryWatch
from pixel_server.store.slots import SlotMap, SlotRange, slot_of_shard
from pixel_server.store_url import Address

ONE, TWO, THREE = (("10.0.0.1", 7001), ("10.0.0.1", 7002), ("10.0.0.1", 7003))
MOVED_TO_TWO = f"MOVED {slot_of_shard(0)} 10.0.0.1:7002"
ASK_AT_TWO = f"ASK {slot_of_shard(0)} :7002"
"""A reply ASK of a node that does not know its own host."""


class Slots:
    """A slot map in which the first node has all slots."""

    async def refresh(self) -> SlotMap:
        return SlotMap([SlotRange(0, 16383, ONE, (), 1)])


class ScriptedNodes:
    """Nodes whose replies to shard 0 are listed, by node. All other replies are 0.

    log: what was sent, as (port, shards, whether ASKING went before).
    """

    def __init__(self, replies: dict[Address, list[Any]]) -> None:
        self.replies = replies
        self.log: list[tuple[int, list[int], bool]] = []
        self.noted: list[int] = []

    def open(self, address: Address) -> Node:
        scripted = self

        class Scripted:
            timeout_seconds = 0.2
            is_connected = True

            async def append(self, batches: Sequence[Batch], is_asking: bool = False) -> list[int]:
                scripted.log.append((address[1], [batch.shard for batch in batches], is_asking))
                script = scripted.replies.get(address) or [0]
                told = script[0] if len(script) == 1 else script.pop(0)
                if isinstance(told, Exception):
                    raise told
                refusal = hiredis.ReplyError(told) if isinstance(told, str) else told
                replies = [0 if batch.shard else refusal for batch in batches]
                if any(isinstance(reply, Exception) for reply in replies):
                    raise Redirected(replies)
                return replies

            async def append_asking(self, batches: Sequence[Batch]) -> list[int]:
                return await self.append(batches, is_asking=True)

            def note_appended(self, batches: Sequence[Batch], replies: Sequence[int]) -> None:
                scripted.noted.append(address[1])

            async def settle(self) -> None:
                pass

            async def keep_connected(self) -> None:
                await asyncio.Event().wait()

            def close(self) -> None:
                pass

        class Memory:
            async def follow(self) -> None:
                await asyncio.Event().wait()

            def refuse_if_short(self) -> None:
                pass

        sink = cast(RedisSink, Scripted())
        return Node(cast(MemoryWatch, Memory()), sink)


def append(scripted: ScriptedNodes, shards: Sequence[int] = (0, 1)) -> list[int]:
    async def story() -> list[int]:
        nodes = ClusterNodes(Slots(), 4, scripted.open)
        await nodes.settle()
        sink = ClusterSink(nodes, lambda node: node.hits)
        try:
            return await sink.append([Batch(shard, "0" * 28, 1, b"\x90") for shard in shards])
        finally:
            nodes.close()

    return asyncio.run(story())


def test_cluster_sink_moved_batch_goes_to_the_node_that_has_it():
    scripted = ScriptedNodes({ONE: [MOVED_TO_TWO]})
    assert append(scripted) == [0, 0]
    assert scripted.log == [(7001, [0, 1], False), (7002, [0], False)]


def test_cluster_sink_ask_goes_to_the_new_node_and_is_kept_for_the_old():
    scripted = ScriptedNodes({ONE: [ASK_AT_TWO]})
    assert append(scripted) == [0, 0]
    assert scripted.log == [(7001, [0, 1], False), (7002, [0], True)]
    assert scripted.noted == [7001]


@pytest.mark.parametrize("refusal", ["TRYAGAIN", "CLUSTERDOWN Hash slot not served", "LOADING Valkey"])
def test_cluster_sink_refused_for_now_is_sent_again(refusal: str):
    scripted = ScriptedNodes({ONE: [refusal, refusal, 0]})
    assert append(scripted) == [0, 0]
    assert scripted.log == [(7001, [0, 1], False), *[(7001, [0], False)] * 2]


def test_cluster_sink_nodes_name_each_other_raises_timeout_with_the_refusal():
    scripted = ScriptedNodes({ONE: [MOVED_TO_TWO], TWO: [MOVED_TO_TWO.replace("7002", "7001")]})
    with pytest.raises(TimeoutError, match=r"node 10\.0\.0\.1:700[12]: MOVED"):
        append(scripted)
    assert len(scripted.log) < 100


def test_cluster_sink_new_node_fails_raises_its_error():
    scripted = ScriptedNodes({ONE: [MOVED_TO_TWO], TWO: [ConnectionError("gone")]})
    with pytest.raises(ConnectionError, match="gone"):
        append(scripted)
