"""The clocks of a web process and of all workers jump by hours and years while hits arrive.

`pixel-server up` runs with a clock that is set again and again (`tests/wrong_clock`). Its Valkey and a second
web process have the right clock. A client opens mails, and visitors view pages at both web processes in turn.
Each phase requests retention and chores. Nothing may be removed, each visitor must make one visit, and
/readyz must name the processes whose clocks are wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from pixel_server.collect.spool.status import read_status
from pixel_server.secret import Secrets
from pixel_server.store import jobs, keys, producer
from pixel_server.store.client import connect
from pixel_server.store.protocols import Redis
from tests.chaos.ledger import SHARDS, Ledger
from tests.chaos.outcome import Outcome
from tests.chaos.standstill import StandstillWatch
from tests.stack import Stack, free_port, until

HOUR, DAY = 3600, 86_400
PHASES = (("hours", 3 * HOUR), ("hours", -3 * HOUR), ("years", 500 * DAY), ("years", -500 * DAY))
VISITORS = 40
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.{}"
KINDS = ("total", "people", "listed", "months", "buckets", "web", "visitors", "salt", "dead", "campaign")
"""Kinds of keys that must exist at the end if they existed before."""


def run(seed: int, log: bool = False) -> Outcome:
    return _Clocks(seed, log).run()


class _Clocks:
    def __init__(self, seed: int, log: bool) -> None:
        self._log = log
        self._outcome = Outcome("clocks", seed)
        self._data = Path(tempfile.mkdtemp(prefix="px-"))
        self._clock = self._data / "ahead"
        self._set(0)
        self._stack = Stack(
            self._data,
            PIXEL_API_KEY="key-of-the-chaos-test",
            PYTHONPATH=str(Path(__file__).parent.parent / "wrong_clock"),
            WRONG_CLOCK_FILE=str(self._clock),
        )
        self._right_port = free_port()
        self._right: subprocess.Popen[bytes] | None = None
        self._over = threading.Event()
        self._views = threading.Thread(target=self._view)
        self._viewed = 0

    def run(self) -> Outcome:
        ledger: Ledger | None = None
        try:
            self._stack.start()
            up = (self._data / "up.json").read_text()
            url = up.split('"redis_url": "')[1].split('"')[0]
            self._start_right(url)
            self._fill(url)
            ports = (self._stack.port, self._right_port)
            secrets = Secrets.load(self._data)
            ledger = Ledger(self._outcome.seed, self._stack.address, secrets, lambda: ports, pause=0.1)
            watch = StandstillWatch(url)
            ledger.start()
            self._views.start()
            watch.start()
            time.sleep(2)
            before = _kept(url)
            for name, ahead in PHASES:
                self._phase(name, ahead, url, watch)
            self._say("the clock is right again")
            self._set(0)
            self._expect_soon(lambda: not self._wrong(), "a clock that was set right is still called wrong")
            self._over.set()
            self._views.join()
            ledger.stop()
            with connect(url, timeout=10) as client:
                until(lambda: _quiet(client, self._data / "spool"), every=0.3)
            self._outcome.standstill = watch.stop()
            self._outcome.expect(watch.longest <= 5, f"counting stood still for {watch.longest:.1f} s")
            ledger.compare(url, self._outcome)
            self._compare(before, url)
        except BaseException:
            print(self._stack.output()[-5000:])
            raise
        finally:
            self._over.set()
            if ledger is not None:
                ledger.stop()
            if self._right is not None:
                self._right.terminate()
                self._right.wait(30)
            if self._stack.process is not None:
                self._stack.stop()
            shutil.rmtree(self._data, ignore_errors=True)
            self._stack.log.unlink(missing_ok=True)
        return self._outcome

    def _phase(self, name: str, ahead: int, url: str, watch: StandstillWatch) -> None:
        """Lets the clock jump while hits arrive, and restarts the processes with the wrong clock."""
        self._say(f"{ahead / HOUR:+.0f} hours")
        self._set(ahead)
        self._outcome.events[f"jumps of {name}"] += 1
        self._ask(url)
        time.sleep(3)
        self._restart(watch)
        self._expect_soon(
            lambda: {process.split()[0] for process in self._wrong()} == {"web", "worker"},
            f"/readyz does not name the web process and the worker that are {ahead} s ahead",
        )
        self._ask(url)
        time.sleep(2)
        doctor = self._stack.run("doctor", check=False).stdout
        self._outcome.expect("store clocks: the clock of" in doctor, "doctor does not report the clocks")
        if name == "years":
            self._hang(watch)
        self._outcome.expect(
            "the clock of worker" in self._stack.output(), "no log line names a worker's clock"
        )

    def _restart(self, watch: StandstillWatch) -> None:
        watch.paused = True
        for words in (" serve", "work --one"):
            for pid in self._stack.pids(words):
                if self._right is None or pid != self._right.pid:
                    os.kill(pid, signal.SIGKILL)
                    self._outcome.events["kill -9 with a wrong clock"] += 1
        until(lambda: _answers(self._stack.port))
        until(lambda: self._stack.pids("work --one"))
        time.sleep(1)
        watch.paused = False

    def _hang(self, watch: StandstillWatch) -> None:
        """Makes Redis hang for 2 s, so that hits go through the spool."""
        watch.paused = True
        pids = self._stack.pids("valkey-server")
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(2)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        time.sleep(1)
        watch.paused = False
        self._outcome.events["hangs of redis, 2 s"] += 1

    def _fill(self, url: str) -> None:
        """Adds data that a process with a clock years ahead would remove."""
        now = int(time.time())
        for campaign in (
            {"id": "old", "name": "Old", "kind": "email", "sent_at": _shown(now - 300 * DAY)},
            {"id": "site", "name": "Site", "kind": "web"},
        ):
            status_code, answer = self._stack.call("POST", "/api/campaigns", campaign)
            assert status_code == 201, answer
        listed = {"recipients": [f"old{n}" for n in range(50)]}
        status_code, answer = self._stack.call("POST", "/api/campaigns/old/links", listed)
        assert status_code == 200, answer
        for link in answer["links"]:
            self._stack.get(link["url"])
        with connect(url) as client:
            for shard in range(SHARDS):
                idle = producer.new_id(now - 10 * DAY)
                client.hset(keys.producers(shard), idle, f"7 {(now - 10 * DAY) * 1000}")
                client.xadd(keys.dead(shard), {"reason": "a test", "data": b"x"})
        aside = self._data / "spool" / "aside"
        aside.mkdir(parents=True, mode=0o700, exist_ok=True)
        (aside / "kept").write_bytes(b"x")

    def _ask(self, url: str) -> None:
        """Requests retention and chores. Forgets the last retention round, so that a new round may begin."""
        with connect(url) as client:
            client.hdel(keys.SWEEP, "begun", "after")
            queue = jobs.queue(client)
            for function in (jobs.RETENTION, jobs.CHORES):
                queue.enqueue_call(function, timeout=60, result_ttl=0, failure_ttl=60)

    def _view(self) -> None:
        """Views a page as each visitor, again and again, at both web processes in turn."""
        ports = (self._right_port, self._right_port, self._stack.port)
        n = 0
        while not self._over.wait(0.02):
            port, visitor = ports[n % 3], n % VISITORS
            n += 1
            try:
                agent = {"User-Agent": AGENT.format(visitor), "Connection": "close"}
                answer = self._stack.get(f"http://127.0.0.1:{port}/p/site.gif", **agent)
            except OSError:
                continue  # the process was just killed: the view may have been stored, or not
            self._viewed += answer == (200, "recorded")

    def _wrong(self) -> dict[str, int]:
        """Returns the seconds of difference by process, as the other web process reports them in /readyz."""
        with urlopen(f"http://127.0.0.1:{self._right_port}/readyz", timeout=10) as answer:
            processes: dict[str, int] = json.load(answer).get("wrong_clocks", {})
        return processes

    def _compare(self, before: set[str], url: str) -> None:
        after = _kept(url)
        gone = sorted(before - after)
        self._outcome.figures["keys that must stay"] = len(before)
        self._outcome.figures["keys that are gone"] = len(gone)
        self._outcome.expect(not gone, f"gone: {gone[:10]}")
        aside = self._data / "spool" / "aside" / "kept"
        self._outcome.expect(aside.exists(), "a file set aside in the spool is gone")
        for campaign in self._stack.call("GET", "/api/campaigns")[1]["items"]:
            self._outcome.expect(campaign["closed_at"] is None, f"campaign {campaign['id']} was closed")
        totals = self._stack.totals("site")
        names = ("views", "visits", "views_no_visit")
        self._outcome.figures |= {name: totals[name] for name in names}
        self._outcome.figures["views answered `recorded`"] = self._viewed
        self._outcome.expect(totals["views"] >= self._viewed, "views were lost")
        self._outcome.expect(totals["views_no_visit"] == 0, "views were counted without a visit")
        self._outcome.expect(
            totals["visits"] == VISITORS, f"{totals['visits']} visits of {VISITORS} visitors"
        )
        with connect(url) as client:
            dead = sum(client.xlen(keys.dead(shard)) for shard in range(SHARDS))
        self._outcome.expect(dead == SHARDS, f"{dead - SHARDS} hits became dead letters")

    def _start_right(self, url: str) -> None:
        environ = {name: value for name, value in self._stack.environ.items() if name != "PYTHONPATH"}
        with (self._data / "right.log").open("ab") as out:
            self._right = subprocess.Popen(
                [sys.executable, "-m", "pixel_server", "serve", "--port", str(self._right_port)],
                env={**environ, "REDIS_URL": url},
                stdout=out,
                stderr=out,
            )
        until(lambda: _answers(self._right_port))

    def _expect_soon(self, holds: Callable[[], Any], sentence: str) -> None:
        try:
            until(holds, every=0.3)
        except AssertionError:
            self._outcome.expect(False, sentence)

    def _set(self, ahead: int) -> None:
        """Sets the clock of `up` and its children."""
        self._clock.with_suffix(".new").write_text(str(ahead))
        self._clock.with_suffix(".new").rename(self._clock)

    def _say(self, text: str) -> None:
        if self._log:
            print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def _kept(url: str) -> set[str]:
    """Returns all keys of KINDS, and the ids of the producers."""
    names = set()
    with connect(url) as client:
        for key in client.scan_iter("px:*", count=1000):
            if key.decode().split(":")[2] in KINDS:
                names.add(key.decode())
        for shard in range(SHARDS):
            names |= {f"producer {name.decode()}" for name in client.hkeys(keys.producers(shard))}
    return names


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2):
            return True
    except OSError:
        return False


def _shown(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def _quiet(client: Redis, spool: Path) -> bool:
    status = read_status(spool)
    return not sum(client.xlen(keys.hits(shard)) for shard in range(SHARDS)) and not status.segments
