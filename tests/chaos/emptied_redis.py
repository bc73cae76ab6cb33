"""Redis is replaced by an empty Redis and comes back. Then Redis is emptied for good, and adopted.

Hits arrive all the time. Pixels of a withdrawn recipient, of a campaign in mode `off` and of a
deleted campaign are requested all the time, and must never be recorded. The hits of an emptied store are
lost. Each lost hit must be reported, also after a restart.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from typing import Self

from pixel_server.mail.links import Minter
from pixel_server.secret import Secrets
from pixel_server.store.client import connect
from tests.chaos.ledger import Ledger
from tests.chaos.outcome import Outcome
from tests.chaos.scenario import reported, say, settle, warnings, whole_server
from tests.chaos.standstill import StandstillWatch
from tests.chaos.switch import Server, Switch
from tests.stack import Stack, until


def run(seed: int, log: bool = False) -> Outcome:
    outcome = Outcome("emptied-redis", seed)
    draw = random.Random(seed)
    used, empty = Server(), Server()
    switch = Switch(used.socket)
    try:
        with whole_server(REDIS_URL=switch.url) as stack:
            secrets = Secrets.load(stack.data)
            prepare(stack)
            with Refused(stack, secrets) as refused:
                with Ledger(seed, stack.address, secrets, lambda: (stack.port,)) as ledger:
                    watch = StandstillWatch(used.url)
                    watch.start()
                    _replace_redis(stack, switch, used, empty, watch, outcome, draw, log)
                settle(used.url, stack.data)
                ledger.compare(used.url, outcome)
                outcome.expect(outcome.lost == 0, f"{outcome.lost} hits lost though the data came back")
                outcome.standstill = watch.stop()
                answered = outcome.answered
                with Ledger(seed + 1, stack.address, secrets, lambda: (stack.port,)) as ledger:
                    _empty_and_adopt(stack, used, outcome, draw, log)
                settle(used.url, stack.data)
                ledger.compare(used.url, outcome)
                outcome.answered += answered
                outcome.lost += answered
                _check_reports(stack, outcome)
                outcome.figures["requests that must not be recorded"] = refused.sent
                outcome.expect(not refused.recorded, f"{refused.recorded} of these requests were recorded")
    finally:
        used.remove()
        empty.remove()
    return outcome


def _replace_redis(
    stack: Stack,
    switch: Switch,
    used: Server,
    empty: Server,
    watch: StandstillWatch,
    outcome: Outcome,
    draw: random.Random,
    log: bool,
) -> None:
    """Puts an empty Redis in the place of the used one, and later the used one back."""
    time.sleep(draw.uniform(1, 3))
    say(log, "Redis is replaced by an empty Redis")
    watch.paused = True
    switch.turn_to(empty.socket)
    until(lambda: "was emptied" in warnings(stack))
    time.sleep(draw.uniform(1, 3))
    with connect(empty.url) as client:
        written = list(client.scan_iter("px:{[0-9]*}:*"))
    outcome.expect(not written, f"an emptied store was written to: {written[:3]}")
    say(log, "the used Redis comes back")
    switch.turn_to(used.socket)
    until(lambda: "was emptied" not in warnings(stack))
    watch.paused = False
    time.sleep(2)
    outcome.events["replaced by an empty one, and back"] = 1


def _empty_and_adopt(stack: Stack, used: Server, outcome: Outcome, draw: random.Random, log: bool) -> None:
    """Empties Redis for good, restarts the web process, and adopts the empty store."""
    time.sleep(draw.uniform(1, 2))
    say(log, "FLUSHALL")
    with connect(used.url) as client:
        client.flushall()
    until(lambda: "was emptied" in warnings(stack))
    time.sleep(draw.uniform(0.5, 2))
    say(log, "the web process is restarted")
    for pid in stack.pids(" serve"):
        os.kill(pid, signal.SIGKILL)
    until(lambda: "was emptied" in warnings(stack))
    time.sleep(1)
    say(log, "store adopt")
    outcome.expect(stack.run("store", "adopt", "--yes").returncode == 0, "adopt failed")
    until(lambda: "was emptied" not in warnings(stack))
    time.sleep(1)
    outcome.events["emptied, restarted and adopted"] = 1


def _check_reports(stack: Stack, outcome: Outcome) -> None:
    """Checks that each lost hit is reported, also after a restart."""
    outcome.reported = reported(stack)
    assert stack.stop() == 0
    stack.start()
    until(lambda: reported(stack) == outcome.reported)
    outcome.expect(outcome.lost <= outcome.reported, "fewer hits reported than lost")
    doctor = stack.run("doctor", check=False).stdout
    outcome.expect("batches were lost" in doctor, "doctor does not report the loss")


class Refused:
    """Requests pixels that must not be recorded, until the block ends. sent: number of answered requests."""

    def __init__(self, stack: Stack, secrets: Secrets) -> None:
        self._stack = stack
        minter = Minter(stack.address, secrets)
        self._urls = [minter.url("mail", "eve"), minter.url("off", "ada"), minter.url("gone", "ada")]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = self.recorded = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.02):
            for url in self._urls:
                try:
                    _, pixel = self._stack.get(url)
                except OSError:
                    continue
                self.sent += 1
                self.recorded += pixel == "recorded"


def prepare(stack: Stack) -> None:
    """Makes a recipient who withdrew, a campaign in mode `off` and a deleted campaign, all stored on disk."""
    for name, mode in (("mail", "pseudonymous"), ("off", "off"), ("gone", "pseudonymous")):
        stack.call("POST", "/api/campaigns", {"id": name, "name": name, "kind": "email", "mode": mode})
    stack.call("DELETE", "/api/campaigns/gone")
    stack.call("POST", "/api/withdrawals", {"recipients": ["eve"]})
    until(lambda: b"gone" in (stack.data / "campaigns.json").read_bytes())
    until(lambda: b" 1 " in (stack.data / "withdrawals.log").read_bytes())
