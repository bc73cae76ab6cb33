"""Redis is replaced by an empty Redis and comes back; then it is emptied for good, and adopted.

A flood of hits goes on meanwhile. Pixels of a withdrawn recipient, of a campaign in mode `off` and of a
deleted campaign are requested all the time, and must never be recorded. The hits of an emptied store are
lost: each of them must be reported, also after a restart.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path

from pixel_server.collect.spool.status import read_status
from pixel_server.mail.links import Minter
from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.client import connect
from tests.chaos.ledger import SHARDS, Ledger
from tests.chaos.outcome import Outcome
from tests.chaos.standstill import StandstillWatch
from tests.chaos.switch import Server, Switch
from tests.stack import Stack, until

KEY = "key-of-the-chaos-test"


def run(seed: int, log: bool = False) -> Outcome:
    outcome = Outcome("emptied-redis", seed)
    draw = random.Random(seed)
    data = Path(tempfile.mkdtemp(prefix="px-"))
    used, empty = Server(), Server()
    switch = Switch(used.socket)
    stack = Stack(data, PIXEL_API_KEY=KEY, REDIS_URL=switch.url)
    ledger: Ledger | None = None
    refused: Refused | None = None
    try:
        stack.start()
        secrets = Secrets.load(data)
        prepare(stack)
        refused = Refused(stack, secrets)
        refused.start()
        ledger = Ledger(seed, stack.address, secrets, lambda: (stack.port,))
        ledger.start()
        watch = StandstillWatch(used.url)
        watch.start()
        time.sleep(draw.uniform(1, 3))
        say(log, "Redis is replaced by an empty one")
        watch.paused = True
        switch.turn_to(empty.socket)
        until(lambda: "was emptied" in warnings(stack))
        time.sleep(draw.uniform(1, 3))
        with connect(empty.url) as client:
            written = list(client.scan_iter("px:{[0-9]*}:*"))
        outcome.expect(not written, f"an emptied store was written to: {written[:3]}")
        say(log, "its data come back")
        switch.turn_to(used.socket)
        until(lambda: "was emptied" not in warnings(stack))
        watch.paused = False
        time.sleep(2)
        outcome.events["replaced by an empty one, and back"] = 1
        ledger.stop()
        settle(used, data)
        ledger.compare(used.url, outcome)
        outcome.expect(outcome.lost == 0, f"{outcome.lost} hits lost though the data came back")
        before = outcome.answered
        outcome.standstill = watch.stop()

        ledger = Ledger(seed + 1, stack.address, secrets, lambda: (stack.port,))
        ledger.start()
        time.sleep(draw.uniform(1, 2))
        say(log, "FLUSHALL")
        with connect(used.url) as client:
            client.flushall()
        until(lambda: "was emptied" in warnings(stack))
        time.sleep(draw.uniform(0.5, 2))
        say(log, "the web process is restarted")
        for pid in stack.pids(" serve"):
            os.kill(pid, signal.SIGKILL)
        until(lambda: "was emptied" in warnings(stack), within=30)
        time.sleep(1)
        say(log, "store adopt")
        outcome.expect(stack.run("store", "adopt", "--yes").returncode == 0, "adopt failed")
        until(lambda: "was emptied" not in warnings(stack))
        time.sleep(1)
        ledger.stop()
        settle(used, data)
        outcome.events["emptied, restarted and adopted"] = 1
        ledger.compare(used.url, outcome)
        outcome.answered += before
        outcome.lost += before
        outcome.reported = reported(stack)
        assert stack.stop() == 0
        stack.start()
        until(lambda: reported(stack) == outcome.reported)
        outcome.expect(outcome.lost <= outcome.reported, "fewer hits reported than lost")
        outcome.figures["requests of those who said no"] = refused.asked
        outcome.expect(not refused.recorded, f"{refused.recorded} hits of those who said no were recorded")
        doctor = stack.run("doctor", check=False).stdout
        outcome.expect("batches were lost" in doctor, "doctor does not report the loss")
    except BaseException:
        print(stack.output()[-5000:])
        raise
    finally:
        if ledger is not None:
            ledger.stop()
        if refused is not None:
            refused.stop()
        if stack.process is not None:
            stack.stop()
        used.remove()
        empty.remove()
        shutil.rmtree(data, ignore_errors=True)
        stack.log.unlink(missing_ok=True)
    return outcome


class Refused:
    """Requests pixels that must not be recorded, without a pause."""

    def __init__(self, stack: Stack, secrets: Secrets) -> None:
        self._stack = stack
        minter = Minter(stack.address, secrets)
        self._urls = [minter.url("mail", "eve"), minter.url("off", "ada"), minter.url("gone", "ada")]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.asked = self.recorded = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.02):
            for url in self._urls:
                try:
                    _, pixel = self._stack.get(url)
                except OSError:
                    continue
                self.asked += 1
                self.recorded += pixel == "recorded"


def prepare(stack: Stack) -> None:
    """Makes a recipient who withdrew, a campaign in mode `off` and a deleted campaign, all stored on disk."""
    for name, mode in (("mail", "pseudonymous"), ("off", "off"), ("gone", "pseudonymous")):
        stack.call("POST", "/api/campaigns", {"id": name, "name": name, "kind": "email", "mode": mode})
    stack.call("DELETE", "/api/campaigns/gone")
    stack.call("POST", "/api/withdrawals", {"recipients": ["eve"]})
    until(lambda: b"gone" in (stack.data / "campaigns.json").read_bytes())
    until(lambda: b" 1 " in (stack.data / "withdrawals.log").read_bytes())


def settle(server: Server, data: Path) -> None:
    """Returns once nothing waits, neither in the spool nor in a stream."""
    with connect(server.url, timeout=10) as client:
        until(
            lambda: (
                not read_status(data / "spool").segments
                and not sum(client.xlen(keys.hits(shard)) for shard in range(SHARDS))
            ),
            within=60,
            every=0.2,
        )
    time.sleep(1)  # the last acknowledged hits are compared within a second


def readyz(stack: Stack) -> dict:
    try:
        return stack.call("GET", "/readyz")[1] or {}
    except OSError:  # the web process is being restarted
        return {}


def warnings(stack: Stack) -> str:
    """Returns the warnings of /readyz, or "was emptied?" while it does not answer."""
    return "; ".join(readyz(stack).get("warnings", ["not known: was emptied or not"]))


def reported(stack: Stack) -> int:
    hits: int = readyz(stack).get("losses", {}).get("hits", -1)
    return hits


def say(log: bool, text: str) -> None:
    if log:
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
