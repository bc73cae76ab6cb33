"""Nodes and hosts of a cluster fail, one after the other, while pixels are requested.

Three hosts have a primary, the replica of another primary, a web process and a worker; a fourth has a web
process and a worker. Each has a network namespace, if this process may make some, so that the first three can
be cut off from each other. The Redis of the job queue fails too. After each failure the cluster becomes whole
again. For each recipient, answered `recorded` <= counted <= sent must hold at the end.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pixel_server.collect.spool.status import read_status
from pixel_server.store.slots import slot_of_shard
from tests.chaos.cluster_server import ClusterServer, WebHost, cluster_server
from tests.chaos.ledger import SHARDS, Ledger
from tests.chaos.outcome import Outcome
from tests.chaos.scenario import say
from tests.cluster_nodes import ClusterNode
from tests.network import Network
from tests.stack import until
from tests.store.test_cluster import move_atomically, move_classic


def run(seed: int, log: bool = False, failures: int = 30) -> Outcome:
    outcome = Outcome("cluster", seed)
    with cluster_server(outcome) as (server, network):
        story = Story(server, network, outcome, log)
        with Ledger(seed, "http://pixel.test", server.secrets, server.addresses, pause=0.1) as ledger:
            story.fail(failures)
            story.lose_host(ledger)
        until(server.is_quiet, 90, 0.2)
        ledger.compare(server.cluster.url, outcome)
        outcome.figures["batches that promoted replicas lacked"] = server.sent_again()
        outcome.expect(server.reported() == 0, "hits are reported lost")
        outcome.expect(not (errors := server.failures_in_logs()), f"a web process logged: {errors}")
    return outcome


class Story:
    """The failures of one run."""

    def __init__(self, server: ClusterServer, network: Network | None, outcome: Outcome, log: bool) -> None:
        self._server = server
        self._network = network
        self._outcome = outcome
        self._draw = random.Random(outcome.seed)
        self._log = log

    def fail(self, failures: int) -> None:
        """Lets random parts fail, each kind of failure once before any comes again."""
        kinds: list[Callable[[], None]] = [
            self._kill_primary,
            self._kill_replica,
            self._kill_pair_in_turn,
            self._hang_primary,
            self._move_classic,
            self._move_atomically,
            self._empty_queue,
            self._kill_web,
            self._kill_worker,
        ]
        if self._network is not None:
            kinds += [self._cut_off_host] * 2
        while self._outcome.events.total() < failures:
            self._draw.shuffle(kinds)
            for kind in kinds:
                kind()
                self._server.wait_ready()
                time.sleep(self._draw.uniform(0.2, 1.0))
                if self._outcome.events.total() >= failures:
                    break

    def lose_host(self, ledger: Ledger) -> None:
        """Loses a host while its spool has hits. Drains a copy of its spool on another host."""
        lost, other = self._server.hosts[:2]
        primary = self._server.primary_of(self._draw.randrange(SHARDS))
        with self._hanging(primary):
            until(lambda: read_status(lost.data / "spool").segments)
            ledger.stop()
            lost.close()
            self._note("web hosts lost with hits in the spool")
            copy = self._server.home / "copy"
            shutil.copytree(lost.data / "spool", copy)
            self._outcome.figures["hits in the copied spool"] = read_status(copy).hits
            until(lambda: _is_removed(lost.data), 30)
            lost.data.mkdir()
            until(lambda: self._server.has_lost_its_slots(primary))
        until(self._server.is_whole)
        other.run("spool", "drain", str(copy))
        lost.start_web()
        lost.start_worker()

    def _note(self, event: str) -> None:
        say(self._log, event)
        self._outcome.events[event] += 1

    def _kill_primary(self) -> None:
        self._replace(self._draw.choice(self._server.primaries()), "kill -9 of primaries")

    def _kill_pair_in_turn(self) -> None:
        """Kills a primary, then the replica that has taken over."""
        first = self._draw.choice(self._server.primaries())
        before = set(self._server.primaries())
        self._replace(first, "kill -9 of primaries, then of their successors")
        until(self._server.is_whole)
        (second,) = set(self._server.primaries()) - before
        self._replace(second, "kill -9 of primaries, then of their successors")

    def _replace(self, node: ClusterNode, event: str) -> None:
        """Kills a primary, and starts it again when its replica has taken over."""
        self._note(event)
        node.send_signal(signal.SIGKILL)
        until(lambda: self._server.has_lost_its_slots(node))
        node.start()

    def _kill_replica(self) -> None:
        node = self._draw.choice([n for n in self._server.cluster.nodes if n not in self._server.primaries()])
        self._note("kill -9 of replicas")
        node.send_signal(signal.SIGKILL)
        time.sleep(self._draw.uniform(0.1, 2.0))
        node.start()

    def _hang_primary(self) -> None:
        """Stops a primary until its replica has taken over. Then it answers on for a moment."""
        node = self._draw.choice(self._server.primaries())
        self._note("hangs of primaries")
        with self._hanging(node):
            until(lambda: self._server.has_lost_its_slots(node))

    @contextlib.contextmanager
    def _hanging(self, node: ClusterNode) -> Iterator[None]:
        node.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            node.send_signal(signal.SIGCONT)

    def _cut_off_host(self) -> None:
        """Cuts a host off from the hosts with nodes, until a replica has taken over its primary's slots.

        Its own web process, and the web process of the fourth host, still reach the former primary.
        """
        assert self._network is not None
        node = self._draw.choice(self._server.lone_primaries())
        others = [host for host in self._network.hosts[:3] if host is not node.host]
        self._note("hosts cut off from other nodes")
        for other in others:
            self._network.cut(node.host, other)
        until(lambda: self._server.has_lost_its_slots(node))
        time.sleep(self._draw.uniform(0.0, 2.0))
        for other in others:
            self._network.heal(node.host, other)

    def _move_classic(self) -> None:
        self._move(move_classic, "shards moved by SETSLOT and MIGRATE")

    def _move_atomically(self) -> None:
        self._move(move_atomically, "shards moved by CLUSTER MIGRATESLOTS")

    def _move(self, move: Callable[..., None], event: str) -> None:
        shard = self._draw.randrange(SHARDS)
        source = self._server.primary_of(shard)
        target = self._draw.choice([node for node in self._server.primaries() if node is not source])
        self._note(event)
        move(source, target, slot_of_shard(shard), [])

    def _empty_queue(self) -> None:
        self._note("kill -9 of the queue, which comes back empty")
        self._server.queue.kill()
        self._server.queue.wait()
        time.sleep(self._draw.uniform(0.0, 1.0))
        self._server.start_queue()

    def _kill_web(self) -> None:
        host = self._host()
        self._note("kill -9 of web processes")
        host.end("web")
        host.start_web()

    def _kill_worker(self) -> None:
        host = self._host()
        self._note("kill -9 of workers")
        host.end("worker")
        host.start_worker()

    def _host(self) -> WebHost:
        return self._draw.choice(self._server.hosts)


def _is_removed(directory: Path) -> bool:
    """Removes a directory. Returns False if a process that is about to end has put a file into it."""
    shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()
