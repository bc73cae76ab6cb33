"""A primary dies while its replica is cut off, and the replica is promoted without the last hits.

The web process has kept these hits, and sends them to the new primary: none is lost. In a second round the
server is stopped before the primary dies, and what it kept is gone: each lost hit must be reported, also
after a restart.
"""

from __future__ import annotations

import random
import time

from pixel_server.secret import Secrets
from pixel_server.store.client import connect
from tests.chaos.ledger import Ledger
from tests.chaos.outcome import Outcome
from tests.chaos.scenario import readyz, reported, say, settle, whole_server
from tests.chaos.switch import Server, Switch
from tests.stack import Stack, until


def run(seed: int, log: bool = False) -> Outcome:
    outcome = Outcome("promoted-replica", seed)
    draw = random.Random(seed)
    servers = [Server()]
    switch = Switch(servers[0].socket)
    try:
        with (
            whole_server(REDIS_URL=switch.url) as stack,
            Ledger(seed, stack.address, Secrets.load(stack.data), lambda: (stack.port,)) as ledger,
        ):
            for is_stopped in (False, True):
                _promote_replica(stack, servers, switch, ledger, outcome, draw, log, is_stopped)
            settle(servers[-1].url, stack.data)
            ledger.stop()
            ledger.compare(servers[-1].url, outcome)
            _check_reports(stack, outcome)
    finally:
        for server in servers:
            server.remove()
    return outcome


def _promote_replica(
    stack: Stack,
    servers: list[Server],
    switch: Switch,
    ledger: Ledger,
    outcome: Outcome,
    draw: random.Random,
    log: bool,
    is_stopped: bool,
) -> None:
    """Adds a replica to the last server, cuts the replica off, kills the server, and promotes the replica.

    is_stopped: stops the whole server between the loss of the primary and the promotion.
    """
    primary = servers[-1]
    link = Switch(primary.socket)
    replica = Server(link.port)
    servers.append(replica)
    with connect(replica.url) as client:
        until(lambda: client.info("replication")["master_link_status"] == "up")
    until(lambda: readyz(stack)["redis"]["replicas"])
    replication = readyz(stack)["redis"]["replication"]
    outcome.expect(replication.startswith("asynchronous"), f"/readyz calls the replication {replication}")
    time.sleep(draw.uniform(1, 2))
    say(log, "the replica is cut off")
    link.turn_to(None)
    time.sleep(draw.uniform(0.5, 2))
    if is_stopped:
        ledger.stop()
        settle(primary.url, stack.data)
        assert stack.stop() == 0
        outcome.events["server stopped before the promotion"] = 1
    say(log, "kill -9 of the primary; the replica is promoted")
    primary.kill()
    with connect(replica.url) as client:
        client.replicaof("NO", "ONE")
    switch.turn_to(replica.socket)
    outcome.events["promotions"] += 1
    if is_stopped:
        stack.start()
    else:
        time.sleep(draw.uniform(2, 3))
        outcome.expect(reported(stack) == 0, "hits were lost although the web process had kept them")


def _check_reports(stack: Stack, outcome: Outcome) -> None:
    """Checks that each lost hit is reported, also after a restart, until the loss is acknowledged."""
    until(lambda: reported(stack) >= outcome.lost)
    outcome.reported = reported(stack)
    outcome.expect(outcome.lost > 0, "nothing was lost, so nothing was tried")
    outcome.figures["reported exactly"] = str(readyz(stack)["losses"]["hits_are_exact"]).lower()
    assert stack.stop() == 0
    stack.start()
    until(lambda: reported(stack) == outcome.reported)
    doctor = stack.run("doctor", check=False).stdout
    outcome.expect("batches were lost" in doctor, "doctor does not report the loss")
    stack.run("losses", "acknowledge")
    until(lambda: reported(stack) == 0)
