"""Everything is killed, stopped, cut off and filled up at random, while pixels are requested.

`pixel-server up` (Valkey with AOF, a web process, workers) and a second web process on the same data, which
reaches Redis through a proxy that loses replies, run. The spool lies on a small tmpfs, if a tmpfs can be
mounted. A client notes its requests and their answers. At the end everything is started again, and all
waiting hits are counted. For each recipient, answered 2xx <= counted <= sent must hold.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import redis

from pixel_server.collect.spool.status import read_status
from pixel_server.run.supervisor import MAX_START_SECONDS
from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.client import connect
from pixel_server.store.protocols import Redis
from tests.chaos.ledger import SHARDS, Ledger
from tests.chaos.outcome import Outcome
from tests.chaos.proxy import Proxy
from tests.stack import Stack, free_port, until

TMPFS = "400k"
HANG_SECONDS = "5"
"""PIXEL_HANG_SECONDS: shorter than the hangs of Redis, for which no process may be killed."""
OLD_SECONDS = 10.0
"""Seconds after its start at which nearly every process has sent its first heartbeat. Before it, a process is
killed only after MAX_START_SECONDS."""


def run(seed: int, log: bool = False, kills: int = 200) -> Outcome:
    return Story(seed, log).tell(kills)


class Story:
    """One run of the story. `tell` returns the outcome."""

    def __init__(self, seed: int, log: bool = False) -> None:
        self._draw = random.Random(seed)
        self._log = log
        self._result = Outcome("kills", seed)
        self._data = Path(tempfile.mkdtemp(prefix="px-"))
        self._spool = self._data / "spool"
        self._stack = Stack(
            self._data, PIXEL_API_KEY="key-of-the-chaos-test", PIXEL_HANG_SECONDS=HANG_SECONDS
        )
        self._second: subprocess.Popen[bytes] | None = None
        self._second_port = free_port()
        self._ledger: Ledger | None = None

    def tell(self, kills: int) -> Outcome:
        mounted = self._mount()
        try:
            self._stack.start()
            url = (self._data / "up.json").read_text()
            self._redis_url = url.split('"redis_url": "')[1].split('"')[0]
            self._proxy = Proxy(unquote(urlsplit(self._redis_url).path))
            self._start_second()
            self._ledger = Ledger(
                self._result.seed,
                self._stack.address,
                Secrets.load(self._data),
                lambda: (self._stack.port, self._second_port),
            )
            self._ledger.start()
            while self._kills() < kills:
                self._act()
                self._start_second()
            self._ledger.stop()
            self._settle()
            self._ledger.compare(self._redis_url, self._result)
            self._result.figures["kill -9"] = self._kills()
        except BaseException:
            print(self._stack.output()[-5000:])
            raise
        finally:
            if self._ledger is not None:
                self._ledger.stop()
            self._end()
            if mounted:
                subprocess.run(["umount", str(self._spool)], check=False)
            shutil.rmtree(self._data, ignore_errors=True)
            self._stack.log.unlink(missing_ok=True)
        return self._result

    def _kills(self) -> int:
        return sum(count for event, count in self._result.events.items() if event.startswith("kill -9 of"))

    def _act(self) -> None:
        """Makes one random event happen, and then pauses."""
        act = self._draw.choices(
            [
                lambda: self._kill("web", " serve"),
                lambda: self._kill("second web", None),
                lambda: self._kill("worker", "work --one"),
                lambda: self._kill("workers", " work"),
                lambda: self._kill("redis", "valkey-server"),
                self._kill_up,
                self._hang,
                self._hang_part,
                self._lose_replies,
                self._fill,
                self._restart,
            ],
            [6, 6, 5, 2, 5, 2, 0.5, 1, 4, 1, 0.5],
        )[0]
        act()
        time.sleep(self._draw.uniform(0.1, 1.5))

    def _say(self, text: str) -> None:
        if self._log:
            print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def _kill(self, name: str, words: str | None) -> None:
        if words is None:
            pids = [self._second.pid] if self._second is not None else []
        else:
            second = self._second.pid if self._second is not None else 0
            pids = [pid for pid in self._stack.pids(words) if pid != second]
        for pid in pids[:1]:
            self._say(f"kill -9 {name}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self._result.events[f"kill -9 of {name}"] += 1

    def _kill_up(self) -> None:
        self._say("kill -9 up")
        assert self._stack.process is not None
        self._stack.process.kill()
        self._stack.process.wait()
        self._result.events["kill -9 of up"] += 1
        self._stack.start()

    def _restart(self) -> None:
        self._say("restart everything")
        self._stop_second()
        assert self._stack.stop() == 0
        self._stack.start()
        self._result.events["restarts"] += 1

    def _hang(self) -> None:
        self._say("redis hangs for 10 s")
        with self._stopped():
            time.sleep(10)
        self._result.events["hangs of redis, 10 s"] += 1

    def _hang_part(self) -> None:
        """Stops a process, and returns when its parent has killed it."""
        words_by_name = {"web": "serve --handle", "pages": "serve --beside", "worker": "work --one"}
        name, words = self._draw.choice([*words_by_name.items(), ("workers", "pixel_server work")])
        watched = [pid for pid in self._stack.pids(words) if self._is_watched(pid)]
        for pid in watched[:1]:
            self._say(f"{name} hangs")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                self._result.events[f"hangs of {name}, killed by its parent"] += 1
            until(lambda pid=pid: pid not in self._stack.pids(words), within=MAX_START_SECONDS + 60)

    def _is_watched(self, pid: int) -> bool:
        """Returns whether the parent of a process runs, and the process is old enough to send heartbeats."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return False
        parent, started = int(stat[1]), int(stat[19]) / os.sysconf("SC_CLK_TCK")
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        return parent in self._stack.pids("") and uptime - started > OLD_SECONDS

    def _lose_replies(self) -> None:
        self._say("a reply is lost")
        before = self._proxy.cuts
        for _ in range(self._draw.randrange(1, 5)):
            self._proxy.lose_next_reply()
            time.sleep(0.3)
        self._result.events["replies lost"] += self._proxy.cuts - before

    def _fill(self) -> None:
        """Makes Redis hang while the spool's disk is full."""
        if not self._spool.is_mount():
            return
        self._say("the disk is full, and redis hangs")
        filler = self._spool / "filler"
        with self._stopped():
            with contextlib.suppress(OSError), filler.open("wb") as file:
                while True:
                    file.write(bytes(4096))
                    file.flush()
            time.sleep(2)
            filler.unlink()
            time.sleep(1)
        self._result.events["full disks"] += 1

    @contextlib.contextmanager
    def _stopped(self):
        pids = self._stack.pids("valkey-server")
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def _start_second(self) -> None:
        if self._second is not None and self._second.poll() is None:
            return
        with (self._data / "second.log").open("ab") as out:
            self._second = subprocess.Popen(
                [sys.executable, "-m", "pixel_server", "serve", "--port", str(self._second_port)],
                env={
                    **os.environ,
                    "REDIS_URL": f"redis://127.0.0.1:{self._proxy.port}/0",
                    "PIXEL_DATA_DIR": str(self._data),
                    "PIXEL_HANG_SECONDS": HANG_SECONDS,
                },
                stdout=out,
                stderr=out,
            )

    def _stop_second(self) -> None:
        if self._second is not None and self._second.poll() is None:
            self._second.terminate()
            self._second.wait(30)

    def _settle(self) -> None:
        """Starts the second web process again, and returns when all waiting hits are counted."""
        self._start_second()
        with connect(self._redis_url, timeout=10) as client:
            until(lambda: _quiet(client, self._spool), within=90, every=0.3)

    def _mount(self) -> bool:
        self._spool.mkdir(mode=0o700)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={TMPFS},mode=700", "tmpfs", str(self._spool)],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            print(f"cannot mount a tmpfs here, so no disk is filled: {done.stderr.decode().strip()}")
        return done.returncode == 0

    def _end(self) -> None:
        self._stop_second()
        if self._stack.process is not None:
            self._stack.stop()


def _quiet(client: Redis, spool: Path) -> bool:
    """Returns whether nothing waits, neither in the spool nor in a stream."""
    try:
        waiting = sum(client.xlen(keys.hits(shard)) for shard in range(SHARDS))
    except redis.RedisError:  # the process has just been killed
        return False
    status = read_status(spool)
    assert status.aside == 0
    return not waiting and not status.segments
