"""The servers that are compared ("sides").

Each starts on the serving core, with a store of its own if it needs one.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import redis

from pixel_server import hit
from pixel_server.mail.links import Minter
from pixel_server.run.valkey import Valkey
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.client import connect
from pixel_server.store.protocols import Redis
from tests.bench.machine import ROOT, Cores, npm_program, on, tool, tree
from tests.bench.plain import STREAM
from tests.stack import free_port, until

API_KEY = "an-api-key-for-the-bench"
SIGNING = "signing-key-of-the-bench"
RECIPIENT = "recipient-secret-of-the-bench"
SECRETS = Secrets.derive((SIGNING,), RECIPIENT)
TOKENS = 200_000
CAMPAIGN = "spring-sale"


@dataclass
class Bench:
    """What all sides share: a directory, the cores, and a file with a token on each line."""

    home: Path
    cores: Cores
    tokens: Path
    _next: int = 0

    @classmethod
    def make(cls, home: Path, cores: Cores, tokens: int = TOKENS) -> Bench:
        minter = Minter("http://pixel.test", SECRETS)
        with (home / "tokens").open("w") as file:
            for i in range(tokens):
                url = minter.url(CAMPAIGN, f"person-{i}@example.org")
                assert url is not None
                file.write(url.rpartition("/")[2].removesuffix(".gif") + "\n")
        return cls(home, cores, home / "tokens")

    def next_token(self, count: int) -> int:
        first, self._next = self._next, (self._next + count) % TOKENS
        return first

    def directory(self, name: str) -> Path:
        """Creates and returns a new directory."""
        path, number = self.home / name, 2
        while path.exists():
            path, number = self.home / f"{name}-{number}", number + 1
        path.mkdir()
        return path


@dataclass
class Store:
    """A Valkey as `up` starts it, on the other core. It syncs each write to disk before it answers."""

    valkey: Valkey
    client: Redis
    pid: int

    def tidy(self, *streams: str) -> None:
        """Empties these streams, and waits until the append-only file has been rewritten."""
        self.client.unlink(*streams)
        with contextlib.suppress(redis.ResponseError):  # a rewrite is under way already
            self.client.bgrewriteaof()
        until(lambda: not self.client.info("persistence")["aof_rewrite_in_progress"])


@dataclass
class Side:
    """A running server. before, after: the parts of a path before and after the token.

    stored: returns the number of hits that were stored since `tidy`; None if the server stores no hits.
    floating: whether the server runs on both cores.
    """

    name: str
    port: int
    before: str
    after: str
    process: subprocess.Popen[bytes]
    store: Store | None = None
    streams: Sequence[str] = ()
    stored: Callable[[], int] | None = None
    floating: bool = False
    settings: Settings = field(default_factory=Settings)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def pids(self) -> list[int]:
        return tree(self.process.pid)

    def tidy(self) -> None:
        if self.store is not None:
            self.store.tidy(*self.streams)

    def get(self, path: str) -> tuple[int, bytes]:
        """Returns (status, body) of a request with the API key, on a new connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {API_KEY}"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def check(self, token: str) -> None:
        """Raises AssertionError if the server does not answer with an image."""
        status, body = self.get(self.before + token + self.after)
        assert status == 200, f"{self.name} answers {status}"
        assert body.startswith(b"GIF8"), f"{self.name} answers with no image"


@contextlib.contextmanager
def valkey(bench: Bench, *cores: int) -> Iterator[Store]:
    server = Valkey(bench.directory("store"))
    with on(*(cores or [bench.cores.other])):
        server.start()
    try:
        server.wait_ready()
        with connect(server.url, timeout=60.0) as client:
            yield Store(server, client, client.info("server")["process_id"])
    finally:
        server.stop()
        server.wait(10)


@contextlib.contextmanager
def running(
    command: Sequence[str | Path], cores: Sequence[int], log: Path, **environ: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a program on these cores until the block ends. environ: its only settings."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PIXEL_") and name != "REDIS_URL"
    }
    with on(*cores), log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**clean, "PIXEL_NETWORKS_REFRESH": "off", **environ},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_start(side: Side, log: Path) -> Side:
    def answers() -> bool:
        assert side.process.poll() is None, f"{side.name} ended:\n{log.read_text()}"
        try:
            return side.get("/")[0] > 0
        except OSError:
            return False

    until(answers)
    return side


NGINX = """
daemon off;
worker_processes 1;
pid {home}/pid;
error_log {home}/error.log;
{user}
events {{ worker_connections 4096; }}
http {{
  access_log {home}/access.log combined buffer=64k flush=1s;
  keepalive_requests 1000000000;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location /o/ {{ empty_gif; }}
  }}
}}
"""


@contextlib.contextmanager
def nginx(bench: Bench) -> Iterator[Side]:
    """Runs nginx, the limit of this kind of server: a fixed image, and one line a hit in a buffered log."""
    program = tool("nginx", "nginx")
    home, port = bench.directory("nginx"), free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    (home / "conf").write_text(NGINX.format(home=home, port=port, user=user))
    command: list[str | Path] = [program, "-p", home, "-e", home / "error.log", "-c", home / "conf"]
    with running(command, [bench.cores.serving], home / "log") as process:
        yield _await_start(Side("nginx empty_gif", port, "/o/", ".gif", process), home / "log")


@contextlib.contextmanager
def pixel_ping(bench: Bench) -> Iterator[Side]:
    """Runs pixel-ping, which counts in memory. It flushes its counts only after the measurement."""
    program, node = npm_program("pixel-ping"), tool("node", "nodejs")
    home, port = bench.directory("pixel-ping"), free_port()
    (home / "conf").write_text(json.dumps({"host": "127.0.0.1", "port": port, "interval": 86_400}))
    with running([node, program, home / "conf"], [bench.cores.serving], home / "log") as process:
        yield _await_start(Side("pixel-ping", port, "/pixel.gif?key=", "", process), home / "log")


@contextlib.contextmanager
def plain(bench: Bench) -> Iterator[Side]:
    """Runs the server of tests/bench/plain.py."""
    home, port = bench.directory("plain"), free_port()
    command = [
        *(sys.executable, "-m", "uvicorn", "tests.bench.plain:app", "--port", str(port)),
        *("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"),
    ]
    with (
        valkey(bench) as store,
        running(command, [bench.cores.serving], home / "log", REDIS_URL=store.valkey.url) as process,
    ):
        side = Side("Starlette + XADD", port, "/o/", ".gif", process, store, [STREAM])
        side.stored = lambda: int(store.client.xlen(STREAM))
        yield _await_start(side, home / "log")


@contextlib.contextmanager
def server(bench: Bench, processes: int = 1, **environ: str) -> Iterator[Side]:
    """Runs this server, which stores each hit before it answers. Several processes run on both cores."""
    home, port = bench.directory("server"), free_port()
    command = [sys.executable, "-m", "pixel_server", "serve", "--port", str(port)]
    floating = processes > 1
    both = [bench.cores.serving, bench.cores.other]
    cores = both if floating else [bench.cores.serving]
    with valkey(bench, *(both if floating else [])) as store:
        environ = {
            "REDIS_URL": store.valkey.url,
            "PIXEL_DATA_DIR": str(home),
            "PIXEL_BASE_URL": "http://pixel.test",
            "PIXEL_API_KEY": API_KEY,
            "PIXEL_SECRET": SIGNING,
            "PIXEL_RECIPIENT_SECRET": RECIPIENT,
            **environ,
        }
        settings = Settings.from_env(environ)
        with running([*command, "--processes", str(processes)], cores, home / "log", **environ) as process:
            name = "pixel-server" + (f", {processes} processes" if floating else "")
            streams = [keys.hits(shard) for shard in range(settings.shards)]
            side = Side(name, port, "/o/", ".gif", process, store, streams, floating=floating)
            side.settings = settings
            side.stored = lambda: _hits(store.client, streams)
            yield _await_start(side, home / "log")


@contextlib.contextmanager
def workers(bench: Bench, side: Side) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `pixel-server work` for a running server, on any core."""
    settings = side.settings
    environ = {
        "REDIS_URL": settings.redis_url,
        "PIXEL_DATA_DIR": str(settings.data),
        "PIXEL_SECRET": SIGNING,
        "PIXEL_RECIPIENT_SECRET": RECIPIENT,
    }
    command = [sys.executable, "-m", "pixel_server", "work"]
    cores = [bench.cores.serving, bench.cores.other]
    with running(command, cores, bench.home / "workers.log", **environ) as process:
        time.sleep(2)
        assert process.poll() is None, (bench.home / "workers.log").read_text()
        yield process


def _hits(client: Redis, streams: Sequence[str]) -> int:
    """Returns the number of hits in all batches of these streams."""
    hits = 0
    for stream in streams:
        last = "-"
        while entries := client.xrange(stream, last, "+", 1000):
            for entry, fields in entries:
                last = f"({entry.decode()}"
                hits += sum(len(hit.decode_batch(data)[0]) for data in fields.values())
    return hits


def settled(count: Callable[[], int], expected: int, within: float = 10.0) -> int:
    """Returns the number of stored hits as soon as it no longer grows. Waits for hits in the spool.

    count: returns the number. expected: number to wait for, at most `within` seconds.
    """
    deadline = time.monotonic() + within
    before, now = -1, count()
    while now != before or (now < expected and time.monotonic() < deadline):
        time.sleep(0.1)
        before, now = now, count()
    return now
