"""The tail in a cluster: a replica without the newest hits takes a primary's slots while it answers on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from tests.cluster_nodes import Cluster, ClusterNode, running_cluster
from tests.collect.test_lanes import SHARDS, Hits, recording, stored_hits, until_async
from tests.stack import until
from tests.store.test_cluster import primary_of


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Yields a cluster of two primaries, each with a replica."""
    for cluster in running_cluster(tmp_path_factory.mktemp("tail"), 2, 1):
        for node in cluster.nodes:  # however slow the machine is, only the test makes a replica take over
            node.ask("CONFIG SET", "cluster-node-timeout", 60_000)
            node.ask("CONFIG SET", "cluster-replica-no-failover", "yes")
        yield cluster


def replica_of(cluster: Cluster, primary: ClusterNode) -> ClusterNode:
    number = cluster.nodes.index(primary)
    return cluster.nodes[(number + 2) % 4]


def wait_until_replicated(primary: ClusterNode) -> None:
    """Returns when the replica has everything that the primary has."""
    offset = primary.ask("ROLE")[1]
    until(lambda: any(int(replica[2]) >= offset for replica in primary.ask("ROLE")[2]))


@pytest.mark.parametrize("tail_seconds", [30, 0])
def test_cluster_tail_replica_takes_over_gets_the_hits_it_lacks(
    cluster: Cluster, tmp_path: Path, secrets: Secrets, tail_seconds: int
):
    """Without the tail the same hits are lost."""
    old = primary_of(cluster, 0)
    new = replica_of(cluster, old)
    until(lambda: old.ask("ROLE")[2])
    for primary in cluster.nodes:
        if primary.ask("ROLE")[0] == b"master":
            primary.ask("FLUSHALL")
    settings = Settings(
        redis_url=cluster.url,
        queue_url="redis://queue.invalid",
        data=tmp_path,
        shards=SHARDS,
        tail_seconds=tail_seconds,
    )

    async def story() -> None:
        async with recording(settings, secrets) as pixels:
            hits = Hits(pixels)
            assert all(await hits.send_to_each())
            await asyncio.to_thread(wait_until_replicated, old)
            old.ask("ACL SETUSER", "default", "-psync", "-sync")
            old.ask("CLIENT KILL", "TYPE", "replica")
            assert all(await hits.send_to_each())
            new.ask("CLUSTER FAILOVER", "TAKEOVER")
            await until_async(lambda: primary_of(cluster, 0) is new)
            if tail_seconds:
                await until_async(lambda: len(stored_hits(cluster)) == 2 * SHARDS)
            assert all(await hits.send_to_each())
            newest = set(range(2 * SHARDS, 3 * SHARDS))
            await until_async(lambda: newest <= stored_hits(cluster).keys())
            if tail_seconds:
                assert stored_hits(cluster) == Counter(range(3 * SHARDS))
                assert pixels.recorder.counts["gaps"] == 0
            else:
                assert len(stored_hits(cluster)) < 3 * SHARDS

    try:
        asyncio.run(story())
    finally:
        old.ask("ACL SETUSER", "default", "+psync", "+sync")
