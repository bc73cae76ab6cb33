"""A host of a cluster is cut off, and its web process is killed before it can send its last hits elsewhere.

A replica takes over without these hits, and they are lost. The server must report each of them once the host
is back, and nothing else.
"""

from __future__ import annotations

import contextlib
import random
import time

from tests.chaos.cluster_server import cluster_server
from tests.chaos.ledger import Ledger
from tests.chaos.outcome import Outcome
from tests.chaos.scenario import say
from tests.stack import until

ROUNDS = 3


def run(seed: int, log: bool = False) -> Outcome:
    outcome = Outcome("two-failures", seed)
    draw = random.Random(seed)
    with cluster_server(outcome) as (server, network):
        if network is None:
            return outcome
        ledgers = []
        for number in range(ROUNDS):
            node = draw.choice(server.lone_primaries())
            host = next(host for host in server.hosts if host.address[0] == node.host.address)
            others = [other for other in network.hosts[:3] if other is not node.host]
            ledger = Ledger(seed + number, "http://pixel.test", server.secrets, lambda: [host.address])  # noqa: B023
            ledgers.append(ledger)
            with ledger:
                time.sleep(draw.uniform(0.5, 1.0))
                say(log, "a host is cut off")
                for other in others:
                    network.cut(node.host, other)
                time.sleep(draw.uniform(0.2, 0.8))
            time.sleep(1)  # the last acknowledged hits are in a file after 0.1 s
            say(log, "kill -9 of its web process")
            host.end("web")
            until(lambda: server.has_lost_its_slots(node))  # noqa: B023
            for other in others:
                network.heal(node.host, other)
            until(server.is_whole)
            host.start_web()
            server.wait_ready()
            outcome.events["hosts cut off whose web process was killed"] += 1
        until(server.is_quiet, every=0.2)
        ledgers[0].requests = [request for ledger in ledgers for request in ledger.requests]
        ledgers[0].compare(server.cluster.url, outcome)
        outcome.expect(outcome.lost > 0, "nothing was lost, so nothing was tried")
        with contextlib.suppress(AssertionError):  # the outcome names the failure
            until(lambda: server.reported() >= outcome.lost)
        time.sleep(2)  # compares with the store each second
        outcome.reported = server.reported()
        outcome.expect(outcome.reported == outcome.lost, "the reported hits are not the lost hits")
    return outcome
