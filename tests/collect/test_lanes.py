"""The recorder's lanes, the sink of a cluster and the drain, against a cluster of real Valkey nodes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pixel_server import hit, tasks
from pixel_server.app.parts import make_common
from pixel_server.app.pixel_parts import PixelParts, make_pixels
from pixel_server.collect.batch import Batch
from pixel_server.collect.lanes import Lanes
from pixel_server.collect.spool.status import read_status
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import jobs, keys, producer
from pixel_server.store.client import connect, connect_async, connect_queue
from pixel_server.store.slots import slot_of_shard
from pixel_server.store.store_mark import ensure_mark
from tests.cluster_nodes import Cluster, ClusterNode, running_cluster
from tests.properties.test_recorder import a_hit
from tests.stack import until
from tests.store.test_cluster import move_atomically, primary_of

SHARDS = 8


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Returns a cluster of three primaries without replicas. Each answers also while another is away."""
    for cluster in running_cluster(tmp_path_factory.mktemp("lanes"), 3):
        for node in cluster.nodes:
            node.ask("CONFIG SET", "cluster-require-full-coverage", "no")
        yield cluster


@pytest.fixture
def settings(cluster: Cluster, tmp_path: Path) -> Settings:
    for node in cluster.nodes:
        node.ask("FLUSHALL")
    return Settings(
        redis_url=cluster.url,
        queue_url="redis://queue.invalid",
        data=tmp_path,
        shards=SHARDS,
        api_key="k" * 20,
    )


@contextlib.asynccontextmanager
async def recording(settings: Settings, secrets: Secrets) -> AsyncIterator[PixelParts]:
    """Runs the parts of a web process that record hits."""
    store = connect_async(settings.redis_url)
    queue = jobs.queue(connect_queue(settings.queue_url or "", timeout=1.0))
    common = make_common(settings, secrets, store, None)
    pixels = make_pixels(common, queue)
    common.mark.learn(await ensure_mark(store, settings.shards, "", False))
    pixels.reserve.open()
    await pixels.connections.settle()
    pixels.recorder.start()
    running = tasks.start([pixels.connections.run(), pixels.drain.run(), pixels.loss_watch.run()])
    try:
        yield pixels
    finally:
        await pixels.recorder.close()
        await tasks.end(running)
        for part in (pixels.connections, pixels.spool, pixels.loss_watch, pixels.reserve):
            part.close()
        await store.aclose()


class Hits:
    """Sends hits to a recorder, and knows how each was answered."""

    def __init__(self, pixels: PixelParts) -> None:
        self.recorder = pixels.recorder
        self.sent = 0
        self.answers: Counter[tuple[int, bool]] = Counter()

    async def send(self, shard: int | None) -> bool:
        """Sends a hit. Returns whether it was answered as stored."""
        number, self.sent = self.sent, self.sent + 1
        answered = asyncio.get_running_loop().create_future()

        def note(is_stored: bool) -> None:
            self.answers[number, is_stored] += 1
            answered.set_result(is_stored)

        assert self.recorder.record(shard, a_hit(number), note)
        return await answered

    async def send_to_each(self) -> list[bool]:
        """Sends a hit to each shard."""
        return await asyncio.gather(*map(self.send, range(SHARDS)))

    async def until_more(self, count: int) -> None:
        """Waits until another `count` hits are sent."""
        enough = self.sent + count
        await until_async(lambda: self.sent > enough)

    @property
    def stored(self) -> set[int]:
        """Returns the hits that were answered as stored."""
        return {number for number, is_stored in self.answers if is_stored}


def stored_hits(cluster: Cluster, shards: range | list[int] = range(SHARDS)) -> Counter[int]:
    """Returns how often each hit is in the streams of these shards."""
    found: Counter[int] = Counter()
    with connect(cluster.url) as client:
        for shard in shards:
            for _, fields in client.xrange(keys.hits(shard), "-", "+"):
                hits, unreadable = hit.decode_batch(fields[b"1"])
                assert unreadable == []
                found.update(record.time for record in hits)
    return found


async def until_async(condition: Callable[[], Any]) -> None:
    await asyncio.to_thread(until, condition, 60)


def test_lanes_one_node_dead_spools_only_its_shards_and_drains_them_later(
    cluster: Cluster, settings: Settings, secrets: Secrets
):
    dead = primary_of(cluster, 0)
    away = [shard for shard in range(SHARDS) if primary_of(cluster, shard) is dead]
    others = [shard for shard in range(SHARDS) if shard not in away]
    settings = dataclasses.replace(settings, tail_seconds=0)

    async def story() -> None:
        async with recording(settings, secrets) as pixels:
            recorder, hits = pixels.recorder, Hits(pixels)
            assert all(await hits.send_to_each())
            assert recorder.counts["spooled"] == 0
            dead.send_signal(signal.SIGKILL)
            assert all(await hits.send_to_each())
            await until_async(lambda: recorder.is_redis_away)
            spooled = recorder.counts["spooled"]
            assert all(await hits.send_to_each())
            assert recorder.counts["spooled"] == spooled + len(away)
            assert recorder.can_store
            assert recorder.last_error.startswith(f"node 127.0.0.1:{dead.address[1]}: ")

            # A batch of another node's shard in the spool does not wait for the dead node.
            late = Batch(others[0], producer.new_id(1.0), 1, hit.encode_batch([a_hit(1_000_000)]))
            await asyncio.to_thread(pixels.spool.append, [late])
            await until_async(lambda: 1_000_000 in stored_hits(cluster, others))
            assert read_status(settings.data / "spool").hits > spooled

            # A loss of a node that answers is noticed although another node is away.
            with connect(cluster.url) as client:
                client.execute_command("HSET", keys.producers(others[0]), late.producer, "0 1")
            await until_async(lambda: pixels.loss_watch.report().batches == 1)

            dead.start()
            await until_async(lambda: read_status(settings.data / "spool").hits == 0)
            await until_async(lambda: not recorder.is_redis_away)
            spooled = recorder.counts["spooled"]
            assert all(await hits.send_to_each())
            assert recorder.counts["spooled"] == spooled
            assert stored_hits(cluster) == Counter([*range(hits.sent), 1_000_000])
            assert recorder.counts["gaps"] == 0

    uvloop.run(story())


async def move_key_by_key(source: ClusterNode, target: ClusterNode, shard: int, sending: Hits) -> None:
    """Moves a shard. Pauses while each node has one key of a batch, and while the new node has both."""
    slot = slot_of_shard(shard)
    target.ask("CLUSTER SETSLOT", slot, "IMPORTING", source.id)
    source.ask("CLUSTER SETSLOT", slot, "MIGRATING", target.id)
    source.ask("MIGRATE", *target.address, keys.hits(shard), 0, 5000)
    await until_async(lambda: sending.recorder.counts["spooled"])
    while names := source.ask("CLUSTER GETKEYSINSLOT", slot, 10):
        source.ask("MIGRATE", *target.address, "", 0, 5000, "KEYS", *names)
    await until_async(lambda: not sending.recorder.is_redis_away)
    await sending.until_more(200)
    for node in (target, source):
        node.ask("CLUSTER SETSLOT", slot, "NODE", target.id)


async def move_at_once(source: ClusterNode, target: ClusterNode, shard: int, sending: Hits) -> None:
    await asyncio.to_thread(move_atomically, source, target, slot_of_shard(shard), [])


@pytest.mark.parametrize("move", [move_key_by_key, move_at_once])
def test_lanes_slot_moves_under_flood_stores_each_answered_hit_once(
    cluster: Cluster, settings: Settings, secrets: Secrets, move: Callable[..., Awaitable[None]]
):
    shard = 5
    source = primary_of(cluster, shard)
    target = next(node for node in cluster.primaries if node is not source)

    async def story() -> None:
        async with recording(settings, secrets) as pixels:
            hits, is_over = Hits(pixels), False

            async def flood(shard: int | None) -> None:
                while not is_over:
                    await hits.send(shard)

            floods = [asyncio.create_task(flood(to)) for to in [shard] * 12 + [None] * 12]
            await hits.until_more(500)
            await move(source, target, shard, hits)
            await hits.until_more(500)
            is_over = True
            await asyncio.gather(*floods)
            await until_async(lambda: read_status(settings.data / "spool").hits == 0)
            await until_async(lambda: pixels.recorder.pending_bytes == 0)
            assert pixels.recorder.counts["gaps"] == 0
            found = stored_hits(cluster)
            assert hits.stored - found.keys() == set()
            assert [number for number, times in found.items() if times > 1] == []
            assert set(hits.answers.values()) == {1}
            assert len(hits.stored) > 1000

    uvloop.run(story())
    assert primary_of(cluster, shard) is target


def test_lanes_close_under_flood_answers_each_hit_once(
    cluster: Cluster, settings: Settings, secrets: Secrets
):
    async def story() -> Hits:
        async with recording(settings, secrets) as pixels:
            hits = Hits(pixels)
            sending = [asyncio.create_task(hits.send(None)) for _ in range(300)]
            await asyncio.sleep(0)
        await asyncio.gather(*sending)
        return hits

    hits = uvloop.run(story())
    assert hits.stored == set(range(300))
    assert set(hits.answers.values()) == {1}
    assert stored_hits(cluster) == Counter(range(300))


def test_lanes_no_node_answers_bounds_the_memory_of_all_lanes(
    cluster: Cluster, settings: Settings, secrets: Secrets
):
    settings = dataclasses.replace(settings, pending_bytes=1 << 20, spool_bytes=0)

    async def story() -> None:
        async with recording(settings, secrets) as pixels:
            assert isinstance(pixels.recorder, Lanes)
            answered: list[bool] = []
            while pixels.recorder.record(None, bytes(1000), answered.append):
                assert pixels.recorder.pending_bytes <= settings.pending_bytes
            assert pixels.recorder.pending_bytes > settings.pending_bytes * 0.9
            assert pixels.recorder.counts["refused"] == 1
            assert not answered

    uvloop.run(story())
