"""Sentinels replace the primary again and again, and the job queue is emptied, while hits arrive.

A primary is replaced on request, killed, or cut off from the sentinels and its replica while it answers the
server on. Then it becomes the replica. Or two of three sentinels are killed: hits must go to the spool. No
hit may be lost.
"""

from __future__ import annotations

import random
import time

from pixel_server.secret import Secrets
from tests.chaos.ledger import Ledger
from tests.chaos.outcome import Outcome
from tests.chaos.scenario import reported, say, settle, whole_server
from tests.sentinels import Program, Watched
from tests.stack import Stack, until


def run(seed: int, log: bool = False, rounds: int = 20) -> Outcome:
    outcome = Outcome("sentinel-failover", seed)
    draw = random.Random(seed)
    watched = Watched()
    queue = Program(watched.home)
    try:
        with (
            whole_server(REDIS_URL=watched.url, PIXEL_QUEUE_URL=f"redis://127.0.0.1:{queue.port}") as stack,
            Ledger(seed, stack.address, Secrets.load(stack.data), lambda: (stack.port,)) as ledger,
        ):
            for _ in range(rounds):
                failure = draw.choice((fail_over, kill_primary, cut_off, stop_sentinels))
                say(log, failure.__name__.replace("_", " "))
                failure(watched, stack)
                outcome.events[failure.__name__.replace("_", " ")] += 1
                if draw.random() < 0.5:
                    queue.client().flushall()
                    outcome.events["queue emptied"] += 1
                watched.wait_for_replica()
                time.sleep(draw.uniform(0, 2))
            settle(watched.url, stack.data)
            ledger.stop()
            settle(watched.url, stack.data)
            ledger.compare(watched.url, outcome)
            outcome.expect(outcome.lost == 0, f"{outcome.lost} hits lost")
            outcome.reported = reported(stack)
    finally:
        queue.kill()
        watched.remove()
    return outcome


def fail_over(watched: Watched, stack: Stack) -> None:
    """Has the sentinels replace the primary, which becomes the replica."""
    watched.fail_over()


def kill_primary(watched: Watched, stack: Stack) -> None:
    """Kills the primary until the sentinels have replaced it. It comes back as the replica."""
    old = watched.primary
    old.kill()
    watched.wait_for_failover(old)
    old.start()


def cut_off(watched: Watched, stack: Stack) -> None:
    """Cuts the primary off until the sentinels have replaced it. It answers the server on meanwhile."""
    old = watched.primary
    watched.cut_off()
    watched.wait_for_failover(old)
    time.sleep(1)
    watched.rejoin(old)


def stop_sentinels(watched: Watched, stack: Stack) -> None:
    """Kills two of three sentinels until hits go to the spool."""

    def recorder() -> dict[str, int]:
        state: dict[str, int] = stack.call("GET", "/readyz")[1]["recorder"]
        return state

    for sentinel in watched.sentinels[:2]:
        sentinel.kill()
    until(lambda: recorder()["failing_since"] is not None)
    for sentinel in watched.sentinels[:2]:
        sentinel.start()
    watched.hurry_sentinels()
    until(lambda: recorder()["failing_since"] is None)  # after many failures it waits for 30 s
