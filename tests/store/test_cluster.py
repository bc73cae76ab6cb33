"""The clients of a cluster, against a cluster of real Valkey nodes."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from pixel_server.api import store_health
from pixel_server.recipients import erasure
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import replication
from pixel_server.store.aof_rewrite import Rewriter, request_sync
from pixel_server.store.client import connect, connect_async
from pixel_server.store.nodes import node_name, nodes, nodes_sync
from pixel_server.store.script import script_call
from pixel_server.store.shards import shard_of
from pixel_server.store.slots import slot_of, slot_of_shard
from pixel_server.store_url import shown_address
from tests.cluster_nodes import Cluster, ClusterNode, running_cluster
from tests.stack import until

SHARDS = range(8)
NOW = 1_790_000_000.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Returns a cluster of three primaries, each with a replica."""
    yield from running_cluster(tmp_path_factory.mktemp("cluster"), 3, 1)


@pytest.fixture(params=["blocking", "asyncio"])
def run(request: pytest.FixtureRequest, cluster: Cluster) -> Callable[..., list[Any]]:
    """Returns a function that carries out commands in one pipeline, with one of the two clients."""

    def run_blocking(
        *commands: tuple[Any, ...], seconds: float = 10.0, transaction: bool = False
    ) -> list[Any]:
        with connect(cluster.url, timeout=seconds) as client:
            pipe: Any = client.pipeline(transaction=transaction)
            for words in commands:
                pipe.execute_command(*words)
            return pipe.execute()

    async def run_async(
        *commands: tuple[Any, ...], seconds: float = 10.0, transaction: bool = False
    ) -> list[Any]:
        client = connect_async(cluster.url, timeout=seconds)
        try:
            pipe: Any = client.pipeline(transaction=transaction)
            for words in commands:
                pipe.execute_command(*words)
            return await pipe.execute()
        finally:
            await client.aclose()

    if request.param == "blocking":
        return run_blocking
    return lambda *commands, **options: asyncio.run(run_async(*commands, **options))


def primary_of(cluster: Cluster, shard: int) -> ClusterNode:
    """Returns the node that has a shard now."""
    slot = slot_of_shard(shard)
    for first, last, primary, *_ in cluster.nodes[0].ask("CLUSTER SLOTS"):
        if first <= slot <= last:
            return next(node for node in cluster.nodes if node.address[1] == primary[1])
    raise LookupError(shard)


def test_cluster_pipeline_over_three_nodes_replies_in_order(run, cluster: Cluster):
    assert len({primary_of(cluster, shard).id for shard in SHARDS}) == 3
    names = [f"px:{{{shard}}}:order" for shard in SHARDS]
    sets = [("SET", name, name) for name in names]
    assert run(*sets, ("TIME",), *(("GET", name) for name in names))[-8:] == [name.encode() for name in names]


def test_cluster_transaction_is_carried_out_as_a_whole(run):
    assert run(("SET", "px:{1}:a", 1), ("GET", "px:{1}:a"), transaction=True) == [True, b"1"]
    with pytest.raises(redis.ResponseError, match="INCR"):  # of the first error, as redis-py's own client
        run(("SET", "px:{1}:a", "word"), ("INCR", "px:{1}:a"), transaction=True)


def test_cluster_node_hangs_raises_timeout_that_names_it_and_sends_nothing_twice(run, cluster: Cluster):
    node = primary_of(cluster, 1)
    run(("SET", "px:{1}:once", 0))
    node.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(redis.TimeoutError, match=rf"node 127\.0\.0\.1:{node.address[1]}: "):
            run(("INCR", "px:{1}:once"), seconds=1.0)
    finally:
        node.send_signal(signal.SIGCONT)
    assert int(until(lambda: run(("GET", "px:{1}:once")))[0]) <= 1


def test_cluster_nodes_are_each_primary_and_replica(cluster: Cluster):
    with connect(cluster.url) as client:
        assert [node_name(node) for node in nodes_sync(client)] == [
            f"127.0.0.1:{node.address[1]}" for node in cluster.primaries
        ]
        everyone = nodes_sync(client, replicas=True)
        assert {node_name(node) for node in everyone} == {
            f"127.0.0.1:{node.address[1]}" for node in cluster.nodes
        }
        assert len({node.info("server")["process_id"] for node in everyone}) == 6


def test_rewriter_rewrites_the_file_of_each_node(cluster: Cluster):
    with connect(cluster.url) as client:
        rewriter = Rewriter(Settings(rewrite_minutes=60))
        request_sync(client)
        assert rewriter.tick(client, [b"0-0"], NOW)
        everyone = nodes_sync(client, replicas=True)
        until(lambda: not any(node.info("persistence")["aof_rewrite_in_progress"] for node in everyone))
        assert [node.info("persistence")["aof_rewrites"] > 0 for node in everyone] == [True] * 6
        assert not rewriter.tick(client, [b"0-0"], NOW + 20)


# Increments two keys that it does not declare. Half of it would leave them different.
_PAIR = """
redis.call('INCR', KEYS[1] .. 'left')
return redis.call('INCR', KEYS[1] .. 'right')
"""


def pair_call(shard: int) -> Any:
    return script_call(_PAIR, keys=(f"px:{{{shard}}}:pair:",), undeclared=shard)


def move_classic(source: ClusterNode, target: ClusterNode, slot: int, others: list[ClusterNode]) -> None:
    """Moves a slot key by key."""
    target.ask("CLUSTER SETSLOT", slot, "IMPORTING", source.id)
    source.ask("CLUSTER SETSLOT", slot, "MIGRATING", target.id)
    while names := source.ask("CLUSTER GETKEYSINSLOT", slot, 10):
        source.ask("MIGRATE", *target.address, "", 0, 5000, "KEYS", *names)
    for node in (target, source):
        node.ask("CLUSTER SETSLOT", slot, "NODE", target.id)


def move_atomically(source: ClusterNode, target: ClusterNode, slot: int, others: list[ClusterNode]) -> None:
    """Moves a slot with the command that Valkey 9 has for it."""
    source.ask("CLUSTER MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.id)
    until(lambda: source.ask("CLUSTER SLOTS") and primary_is(target, slot))


def primary_is(node: ClusterNode, slot: int) -> bool:
    return any(
        first <= slot <= last and primary[1] == node.address[1]
        for first, last, primary, *_ in node.ask("CLUSTER SLOTS")
    )


@pytest.mark.parametrize("move", [move_classic, move_atomically])
def test_cluster_slot_moves_under_load_loses_nothing(cluster: Cluster, move):
    shard = 5 if move is move_classic else 6
    source = primary_of(cluster, shard)
    target = next(node for node in cluster.primaries if node is not source)
    fillers = [f"px:{{{shard}}}:filler{number}" for number in range(300)]
    done, stop = {"single": 0, "pair": 0, "other": 0}, threading.Event()

    async def load() -> None:
        client = connect_async(cluster.url, timeout=30.0)
        for name in fillers:
            pipe: Any = client.pipeline(transaction=False)
            pipe.execute_command("SET", name, name)
            await pipe.execute()

        async def writer(number: int) -> None:
            while not stop.is_set():
                pipe: Any = client.pipeline(transaction=False)
                pipe.hincrby(f"px:{{{shard}}}:single{number}", "n", 1)
                pipe.eval(*pair_call(shard))
                pipe.hincrby(f"px:{{{shard + 20}}}:other", "n", 1)
                await pipe.execute()
                for name in done:
                    done[name] += 1

        mover = asyncio.to_thread(move_when_busy)
        await asyncio.gather(mover, *(writer(number) for number in range(4)))
        await client.aclose()

    def move_when_busy() -> None:
        try:
            until(lambda: done["pair"] > 50)
            move(source, target, slot_of_shard(shard), cluster.nodes)
            after = done["pair"]
            until(lambda: done["pair"] > after + 50)
        finally:
            stop.set()

    asyncio.run(load())
    with connect(cluster.url) as client:
        single = sum(int(client.hmget(f"px:{{{shard}}}:single{n}", ["n"])[0] or 0) for n in range(4))
        left, right = (int(client.get(f"px:{{{shard}}}:pair:{side}") or 0) for side in ("left", "right"))
        assert (single, left, right) == (done["single"], done["pair"], done["pair"])
        assert client.mget(fillers) == [name.encode() for name in fillers]
    assert primary_of(cluster, shard) is target


def test_confirm_replica_of_one_node_hangs_raises_if_its_shards_are_meant(cluster: Cluster, monkeypatch):
    monkeypatch.setattr(replication, "CONFIRM_SECONDS", 0.3)
    of_all = next(node for node in cluster.primaries if primary_is(node, slot_of("{all}")))
    shard = next(shard for shard in SHARDS if primary_of(cluster, shard) is not of_all)
    replica = cluster.nodes[3 + cluster.primaries.index(primary_of(cluster, shard))]

    async def story() -> None:
        store = connect_async(cluster.url, timeout=10.0)
        replica.send_signal(signal.SIGSTOP)
        try:
            await replication.confirm(store)
            with pytest.raises(replication.NotReplicatedError):
                await replication.confirm(store, len(SHARDS))
        finally:
            replica.send_signal(signal.SIGCONT)
        monkeypatch.setattr(replication, "CONFIRM_SECONDS", 9.0)
        await replication.confirm(store, len(SHARDS))
        await store.aclose()

    asyncio.run(story())


def test_erase_replica_of_the_shard_hangs_raises_although_nothing_is_stored(cluster: Cluster, monkeypatch):
    """A roll-up from before the erasure could commit on the replica, if the replica took over."""
    monkeypatch.setattr(replication, "CONFIRM_SECONDS", 0.3)
    secrets, shards = Secrets.derive(("signing",), "recipients"), len(SHARDS)
    of_all = next(node for node in cluster.primaries if primary_is(node, slot_of("{all}")))
    shard = next(shard for shard in SHARDS if primary_of(cluster, shard) is not of_all)
    recipients = [key for n in range(200) if shard_of(key := n.to_bytes(8, "little"), shards) == shard]
    recipient, other = recipients[:2]
    primary = primary_of(cluster, shard)
    replica = cluster.nodes[3 + cluster.primaries.index(primary)]

    async def story() -> None:
        store = connect_async(cluster.url, timeout=10.0)
        replica.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(replication.NotReplicatedError):
                await erasure.erase(store, secrets, recipient, NOW, shards, "operator")
            outcome = await erasure.request_erasure(store, secrets, other, NOW, shards)
            assert outcome is erasure.Outcome.OWED
        finally:
            replica.send_signal(signal.SIGCONT)
        monkeypatch.setattr(replication, "CONFIRM_SECONDS", 9.0)
        await erasure.erase(store, secrets, recipient, NOW, shards, "operator")
        assert await erasure.run_owed(store, secrets, NOW, shards) == 1
        await store.aclose()

    asyncio.run(story())


def test_cluster_primary_and_replica_die_clients_follow_and_then_read_the_rest(cluster: Cluster):
    shard = 2
    word = f"px:{{{shard}}}:word"
    dead = primary_of(cluster, shard)
    other_shard = next(other for other in SHARDS if primary_of(cluster, other) is not dead)

    async def follow() -> None:
        store = connect_async(cluster.url, timeout=10.0)
        with connect(cluster.url, timeout=10.0) as client:
            client.set(word, "before")
            await store.hset(f"px:{{{shard}}}:hash", "n", 1)
            dead.send_signal(signal.SIGKILL)
            with pytest.raises(redis.ConnectionError, match=rf"node 127\.0\.0\.1:{dead.address[1]}: "):
                client.get(word)
            client.time()

            def answers() -> bool:
                try:
                    return client.get(word) is not None
                except (redis.ConnectionError, redis.TimeoutError):
                    return False

            await asyncio.to_thread(until, answers, 60)
            assert await store.hget(f"px:{{{shard}}}:hash", "n") == b"1"
            assert len(await nodes(store)) == 3
        await store.aclose()

    asyncio.run(follow())
    heir = primary_of(cluster, shard)
    heir.send_signal(signal.SIGKILL)

    async def read_the_rest() -> None:
        async with connect_async(cluster.url, timeout=10.0) as store:
            pipe = store.pipeline(transaction=False)
            for each in (shard, other_shard):
                pipe.exists(f"px:{{{each}}}:word")
            error, answer = await pipe.execute(raise_on_error=False)
            assert isinstance(error, redis.ConnectionError)
            assert answer == 0
            away = (await store_health.read(store, len(SHARDS), NOW))["redis"]["away"]
            assert [line.split()[1] for line in away] == [f"{shown_address(heir.address)}:"]

    try:
        asyncio.run(read_the_rest())
    finally:
        for node in (dead, heir):
            node.start()
            until(node.is_ready)
