"""Redis is far away from the web process, the workers and the schedule: 45 ms, then 150 ms of round trip.

All of them reach Redis through a proxy that delays both directions. Hits arrive steadily. At 45 ms and
at 150 ms, no hit may go to the spool or be answered 503. Then replies are lost at 150 ms.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pixel_server.run.valkey import Valkey
from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.client import connect
from pixel_server.store.protocols import Redis
from tests.chaos.ledger import SHARDS, Ledger
from tests.chaos.outcome import Outcome
from tests.chaos.proxy import Proxy
from tests.chaos.standstill import StandstillWatch
from tests.stack import PROGRAM, free_port, until

ROUND_TRIPS = (0.045, 0.15)
"""Seconds of round trip."""
FLOW_SECONDS = 8.0
"""Seconds for which hits are measured at each round trip."""
LOST_REPLIES = 5
MAX_STANDSTILL_SECONDS = 5.0
"""RQ needs 20 round trips and more to begin a job, so figures are older if Redis is far away."""


def run(seed: int, log: bool = False) -> Outcome:
    """Runs the scenario in about a minute."""
    outcome = Outcome("far-redis", seed)
    data = Path(tempfile.mkdtemp(prefix="px-"))
    valkey = Valkey(data)
    valkey.start()
    try:
        valkey.wait_ready()
        proxy = Proxy(unquote(urlsplit(valkey.url).path))
        with _processes(data, proxy.port, log) as port:
            _tell(outcome, data, proxy, valkey.url, port, log)
    finally:
        valkey.stop()
        valkey.wait(20)
        shutil.rmtree(data, ignore_errors=True)
    return outcome


def _tell(outcome: Outcome, data: Path, proxy: Proxy, url: str, port: int, log: bool) -> None:
    ready = lambda: recorder_of(port)  # noqa: E731
    watch = StandstillWatch(url)
    ledger = Ledger(outcome.seed, f"http://127.0.0.1:{port}", Secrets.load(data), lambda: [port], pause=0.03)
    ledger.start()
    watch.start()
    try:
        for trip in ROUND_TRIPS:
            watch.paused = True
            proxy.delay = trip / 2
            time.sleep(3)  # the delay has just changed, so hits on their way may be late
            watch.paused = False
            before, sent = ready(), len(ledger.requests)
            time.sleep(FLOW_SECONDS)
            after = ready()
            refused = sum(request.answer.status == 503 for request in ledger.requests[sent:])
            spooled = after["spooled"] - before["spooled"]
            name = f"{trip * 1000:.0f} ms"
            outcome.figures[f"{name}: spooled"] = spooled
            outcome.figures[f"{name}: 503"] = refused
            outcome.figures[f"{name}: counting stood still so far, s"] = round(watch.longest, 1)
            outcome.figures[f"{name}: stored a second"] = round(
                (after["stored"] - before["stored"]) / FLOW_SECONDS
            )
            outcome.expect(not spooled and not refused, f"{name}: {spooled} hits spooled, {refused} refused")
        draw = random.Random(outcome.seed)
        cuts = proxy.cuts
        for _ in range(LOST_REPLIES):
            proxy.lose_next_reply()
            time.sleep(draw.uniform(0.3, 1.5))
        outcome.events["replies lost"] = proxy.cuts - cuts
        ledger.stop()
        with connect(url) as client:
            until(lambda: is_quiet(client, port), every=0.3)
            outcome.figures["producer ids"] = max(
                client.hlen(keys.producers(shard)) for shard in range(SHARDS)
            )
        outcome.standstill = watch.stop()
        outcome.expect(
            outcome.standstill <= MAX_STANDSTILL_SECONDS,
            f"counting stood still for over {MAX_STANDSTILL_SECONDS:.0f} s",
        )
        outcome.expect(ready()["gaps"] == 0, f"reported as lost by Redis: {ready()['gaps']} batches")
        ledger.compare(url, outcome)
    finally:
        ledger.stop()


@contextmanager
def _processes(data: Path, redis_port: int, log: bool) -> Iterator[int]:
    """Runs a web process, and workers with their schedule. Yields the port."""
    port = free_port()
    environ = {
        **os.environ,
        "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
        "PIXEL_DATA_DIR": str(data),
        "PIXEL_API_KEY": "key-of-the-chaos-test",
    }
    started: list[subprocess.Popen[bytes]] = []
    with (data / "log").open("wb") as out:
        for command in (["serve", "--port", str(port)], ["work", "--processes", "2"]):
            started.append(subprocess.Popen([PROGRAM, *command], env=environ, stdout=out, stderr=out))
            if command[0] == "serve":
                until(lambda: recorder_of(port))
    try:
        yield port
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(30)
        if log:
            print((data / "log").read_text()[-3000:])


def recorder_of(port: int) -> dict[str, Any]:
    """Returns the recorder's part of /readyz, empty while the process does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=20) as answer:
            report: dict[str, Any] = json.load(answer)
    except OSError:
        return {}
    recorder: dict[str, Any] = report["recorder"]
    return {**recorder, "segments": report["spool"].get("segments", 0)}


def is_quiet(client: Redis, port: int) -> bool:
    """Returns whether nothing waits, neither in the spool nor in a stream."""
    waiting = sum(client.xlen(keys.hits(shard)) for shard in range(SHARDS))
    return not waiting and not recorder_of(port)["segments"]
