"""A cluster of real Valkey nodes, of the bundled binary, for tests."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import redis

from pixel_server.run.valkey import binary
from pixel_server.store.client import connect
from pixel_server.store.cluster import ClusterRedis
from pixel_server.store.cluster_calls import slot_of_command
from pixel_server.store.slots import SLOTS
from pixel_server.store_url import parse, shown_address
from tests.network import LOCAL, Host
from tests.stack import free_port, until

SETTINGS = {
    "cluster-enabled": "yes",
    "cluster-node-timeout": "1000",
    "cluster-require-full-coverage": "no",
    "save": "",
    "appendonly": "yes",
    "appendfsync": "always",
    "maxmemory-policy": "noeviction",
    "rdbcompression": "no",
    "stream-node-max-entries": "1",
    "repl-diskless-sync-delay": "0",
    "protected-mode": "no",
    "set-proc-title": "no",  # a title would overwrite the environment, by which `leftovers` knows it
}


class ClusterNode:
    """One node. Its address stays the same when it is started again."""

    def __init__(self, number: int, directory: Path, host: Host = LOCAL) -> None:
        self.id = f"{number + 1:040x}"
        self.host = host
        self.address = (host.address, free_port())
        self.bus_port = free_port()
        self.directory = directory / f"node{number}"
        self.directory.mkdir(parents=True)
        self.process: subprocess.Popen[bytes] | None = None
        self._client = redis.Redis(*self.address, protocol=2, socket_timeout=10, driver_info=None)
        self._client.response_callbacks.clear()

    def start(self) -> None:
        settings = {
            **SETTINGS,
            "port": str(self.address[1]),
            "cluster-port": str(self.bus_port),
            "bind": self.address[0],
            "dir": str(self.directory),
            "logfile": str(self.directory / "valkey.log"),
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        self.process = subprocess.Popen(
            [*self.host.enter, str(binary()), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def send_signal(self, number: int) -> None:
        """Sends a signal. Waits until the process has ended if the signal is SIGKILL or SIGTERM."""
        assert self.process is not None
        self.process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.process.wait(60)

    def ask(self, *words: Any) -> Any:
        """Returns the reply to a command, as Valkey sends it."""
        name, *rest = words
        return self._client.execute_command(*str(name).split(), *rest)

    def is_ready(self) -> bool:
        """Returns whether the node takes commands for all slots.

        Raises AssertionError with the end of its log if the process has ended.
        """
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError("".join((self.directory / "valkey.log").read_text().splitlines(True)[-5:]))
        try:
            return b"cluster_state:ok" in self.ask("CLUSTER INFO")
        except redis.RedisError:
            return False

    def close(self) -> None:
        self._client.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(60)


class Cluster:
    """A cluster. `nodes` are first the primaries, which share the slots evenly, then their replicas.

    hosts: the primaries are on these hosts in turn, and each replica is on the host after its primary's.
    The nodes find the whole cluster in their files, so that they need not meet. A primary takes writes two
    seconds after its start; that pause is Valkey's own.
    """

    def __init__(
        self, directory: Path, primaries: int = 1, replicas: int = 0, hosts: Sequence[Host] = (LOCAL,)
    ) -> None:
        places = [hosts[(n + n // primaries) % len(hosts)] for n in range(primaries * (1 + replicas))]
        self.nodes = [ClusterNode(number, directory, place) for number, place in enumerate(places)]
        self.primaries = self.nodes[:primaries]
        for node in self.nodes:
            lines = [self._line(number, other, node) for number, other in enumerate(self.nodes)]
            lines.append(f"vars currentEpoch {primaries} lastVoteEpoch 0\n")
            (node.directory / "nodes.conf").write_text("".join(lines))

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(shown_address(node.address) for node in self.nodes[:3])

    def start(self) -> None:
        for node in self.nodes:
            node.start()

    def wait_ready(self) -> None:
        for node in self.nodes:
            until(node.is_ready)
        for replica in self.nodes[len(self.primaries) :]:
            until(lambda node=replica: b"master_link_status:up" in node.ask("INFO", "replication"))

    def close(self) -> None:
        for node in self.nodes:
            node.close()

    def _line(self, number: int, node: ClusterNode, myself: ClusterNode) -> str:
        """Returns the line of a node in the file `nodes.conf` of another, or of itself."""
        count = len(self.primaries)
        own = number % count
        first, last = own * SLOTS // count, (own + 1) * SLOTS // count - 1
        is_primary = number < count
        flags = ("myself," if node is myself else "") + ("master" if is_primary else "slave")
        primary = "-" if is_primary else self.nodes[own].id
        slots = f" {first}-{last}" if is_primary else ""
        place = f"{shown_address(node.address)}@{node.bus_port}"
        return f"{node.id} {place} {flags} {primary} 0 0 {own + 1} connected{slots}\n"


def running_cluster(directory: Path, primaries: int = 1, replicas: int = 0) -> Iterator[Cluster]:
    """Yields a cluster that takes commands, and ends it afterwards."""
    cluster = Cluster(directory, primaries, replicas)
    try:
        cluster.start()
        cluster.wait_ready()
        yield cluster
    finally:
        cluster.close()


def client_of(url: str) -> Any:
    """Returns a client of the store at a URL. It also sends commands that concern one node.

    So a test can look at a cluster of one node as at one Valkey.
    """
    parts = parse(url)
    if parts.kind != "cluster":
        return connect(url)
    make = lambda address, timeout, _: redis.Redis(*address, protocol=2, socket_timeout=timeout)  # noqa: E731
    return _TestClient(parts.addresses, make, 5.0)


class _TestClient(ClusterRedis):
    """A client of a cluster of one node that sends commands without a key to this node."""

    def execute_command(self, *words: Any, **options: Any) -> Any:
        try:
            slot_of_command(words)
        except redis.DataError:
            (node,) = self.nodes()
            return node.execute_command(*words, **options)
        return super().execute_command(*words, **options)

    @property
    def connection_pool(self) -> Any:
        return self.nodes()[0].connection_pool
