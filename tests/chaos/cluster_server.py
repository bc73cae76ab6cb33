"""A server on three hosts or more: web and workers on each, and a cluster of six nodes on three of them.

The Redis of the job queue is on no host.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import redis

from pixel_server.collect.spool.status import read_status
from pixel_server.run.valkey import binary
from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.client import connect
from pixel_server.store.slots import slot_of_shard
from pixel_server.store_url import Address, shown_address
from tests.chaos.ledger import SHARDS
from tests.chaos.outcome import Outcome
from tests.chaos.scenario import API_KEY
from tests.cluster_nodes import Cluster, ClusterNode
from tests.network import LOCAL, ROUTER, Host, Network
from tests.stack import free_port, until

SIGNING_KEY, RECIPIENT_SECRET = "signing-key-of-the-chaos-test", "recipient-secret-of-the-chaos-test"


class WebHost:
    """A host with a web process and a worker. Its data directory, with its spool, belongs to it alone."""

    def __init__(self, host: Host, data: Path, environ: dict[str, str]) -> None:
        self.data = data
        self.data.mkdir()
        self.address: Address = (host.address, free_port())
        self.url = f"http://{shown_address(self.address)}"
        self._host = host
        self._environ = {**environ, "PIXEL_DATA_DIR": str(data)}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str, code: Path | None = None) -> None:
        """Starts `pixel-server` with these arguments, of the code in a directory (None: this version)."""
        with self._log(name).open("ab") as out:
            self._running[name] = subprocess.Popen(
                [*self._host.enter, sys.executable, "-m", "pixel_server", *arguments],
                env={**os.environ, **self._environ},
                cwd=code,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def start_web(self, code: Path | None = None) -> None:
        self.start("web", "serve", "--host", self.address[0], "--port", str(self.address[1]), code=code)

    def start_worker(self, code: Path | None = None) -> None:
        self.start("worker", "work", code=code)

    def end(self, name: str, number: int = signal.SIGKILL) -> None:
        """Sends a signal to a process and its children, and waits until the process has ended."""
        process = self._running.pop(name, None)
        if process is not None:
            os.killpg(process.pid, number)
            process.wait(30)

    def close(self) -> None:
        for name in list(self._running):
            self.end(name)

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Calls the API. Returns (status, JSON of the answer), (0, None) if there is no answer."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                content = answer.read()
                return answer.status, json.loads(content) if content else None
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")
        except OSError:
            return 0, None

    def readyz(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.call("GET", "/readyz")[1] or {}
        return answer

    def is_ready(self) -> bool:
        """Returns whether the web process stores hits of all shards in Redis."""
        ready = self.readyz()
        return ready.get("redis", {}).get("answers", False) and ready["recorder"]["failing_since"] is None

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of `pixel-server` on this host."""
        return subprocess.run(
            [*self._host.enter, sys.executable, "-m", "pixel_server", *arguments],
            env={**os.environ, **self._environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )

    def log(self, name: str) -> str:
        """Returns the log of a process."""
        return self._log(name).read_text(errors="replace")

    def _log(self, name: str) -> Path:
        return self.data.with_name(f"{self.data.name}-{name}.log")


class ClusterServer:
    """Starts the nodes and the Redis of the queue. `start` starts web and workers. `close` ends all."""

    def __init__(self, hosts: Sequence[Host] = (LOCAL,) * 3, **environ: str) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="px-"))
        self.cluster = Cluster(self.home, primaries=3, replicas=1, hosts=hosts[:3])
        self.queue_address = (LOCAL.address if hosts[0] is LOCAL else ROUTER, free_port())
        self.start_queue()
        self.cluster.start()
        self.secrets = Secrets.derive((SIGNING_KEY,), RECIPIENT_SECRET)
        shared = {
            "REDIS_URL": self.cluster.url,
            "PIXEL_QUEUE_URL": f"redis://{shown_address(self.queue_address)}/0",
            "PIXEL_API_KEY": API_KEY,
            "PIXEL_SECRET": SIGNING_KEY,
            "PIXEL_RECIPIENT_SECRET": RECIPIENT_SECRET,
            "PIXEL_BASE_URL": "http://pixel.test",
            "PIXEL_REWRITE_MINUTES": "60",
            **environ,
        }
        self.hosts = [WebHost(host, self.home / f"host{n}", shared) for n, host in enumerate(hosts)]

    def start_queue(self) -> None:
        """Starts the Redis of the queue, which is empty, in place of the former."""
        host, port = self.queue_address
        words = ["--port", str(port), "--bind", host, "--save", "", "--dir", str(self.home)]
        self.queue = subprocess.Popen(
            [str(binary()), *words, "--protected-mode", "no", "--set-proc-title", "no"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def start(self) -> None:
        """Starts web and workers on each host. Returns when each web process is ready."""
        self.cluster.wait_ready()
        for host in self.hosts:
            host.start_web()
            host.start_worker()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Waits until the cluster is whole, and each web process stores hits of all shards in it."""
        until(self.is_whole, every=0.1)
        for host in self.hosts:
            until(host.is_ready, every=0.1)

    def addresses(self) -> list[Address]:
        """Returns the addresses of the web processes."""
        return [host.address for host in self.hosts]

    def primaries(self) -> list[ClusterNode]:
        """Returns the primaries. All nodes must run."""
        return [node for node in self.cluster.nodes if node.ask("ROLE")[0] == b"master"]

    def lone_primaries(self) -> list[ClusterNode]:
        """Returns the primaries that are alone on their host: if it is cut off, the others can replace it."""
        primaries = self.primaries()
        hosts = [node.host for node in primaries]
        return [node for node in primaries if hosts.count(node.host) == 1]

    def primary_of(self, shard: int) -> ClusterNode:
        """Returns the node that has a shard. All nodes must run and agree."""
        slot = slot_of_shard(shard)
        slots = self.cluster.nodes[0].ask("CLUSTER SLOTS")
        (port,) = [primary[1] for first, last, primary, *_ in slots if first <= slot <= last]
        return next(node for node in self.cluster.nodes if node.address[1] == port)

    def has_lost_its_slots(self, node: ClusterNode) -> bool:
        """Returns whether the nodes on other hosts know another primary instead of this node."""
        for other in self.cluster.nodes:
            if other is not node and (other.host is LOCAL or other.host is not node.host):
                try:
                    slots = other.ask("CLUSTER SLOTS")
                except redis.RedisError:
                    return False
                if not slots or any(primary[1] == node.address[1] for _, _, primary, *_ in slots):
                    return False
        return True

    def is_whole(self) -> bool:
        """Returns whether each primary has its replica, and each replica all that its primary has."""
        try:
            roles = [node.ask("ROLE") for node in self.cluster.nodes]
            states = [node.ask("CLUSTER INFO") for node in self.cluster.nodes]
            views = [node.ask("CLUSTER NODES") for node in self.cluster.nodes]
        except redis.RedisError:
            return False
        links = [role[3] for role in roles if role[0] == b"slave"]
        return (
            links == [b"connected"] * 3
            and all(b"cluster_state:ok" in state for state in states)
            and not any(b"fail" in view for view in views)
            and [view.count(b"slave") for view in views] == [3] * 6
        )

    def is_quiet(self) -> bool:
        """Returns whether nothing waits, neither in a spool nor in a stream."""
        statuses = [read_status(host.data / "spool") for host in self.hosts]
        try:
            with connect(self.cluster.url, timeout=10) as client:
                waiting = sum(client.xlen(keys.hits(shard)) for shard in range(SHARDS))
        except redis.RedisError:
            return False
        return not waiting and not any(status.segments for status in statuses)

    def reported(self) -> int:
        """Returns the number of lost hits that /readyz of any host reports."""
        return max(host.readyz().get("losses", {}).get("hits", 0) for host in self.hosts)

    def sent_again(self) -> int:
        """Returns the number of batches that a promoted replica lacked, and that web processes sent again."""
        logs = (host.log("web") for host in self.hosts)
        return sum(
            int(n) for log in logs for n in re.findall(r"sent it the last .*, (\d+) were missing", log)
        )

    def failures_in_logs(self) -> list[str]:
        """Returns the exceptions that web processes have logged with a traceback."""
        logs = "".join(host.log("web") for host in self.hosts)
        return re.findall(r".* traceback=.*", logs)

    def end_of_logs(self) -> str:
        return "\n".join(host.log(name)[-3000:] for host in self.hosts for name in ("web", "worker"))

    def close(self) -> None:
        for host in self.hosts:
            host.close()
        self.cluster.close()
        self.queue.kill()
        self.queue.wait()
        shutil.rmtree(self.home, ignore_errors=True)


@contextlib.contextmanager
def cluster_server(outcome: Outcome, hosts: int = 4) -> Iterator[tuple[ClusterServer, Network | None]]:
    """Yields a running server, on hosts in network namespaces if this process may make some.

    If the block raises, prints the ends of the logs.
    """
    with contextlib.ExitStack() as stack:
        network = None
        try:
            network = Network(hosts)
            stack.callback(network.close)
        except OSError as error:
            print(f"!! NO NETWORK NAMESPACES HERE, SO NO HOST IS CUT OFF: {error} !!", flush=True)
        outcome.figures["hosts in network namespaces"] = hosts if network else 0
        server = ClusterServer(network.hosts if network else (LOCAL,) * hosts)
        stack.callback(server.close)
        try:
            server.start()
            yield server, network
        except BaseException:
            print(server.end_of_logs())
            raise
