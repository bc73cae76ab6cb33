"""A primary dies while its replica is cut off, and the replica is promoted: the last hits are lost.

Each lost hit must be reported, also after a restart. In a second round the server is stopped between the
loss of the primary and the promotion.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from pathlib import Path

from pixel_server.secret import Secrets
from pixel_server.store.client import connect
from tests.chaos.emptied_redis import KEY, readyz, reported, say, settle
from tests.chaos.ledger import Ledger
from tests.chaos.outcome import Outcome
from tests.chaos.switch import Server, Switch
from tests.stack import Stack, until


def run(seed: int, log: bool = False) -> Outcome:
    outcome = Outcome("promoted-replica", seed)
    draw = random.Random(seed)
    data = Path(tempfile.mkdtemp(prefix="px-"))
    servers = [Server()]
    switch = Switch(servers[0].socket)
    stack = Stack(data, PIXEL_API_KEY=KEY, REDIS_URL=switch.url)
    ledger: Ledger | None = None
    try:
        stack.start()
        ledger = Ledger(seed, stack.address, Secrets.load(data), lambda: (stack.port,))
        ledger.start()
        for is_stopped in (False, True):
            old = servers[-1]
            link = Switch(old.socket)
            new = Server(link.port)
            servers.append(new)
            with connect(new.url) as client:
                until(lambda client=client: client.info("replication")["master_link_status"] == "up")
            until(lambda: readyz(stack)["redis"]["replicas"])
            outcome.expect(
                readyz(stack)["redis"]["replication"].startswith("asynchronous"), "no word of the replica"
            )
            time.sleep(draw.uniform(1, 2))
            say(log, "the replica is cut off")
            link.turn_to(None)
            time.sleep(draw.uniform(0.5, 2))
            if is_stopped:
                ledger.stop()
                settle(old, data)
                assert stack.stop() == 0
                outcome.events["server stopped before the promotion"] = 1
            say(log, "kill -9 of the primary; the replica is promoted")
            old.kill()
            with connect(new.url) as client:
                client.replicaof("NO", "ONE")
            switch.turn_to(new.socket)
            outcome.events["promotions"] += 1
            if is_stopped:
                stack.start()
            else:
                time.sleep(draw.uniform(2, 3))
        settle(servers[-1], data)
        ledger.compare(servers[-1].url, outcome)
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
    except BaseException:
        print(stack.output()[-5000:])
        raise
    finally:
        if ledger is not None:
            ledger.stop()
        if stack.process is not None:
            stack.stop()
        for server in servers:
            server.remove()
        shutil.rmtree(data, ignore_errors=True)
        stack.log.unlink(missing_ok=True)
    return outcome
