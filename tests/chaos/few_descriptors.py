"""A web process can open 64 files, clients use as many of them as they can, and Redis hangs.

Clients open more connections than there are descriptors, and keep the connections open. Then Redis is
stopped, and hits arrive over the accepted connections. Each hit must be answered `recorded`, by way of the
spool. Then Redis continues, and the process must connect to Redis although the clients keep their
connections. The process must not waste CPU on connections that it cannot accept, and must never lack a
descriptor for its own files.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pixel_server.mail.links import Minter
from pixel_server.run.valkey import Valkey
from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.client import connect
from tests.chaos.far_redis import is_quiet, recorder_of
from tests.chaos.ledger import CAMPAIGN, SHARDS
from tests.chaos.outcome import Outcome
from tests.stack import PROGRAM, free_port, until

FILES = 64
CLIENTS = 150
ROUNDS = 20


def run(seed: int, log: bool = False) -> Outcome:
    """Runs the scenario; takes about 20 s."""
    outcome = Outcome("few-descriptors", seed)
    data = Path(tempfile.mkdtemp(prefix="px-"))
    valkey = Valkey(data)
    valkey.start()
    clients: list[socket.socket] = []
    try:
        valkey.wait_ready()
        with _processes(data, valkey.url, log) as (web, port):
            clients += _connect(port)
            _tell(outcome, data, valkey, web, port, clients)
    finally:
        for client in clients:
            client.close()
        _signal_valkey(data, signal.SIGCONT)
        valkey.stop()
        valkey.wait(20)
        shutil.rmtree(data, ignore_errors=True)
    return outcome


def _tell(
    outcome: Outcome, data: Path, valkey: Valkey, web: int, port: int, clients: list[socket.socket]
) -> None:
    minter = Minter(f"http://127.0.0.1:{port}", Secrets.load(data))
    path = urlsplit(minter.url(CAMPAIGN, "r1")).path
    accepted = [client for client in clients if _ask(client, path) == "recorded"]
    outcome.events["clients that were accepted"] = len(accepted)
    outcome.events["clients that were refused"] = len(clients) - len(accepted)
    outcome.expect(len(accepted) >= FILES // 4, f"only {len(accepted)} clients were accepted")
    outcome.expect(len(accepted) < FILES, "more clients than descriptors: the limit was not in force")
    answered = len(accepted)
    _signal_valkey(data, signal.SIGSTOP)
    before = _cpu(web)
    started = time.monotonic()
    slowest, refused = 0.0, 0
    for _ in range(ROUNDS):
        for client in _connect(port, 10):  # the others are refused, or wait
            client.close()
        for client in accepted:
            started = time.monotonic()
            answer = _ask(client, path)
            slowest = max(slowest, time.monotonic() - started)
            answered += answer == "recorded"
            refused += answer != "recorded"
    outcome.figures["hits while Redis was away"] = ROUNDS * len(accepted)
    outcome.figures["slowest answer, ms"] = round(slowest * 1000)
    idle = time.monotonic()
    idle_cpu = _cpu(web)
    time.sleep(3)
    share = (_cpu(web) - idle_cpu) / (time.monotonic() - idle)
    outcome.figures["processor while idle, %"] = round(100 * share)
    outcome.figures["processor a hit, ms"] = round(
        1000 * (idle_cpu - before) / max(1, ROUNDS * len(accepted)), 2
    )
    outcome.expect(not refused, f"{refused} hits were not recorded")
    outcome.expect(share < 0.3, f"an idle process used {100 * share:.0f} % of a processor")
    outcome.figures["seconds"] = round(time.monotonic() - started, 1)
    _signal_valkey(data, signal.SIGCONT)
    until(lambda: "Redis stores again" in (data / "log").read_text())  # the clients still hold on
    for client in clients:
        client.close()
    lacking = (data / "log").read_text().count("Too many open files")
    outcome.expect(not lacking, f"{lacking} lines of the log say that files could not be opened")
    with connect(valkey.url) as client:
        until(lambda: is_quiet(client, port), every=0.3)
        totals = [client.hgetall(keys.total(shard, CAMPAIGN)) for shard in range(SHARDS)]
    outcome.counted = sum(int(total.get(b"opens", 0)) for total in totals)
    outcome.sent = len(clients) + ROUNDS * len(accepted)
    outcome.answered, outcome.refused = answered, refused
    outcome.lost = max(0, answered - outcome.counted)
    outcome.doubled = max(0, outcome.counted - outcome.sent)
    outcome.expect(recorder_of(port)["gaps"] == 0, "hits were reported as lost")


def _connect(port: int, count: int = CLIENTS) -> list[socket.socket]:
    connections = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            connections.append(socket.create_connection(("127.0.0.1", port), timeout=5))
    return connections


def _ask(client: socket.socket, path: str) -> str:
    """Requests a pixel. Returns its X-Pixel header, "" without an answer."""
    try:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: pixel.test\r\nUser-Agent: Firefox\r\n\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            if not (more := client.recv(4096)):
                return ""
            answer += more
    except OSError:
        return ""
    head = answer.partition(b"\r\n\r\n")[0].decode().lower()
    return next((line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("x-pixel")), "")


@contextlib.contextmanager
def _processes(data: Path, url: str, log: bool) -> Iterator[tuple[int, int]]:
    """Runs a web process with few descriptors, and a worker. Yields (pid of the web process, port)."""
    port = free_port()
    environ = {
        **os.environ,
        "REDIS_URL": url,
        "PIXEL_DATA_DIR": str(data),
        "PIXEL_API_KEY": "key-of-the-chaos-test",
    }

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))

    started: list[subprocess.Popen[bytes]] = []
    with (data / "log").open("wb") as out:
        serve = [PROGRAM, "serve", "--port", str(port)]
        started.append(
            subprocess.Popen(serve, env=environ, stdout=out, stderr=out, preexec_fn=few)  # noqa: PLW1509
        )
        until(lambda: recorder_of(port))
        started.append(subprocess.Popen([PROGRAM, "work"], env=environ, stdout=out, stderr=out))
    try:
        yield started[0].pid, port
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(30)
        if log:
            print((data / "log").read_text()[-3000:])


def _cpu(pid: int) -> float:
    """Returns the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _signal_valkey(data: Path, number: int) -> None:
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"valkey-server" in (entry / "cmdline").read_bytes() and (
                entry / "cwd"
            ).resolve().is_relative_to(data.resolve()):
                os.kill(int(entry.name), number)
