"""Costs of a hit on one Redis and on clusters, and from them the machines for 10 k, 100 k and 1 M hits/s.

python -m tests.bench.scaling [--rounds 3] [--seconds 2]

In each round, 256 connections flood each deployment in turn, and then its hits are counted. The web process
and the roll-up run on the serving core; the load generator and all nodes share the other core. So the hits a
second of a cluster say little here, and the CPU time a hit is what counts. Nodes sync each write to disk. At
last, one web process and two web processes share both cores with the load generator and one Valkey. One web
process and the load generator fill two cores already, so two web processes store no more here; their CPU time
a hit tells what they can store with cores of their own. With `--dir /dev/shm` a slow disk does not blur the
figures. docs/scaling.md has the results.
"""

from __future__ import annotations

import contextlib
import gc
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pixel_server.settings import Settings
from pixel_server.store import jobs, keys
from pixel_server.store.client import connect
from tests import cluster_nodes
from tests.bench import scaling_table, wrk
from tests.bench.machine import cpu_us, on
from tests.bench.program import Figure, alone, number
from tests.bench.sides import API_KEY, RECIPIENT, SECRETS, SIGNING, Bench, Side, running, valkey
from tests.bench.wrk import Load
from tests.cluster_nodes import running_cluster
from tests.sentinels import Program
from tests.stack import free_port, until
from workers.rollup import drain_shards


class Deployment(NamedTuple):
    """A kind of deployment. primaries: number of nodes of a cluster. 1 is one Valkey without a cluster, and 0
    the Valkey of `up`, on a Unix socket.

    replicas: replicas of each primary. is_floating: whether everything runs on both cores.
    """

    primaries: int
    shards: int
    replicas: int = 0
    processes: int = 1
    connections: int = 256
    is_floating: bool = False

    @property
    def name(self) -> str:
        store = {0: "Valkey on a socket", 1: "one Valkey"}.get(self.primaries, f"{self.primaries} nodes")
        if self.replicas:
            store += " and their replicas"
        if self.is_floating:
            return f"{store}, all on both cores, web processes: {self.processes}"
        return f"{store}, {self.shards} shards, {self.connections} connections"


ONE = Deployment(0, 4)
ONE_16, ONE_32, ONE_128 = Deployment(1, 16), Deployment(1, 32), Deployment(1, 128)
THREE_NODES, THREE_NODES_128 = Deployment(3, 32), Deployment(3, 128)
REPLICATED = Deployment(3, 32, replicas=1)
TWICE = Deployment(2, 32, connections=512)
"""Two nodes, of which each has as many shards and connections as the node of ONE_16."""
DEPLOYMENTS = (ONE, ONE_16, TWICE, ONE_32, THREE_NODES, REPLICATED, ONE_128, THREE_NODES_128)
SHARED = (
    Deployment(0, 4, connections=512, is_floating=True),
    Deployment(0, 4, processes=2, connections=512, is_floating=True),
)
"""Deployments that show what a second web process brings on two cores."""


class Store:
    """The nodes of a deployment."""

    def __init__(self, url: str, clients: Sequence[Any]) -> None:
        """clients: a client of each node, the primaries first."""
        self.url = url
        self._clients = clients
        self.pids = [int(client.info("server")["process_id"]) for client in clients]
        for client in clients:
            client.config_set("auto-aof-rewrite-percentage", 0)

    def cpu(self) -> float:
        """Returns the CPU time of all nodes so far, in us."""
        return cpu_us(self.pids)

    def aof_bytes(self) -> int:
        """Returns the size of the append-only files of all nodes, in bytes."""
        return sum(int(client.info("persistence")["aof_current_size"]) for client in self._clients)

    def memory_bytes(self) -> int:
        """Returns the memory that all nodes use, in bytes."""
        return sum(int(client.info("memory")["used_memory"]) for client in self._clients)


@dataclass
class Running:
    """A deployment that runs, with its web process or processes."""

    deployment: Deployment
    store: Store
    side: Side


class Round(NamedTuple):
    """Result of one round. rate: hits a second. web, redis: CPU time a hit that was stored, in us, of the web
    processes and of all nodes. aof, memory: bytes a hit that was stored.
    worker, counting_redis: CPU time a hit that was counted, in us. counting_aof: bytes a hit.
    """

    rate: float
    web: float
    redis: float
    aof: float
    memory: float
    worker: float
    counting_redis: float
    counting_aof: float


AS_IN_A_CLUSTER = [
    f'{name} "{value}"' for name, value in cluster_nodes.SETTINGS.items() if not name.startswith("cluster-")
]
"""Settings of a Valkey that is not part of a cluster, the same as those of a cluster's nodes."""


@contextlib.contextmanager
def _store(bench: Bench, deployment: Deployment) -> Iterator[Store]:
    cores = [bench.cores.serving, bench.cores.other] if deployment.is_floating else [bench.cores.other]
    with contextlib.ExitStack() as stack:
        if deployment.primaries == 1:
            with on(*cores):
                node = Program(bench.directory("valkey"), *AS_IN_A_CLUSTER)
            stack.callback(node.kill)
            yield Store(f"redis://127.0.0.1:{node.port}", [stack.enter_context(node.client())])
        elif deployment.primaries:
            with on(*cores):
                cluster = stack.enter_context(
                    contextlib.contextmanager(running_cluster)(
                        bench.directory("cluster"), deployment.primaries, deployment.replicas
                    )
                )
            clients = [
                stack.enter_context(connect(f"redis://{h}:{p}"))
                for h, p in (node.address for node in cluster.nodes)
            ]
            yield Store(cluster.url, clients)
        else:
            store = stack.enter_context(valkey(bench, *cores))
            yield Store(store.valkey.url, [store.client])


@contextlib.contextmanager
def _running(bench: Bench, deployment: Deployment) -> Iterator[Running]:
    """Runs a deployment. With a cluster, the job queue is on a Redis of its own."""
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(_store(bench, deployment))
        queue = stack.enter_context(_store(bench, ONE)) if deployment.primaries > 1 else store
        home, port = bench.directory("web"), free_port()
        environ = {
            "REDIS_URL": store.url,
            "PIXEL_QUEUE_URL": queue.url,
            "PIXEL_DATA_DIR": str(home),
            "PIXEL_BASE_URL": "http://pixel.test",
            "PIXEL_API_KEY": API_KEY,
            "PIXEL_SECRET": SIGNING,
            "PIXEL_RECIPIENT_SECRET": RECIPIENT,
            "PIXEL_SHARDS": str(deployment.shards),
        }
        command = [sys.executable, "-m", "pixel_server", "serve", "--port", str(port)]
        command += ["--processes", str(deployment.processes)]
        cores = [bench.cores.serving, bench.cores.other] if deployment.is_floating else [bench.cores.serving]
        log = home / "log"
        process = stack.enter_context(running(command, cores, log, **environ))
        side = Side(deployment.name, port, "/o/", ".gif", process, floating=deployment.is_floating)
        side.settings = Settings.from_env(environ)
        until(lambda: _answers(side, log))
        yield Running(deployment, store, side)


def _answers(side: Side, log: Path) -> bool:
    assert side.process.poll() is None, log.read_text()
    try:
        return side.get("/healthz")[0] == 200
    except OSError:
        return False


def _count(bench: Bench, settings: Settings) -> tuple[int, float]:
    """Counts all waiting hits in this process. Returns their number, and its CPU time in us."""
    counted = 0
    gc.collect()
    with on(bench.cores.serving), connect(settings.redis_url, timeout=60.0) as client:
        began = time.process_time()
        while True:
            before = counted
            for first in range(jobs.rollup_count(settings.shards)):
                shards = jobs.shards_of_rollup(first, settings.shards)
                counted += drain_shards(client, settings, SECRETS, shards, time.monotonic() + 60, time.time)
            if counted == before:
                return counted, (time.process_time() - began) * 1e6


def _waiting(settings: Settings) -> int:
    """Returns the number of batches that wait to be counted."""
    with connect(settings.redis_url) as client:
        return sum(int(client.xlen(keys.hits(shard))) for shard in range(settings.shards))


def one_round(bench: Bench, running: Running, seconds: float) -> Round:
    side, store = running.side, running.store
    both = [bench.cores.serving, bench.cores.other]
    web, redis, aof, memory = cpu_us(side.pids()), store.cpu(), store.aof_bytes(), store.memory_bytes()
    answers = wrk.run(
        bench, side, Load(running.deployment.connections, seconds), both if side.floating else ()
    )
    web, redis = cpu_us(side.pids()) - web, store.cpu() - redis
    aof, memory = store.aof_bytes() - aof, store.memory_bytes() - memory
    batches = _waiting(side.settings)
    counting_redis, counting_aof = store.cpu(), store.aof_bytes()
    counted, worker = _count(bench, side.settings)
    stored = answers.requests - answers.bad
    most = answers.requests + running.deployment.connections
    assert stored <= counted <= most, f"{counted} of {stored} hits are counted"
    hits = counted
    print(
        f"... {side.name}: {answers.rate:,.0f} hits/s, web {web / hits:.1f} us, "
        f"{hits / batches:.1f} hits a batch",
        file=sys.stderr,
        flush=True,
    )
    return Round(
        answers.rate,
        web / hits,
        redis / hits,
        aof / hits,
        memory / hits,
        worker / hits,
        (store.cpu() - counting_redis) / hits,
        (store.aof_bytes() - counting_aof) / hits,
    )


def _medians(
    bench: Bench, deployments: Sequence[Deployment], rounds: int, seconds: float
) -> dict[Deployment, Round]:
    """Returns the medians of each deployment. All of them run at the same time, and are used in turn."""
    results: dict[Deployment, list[Round]] = {deployment: [] for deployment in deployments}
    with contextlib.ExitStack() as stack:
        all_running = [stack.enter_context(_running(bench, deployment)) for deployment in deployments]
        for running in all_running:
            one_round(bench, running, 1)
        for _ in range(rounds):
            for running in all_running:
                results[running.deployment].append(one_round(bench, running, seconds))
    return {
        deployment: Round(*map(statistics.median, zip(*found, strict=True)))
        for deployment, found in results.items()
    }


def measure(bench: Bench, rounds: int = 3, seconds: float = 2.0) -> list[Figure]:
    medians = _medians(bench, DEPLOYMENTS, rounds, seconds)
    shared = _medians(bench, SHARED, rounds, seconds)
    _print_costs(medians | shared)
    scaling_table.print_table(
        {
            10_000: scaling_table.costs(medians[ONE]),
            100_000: scaling_table.costs(medians[THREE_NODES]),
            1_000_000: scaling_table.costs(medians[THREE_NODES_128]),
        }
    )
    few, many = (shared[deployment] for deployment in SHARED)
    return [
        _ratio(
            "web CPU, 3 nodes to one Valkey, 32 shards",
            medians[THREE_NODES].web,
            medians[ONE_32].web,
            most=1.2,
        ),
        _ratio(
            "web CPU, 3 nodes to one Valkey, 128 shards",
            medians[THREE_NODES_128].web,
            medians[ONE_128].web,
            most=1.2,
        ),
        _ratio("hits/s, two web processes to one, all on both cores", many.rate, few.rate),
        _ratio("hits that two web processes can store to one, by CPU", 2 * few.web, many.web, least=1.5),
        _ratio(
            "hits that two nodes can store to one, by CPU",
            2 * medians[ONE_16].redis,
            medians[TWICE].redis,
            least=1.6,
        ),
        _ratio(
            "hits that two nodes can store and count to one, by CPU",
            2 * _redis(medians[ONE_16]),
            _redis(medians[TWICE]),
            least=1.6,
        ),
    ]


def _redis(result: Round) -> float:
    """Returns the CPU time of Redis a hit that is stored and counted, in us."""
    return result.redis + result.counting_redis


def _ratio(
    name: str, value: float, base: float, most: float | None = None, least: float | None = None
) -> Figure:
    return Figure(name, value / base, "times", most, least)


def _print_costs(medians: Mapping[Deployment, Round]) -> None:
    print("\nCPU in us a hit, of all processes of a kind; bytes a hit")
    print(f"  {'':<66}" + "".join(f"{name.replace('counting_', 'c. '):>9}" for name in Round._fields))
    for deployment, result in medians.items():
        print(f"  {deployment.name:<66}" + "".join(f"{number(value):>9}" for value in result))


if __name__ == "__main__":
    alone(__doc__, measure, rounds=3, seconds=2.0)
