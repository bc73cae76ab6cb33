"""`pixel-server up` as a process, for tests of the whole server."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

PROGRAM = str(Path(sys.executable).with_name("pixel-server"))


_ports: set[int] = set()


def free_port() -> int:
    """Returns a port that nothing listens on, below those that the system gives to outgoing connections.

    Such a connection could otherwise take the port before the program under test listens on it. Each port is
    returned once.
    """
    below = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(min(10_000, below // 2), below)
        if port in _ports:
            continue
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            _ports.add(port)
            return port


def until(condition: Callable[[], Any], within: float = 60.0, every: float = 0.05) -> Any:
    """Returns the result of `condition` as soon as it is true. Calls it every `every` seconds.

    Raises AssertionError if it is not true within `within` seconds.
    """
    deadline = time.monotonic() + within
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"not within {within} s: {condition}"
        time.sleep(every)


READER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.3.0"
"""The user agent of a person's mail program."""

NOBODY_ASKED = {"opens_anonymous": 0, "hits_gpc": 0, "dropped_gpc": 0, "dropped_opted_out": 0}
"""Fields of totals if every recipient is distinguished, and nobody sent `Sec-GPC` or opted out."""


class Stack:
    """A `pixel-server up`. It can be started and stopped again and again; its data stays.

    log: file of standard output. errors: file of standard error, None if that goes to `log` too.
    """

    def __init__(self, data: Path, port: int | None = None, **environ: str) -> None:
        self.data = data
        self.port = port or free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.log = data.with_name(data.name + ".log")
        self.errors: Path | None = None
        self.key = environ.get("PIXEL_API_KEY", "")
        self.environ = {**os.environ, "PIXEL_DATA_DIR": str(data), **environ}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Starts `up`, and returns when it accepts requests. options: of the command, such as `--demo`."""
        with self.log.open("wb") as out, (self.errors or self.log).open("ab") as errors:
            self.process = subprocess.Popen(
                [PROGRAM, "up", "--port", str(self.port), "--data", str(self.data), *options],
                env=self.environ,
                stdout=out,
                stderr=errors if self.errors else subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            until(lambda: "Ctrl-C stops it" in self.output() or self.process.poll() is not None)
            assert self.process.poll() is None
        except AssertionError:
            raise AssertionError(f"up did not come up:\n{self.output()}") from None
        if shown := re.search(r"API key  (\S{20,})", self.output()):
            self.key = shown[1]

    def stop(self, number: int = signal.SIGINT) -> int:
        """Stops `up` by a signal, by default as Ctrl-C does, and returns its exit code.

        Continues the processes that a failed test has left stopped (SIGSTOP).
        """
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
            for pid in self.pids(""):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        return self.process.wait(60)

    def output(self) -> str:
        return self.log.read_text()

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command of `pixel-server` with this data directory."""
        return subprocess.run(
            [PROGRAM, *arguments], env=self.environ, capture_output=True, text=True, check=check, timeout=60
        )

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Calls the API with the API key. Returns (status, JSON of the answer)."""
        request = urllib.request.Request(
            self.address + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                content = answer.read()
                return answer.status, json.loads(content) if content else None
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def get(self, url: str, **headers: str) -> tuple[int, str]:
        """Requests a pixel. Returns (status, X-Pixel). url: a whole URL, or a path."""
        request = urllib.request.Request(
            url if url.startswith("http") else self.address + url, headers={"User-Agent": READER, **headers}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.headers["X-Pixel"]
        except urllib.error.HTTPError as error:
            return error.code, error.headers["X-Pixel"]

    def totals(self, campaign: str) -> dict[str, int]:
        status, stats = self.call("GET", f"/api/campaigns/{campaign}/stats")
        assert status == 200, stats
        totals: dict[str, int] = stats["totals"]
        return totals

    def pids(self, words: str) -> list[int]:
        """Returns the ids of the processes of this stack whose command line contains these words.

        Paths in the command line are reduced to their last part: `pixel-server serve --port 8000`.
        """
        pids = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes().decode(errors="replace")
                    environ = (entry / "environ").read_bytes()
                except OSError:
                    continue
                is_own = str(self.data) in line or f"PIXEL_DATA_DIR={self.data}".encode() in environ
                if is_own and words in " ".join(Path(word).name for word in re.split("[ \0]", line)):
                    pids.append(int(entry.name))
        return pids


StackT = TypeVar("StackT", bound=Stack)


@contextlib.contextmanager
def running(kind: type[StackT]) -> Iterator[StackT]:
    """Starts a stack on new data. At the end, stops it and removes its data and its log."""
    stack = kind(Path(tempfile.mkdtemp(prefix="px-")))
    stack.start()
    yield stack
    stack.stop()
    shutil.rmtree(stack.data)
    stack.log.unlink()
