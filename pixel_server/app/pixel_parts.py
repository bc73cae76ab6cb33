"""Makes the parts that record hits, and connects them. Starts no task and sends nothing to Redis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from rq import Queue

from pixel_server import store_url
from pixel_server.app.parts import CommonParts
from pixel_server.collect.admission import Admission
from pixel_server.collect.batch import Batch, Sink, report_gap
from pixel_server.collect.cluster_nodes import ClusterNodes
from pixel_server.collect.cluster_sink import ClusterSink
from pixel_server.collect.commits import Commits
from pixel_server.collect.descriptor_reserve import DescriptorReserve
from pixel_server.collect.lanes import LINGER_SECONDS, Lanes
from pixel_server.collect.loss_watch import LossWatch
from pixel_server.collect.losses import RemovedFile
from pixel_server.collect.memory_reserve_sink import MemoryReserveSink
from pixel_server.collect.node import Node
from pixel_server.collect.nodes import Nodes
from pixel_server.collect.recorder import Recorder
from pixel_server.collect.redis_sink import RedisSink
from pixel_server.collect.rollup_trigger import RollupTrigger
from pixel_server.collect.spool.drain import Drain
from pixel_server.collect.spool.resharding import ReshardingSink
from pixel_server.collect.spool.sink import SpoolSink
from pixel_server.collect.spool.spool import Spool
from pixel_server.collect.tail import Tail
from pixel_server.settings import Settings
from pixel_server.store.async_cluster import AsyncClusterRedis
from pixel_server.store.memory_reserve import MemoryWatch
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store_url import Address


@dataclass(frozen=True, slots=True)
class PixelParts:
    """Parts of a process that answers pixel requests.

    A hit goes through admission and recorder; if Redis is away, to the spool, and from there through the
    drain. commits: counts the groups that are stored. connections: to the Redis, or to the nodes of the
    cluster. reserve: file descriptors for all these parts.
    """

    admission: Admission
    recorder: Recorder | Lanes
    commits: Commits
    connections: Node | ClusterNodes
    spool: Spool
    drain: Drain
    rollup_trigger: RollupTrigger
    loss_watch: LossWatch
    reserve: DescriptorReserve


def make_pixels(common: CommonParts, queue: Queue) -> PixelParts:
    """Makes the parts that record hits. queue: receives the roll-up jobs."""
    settings, clock = common.settings, common.clock
    admission = Admission(
        settings, common.secrets, common.campaign_cache, common.consent, common.withdrawn, clock
    )
    rollup_trigger = RollupTrigger(queue, settings.shards, clock)
    reserve, commits = DescriptorReserve(), Commits()

    def report_lost(batch: Batch, seen: int) -> None:
        recorder.count_lost(report_gap(batch, seen))
        loss_watch.note_gap(batch, seen)

    url = store_url.parse(settings.redis_url)
    tail = Tail(settings.shards, settings.tail_seconds, settings.tail_bytes, report_lost)
    if settings.replicas or url.kind != "single":
        tail.begin()
    loss_watch = LossWatch(common.redis, settings.data, settings.shards, common.mark, reserve, tail, clock)
    spool = Spool(common.spool_directory, settings.spool_bytes, clock=clock, reserve=reserve)
    sink_options: dict[str, Any] = {
        "mark": common.mark.current,
        "reserve": reserve,
        "tail": tail,
        "replicas": settings.replicas,
    }
    recorder_options: dict[str, Any] = {
        "spool": SpoolSink(spool) if settings.spool_bytes else None,
        "on_stored": rollup_trigger.request,
        "on_acknowledged": loss_watch.note,
        "commits": commits,
        "clock": clock,
    }
    recorder: Recorder | Lanes
    connections: Node | ClusterNodes
    if isinstance(common.redis, AsyncClusterRedis):
        connections = nodes = _make_nodes(settings, common.redis, sink_options)
        recorder = _make_lanes(settings, nodes, recorder_options)
        drain_sink: Sink = ClusterSink(nodes, lambda node: node.drain)
        drain_nodes: Nodes | None = nodes
    else:
        memory = MemoryWatch(common.redis, settings.memory_reserve)
        connections = node = Node(memory, *_make_sinks(settings.redis_url, sink_options))
        recorder = Recorder(
            MemoryReserveSink(node.hits, memory),
            settings.shards,
            settings.pending_bytes,
            is_ready=lambda: node.hits.is_ready,
            **recorder_options,
        )
        drain_sink, drain_nodes = MemoryReserveSink(node.drain, memory), None

    def note_removed(removed: list[RemovedFile]) -> None:
        recorder.count_removed(sum(file.hits for file in removed))
        loss_watch.note_removed(removed)

    def note_acknowledged(batches: Sequence[Batch], seen: Sequence[int]) -> None:
        of_this_store = [pair for pair in zip(batches, seen, strict=True) if pair[0].shard < settings.shards]
        loss_watch.note([batch for batch, _ in of_this_store], [number for _, number in of_this_store])

    drain = Drain(
        spool,
        ReshardingSink(drain_sink, settings.shards),
        nodes=drain_nodes,
        is_redis_away=lambda: recorder.is_redis_away,
        on_accepted=recorder.resume,
        on_lost=recorder.count_lost,
        on_removed=note_removed,
        spooled_groups=recorder.spooled_groups,
        on_drained=recorder.note_drained,
        on_stored=rollup_trigger.request,
        on_acknowledged=note_acknowledged,
        max_aside_days=settings.keep_dead_letters,
    )
    return PixelParts(
        admission=admission,
        recorder=recorder,
        commits=commits,
        connections=connections,
        spool=spool,
        drain=drain,
        rollup_trigger=rollup_trigger,
        loss_watch=loss_watch,
        reserve=reserve,
    )


def _make_sinks(url: str | store_url.StoreUrl, options: dict[str, Any]) -> tuple[RedisSink, RedisSink]:
    """Makes the sinks of one Redis: for hits, and for batches of the spool."""
    return RedisSink(url, **options), RedisSink(url, timeout_seconds=1.0, max_timeout_seconds=5.0, **options)


def _make_nodes(settings: Settings, cluster: AsyncClusterRedis, sink_options: dict[str, Any]) -> ClusterNodes:
    """Makes the connections to the nodes of a cluster. They are opened as the slot map becomes known."""
    url = store_url.parse(settings.redis_url)

    def open_node(address: Address) -> Node:
        options = {**sink_options, "shards": lambda: nodes.shards_of(address)}
        memory = MemoryWatch(cast(AsyncRedis, cluster.node(address)), settings.memory_reserve)
        return Node(memory, *_make_sinks(replace(url, kind="single", addresses=(address,)), options))

    nodes = ClusterNodes(cluster, settings.shards, open_node)
    return nodes


def _make_lanes(settings: Settings, nodes: ClusterNodes, options: dict[str, Any]) -> Lanes:
    sink = ClusterSink(nodes, lambda node: node.hits)

    def make_recorder(address: Address | None) -> Recorder:
        return Recorder(
            sink,
            settings.shards,
            settings.pending_bytes,
            is_ready=lambda: nodes.is_ready(address),
            linger_seconds=LINGER_SECONDS,
            **options,
        )

    return Lanes(nodes, settings.shards, settings.pending_bytes, make_recorder)
