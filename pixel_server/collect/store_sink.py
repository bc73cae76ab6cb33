"""A sink for commands that store batches in any store: one Redis, or a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Hashable, Set
from dataclasses import replace
from typing import Any, cast

from pixel_server import store_url, tasks
from pixel_server.collect.batch import Sink
from pixel_server.collect.cluster_nodes import ClusterNodes
from pixel_server.collect.cluster_sink import ClusterSink
from pixel_server.collect.node import Node
from pixel_server.collect.nodes import Nodes, OneNode
from pixel_server.collect.redis_sink import RedisSink
from pixel_server.settings import Settings
from pixel_server.store.async_cluster import AsyncClusterRedis
from pixel_server.store.memory_reserve import MemoryWatch
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store_url import Address


@contextlib.asynccontextmanager
async def open_sink(
    store: AsyncRedis,
    settings: Settings,
    *,
    url: str,
    timeout_seconds: float,
    mark: Callable[[], bytes] = bytes,
    replicas: int = 0,
) -> AsyncIterator[tuple[Sink, Nodes]]:
    """Yields a sink of the store, and the store's nodes. Each node is worth a try.

    url: the address of the store. timeout_seconds, mark, replicas: as in `RedisSink`.
    """
    options: dict[str, Any] = {"timeout_seconds": timeout_seconds, "mark": mark, "replicas": replicas}
    if not isinstance(store, AsyncClusterRedis):
        sink = RedisSink(url, **options)
        try:
            yield sink, OneNode()
        finally:
            sink.close()
        return

    def open_node(address: Address) -> Node:
        node_url = replace(store_url.parse(url), kind="single", addresses=(address,))
        memory = MemoryWatch(cast(AsyncRedis, store.node(address)), settings.memory_reserve)
        return Node(memory, RedisSink(node_url, shards=lambda: nodes.shards_of(address), **options))

    nodes = ClusterNodes(store, settings.shards, open_node)
    await nodes.settle()
    running = tasks.start([nodes.run()])
    try:
        yield ClusterSink(nodes, lambda node: node.drain), _EachNode(nodes)
    finally:
        await tasks.end(running)
        nodes.close()


class _EachNode:
    """The `Nodes` of a cluster for a command. Nodes that are away are tried too, to report their errors."""

    def __init__(self, nodes: ClusterNodes) -> None:
        self._nodes = nodes

    def node_of(self, shard: int) -> Hashable:
        return self._nodes.node_of(shard)

    def present(self) -> Set[Hashable]:
        return set(self._nodes.places)
