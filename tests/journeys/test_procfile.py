"""The processes of the Procfile, started one by one as a hosting platform does."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
import redis

from tests.conftest import API_KEY
from tests.stack import Stack, free_port, until

ROOT = Path(__file__).parent.parent.parent
LINES = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())

Run = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def host(redis_url: str, tmp_path: Path) -> Stack:
    """Returns a stack with an address and a key, whose `up` is not started."""
    made = Stack(tmp_path / "data", free_port())
    made.key = API_KEY
    made.environ |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PORT": str(made.port),
        "REDIS_URL": redis_url,
        "PIXEL_API_KEY": API_KEY,
        "PIXEL_BASE_URL": made.address,
    }
    return made


@pytest.fixture
def run(host: Stack) -> Iterator[Run]:
    """Returns a function that starts a line of the Procfile. After the test, no process may remain."""
    started: list[subprocess.Popen[bytes]] = []

    def start(line: str, **environ: str) -> subprocess.Popen[bytes]:
        started.append(
            subprocess.Popen(
                ["sh", "-c", line], env={**host.environ, **environ}, cwd=ROOT, start_new_session=True
            )
        )
        return started[-1]

    yield start
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGTERM)
        except ProcessLookupError:
            continue
        process.wait(60)
    until(lambda: host.pids("pixel_server") == [])


def answers(host: Stack) -> bool:
    try:
        with urllib.request.urlopen(f"{host.address}/healthz", timeout=60) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def counted(host: Stack, recipients: list[str]) -> None:
    """Opens mails, and checks that each open is recorded and counted."""
    _, made = host.call("POST", "/api/campaigns/mail/links", {"recipients": recipients})
    before = host.totals("mail")["opens"]
    for link in made["links"]:
        assert host.get(link["url"]) == (200, "recorded")
    until(lambda: host.totals("mail")["opens"] == before + len(recipients))


def make_campaign(host: Stack) -> None:
    until(lambda: answers(host))
    assert host.call("POST", "/api/campaigns", {"id": "mail", "name": "Mail", "kind": "email"})[0] == 201


def test_procfile_lines_count_hits(host: Stack, run: Run):
    assert sorted(LINES) == ["web", "worker"]
    run(LINES["web"])
    run(LINES["worker"])
    make_campaign(host)
    counted(host, ["ada", "bob"])
    assert host.call("GET", "/readyz")[1]["workers"] == 1


def test_procfile_lines_with_several_processes_count_hits(host: Stack, run: Run):
    run(LINES["web"], WEB_CONCURRENCY="2")
    run(LINES["worker"], WORKER_CONCURRENCY="2")
    make_campaign(host)
    counted(host, ["ada", "bob"])
    until(lambda: host.call("GET", "/readyz")[1]["workers"] == 2)
    assert len(host.pids("serve --handle")) == 2


def test_serve_killed_process_is_replaced(host: Stack, run: Run):
    run("exec pixel-server serve --processes 2")
    run(LINES["worker"])
    make_campaign(host)
    before = until(lambda: len(found := host.pids("serve --handle")) == 2 and found)
    os.kill(before[0], signal.SIGKILL)
    until(lambda: len(found := host.pids("serve --handle")) == 2 and before[0] not in found)
    counted(host, ["ada"] * 20)


def test_work_killed_process_is_replaced(host: Stack, run: Run):
    run(LINES["web"])
    run("exec pixel-server work --processes 2")
    make_campaign(host)
    before = until(lambda: len(found := host.pids("work --one")) == 2 and found)
    os.kill(before[0], signal.SIGKILL)
    counted(host, ["ada"] * 20)
    until(lambda: len(found := host.pids("work --one")) == 2 and before[0] not in found)


@pytest.mark.parametrize("command", ["serve", "work"])
def test_children_of_a_killed_parent_end(host: Stack, run: Run, command: str):
    parent = run(f"exec pixel-server {command} --processes 2")
    words = {"serve": "serve --handle", "work": "work --one"}[command]
    until(lambda: len(host.pids(words)) == 2)
    parent.kill()
    parent.wait()
    until(lambda: host.pids(words) == [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", ["serve", "serve --processes 2", "work", "work --processes 2"])
def test_processes_stop_on_sigterm(host: Stack, run: Run, command: str, number: signal.Signals):
    process = run(f"exec pixel-server {command}")
    if command.startswith("serve"):
        until(lambda: answers(host))
    else:
        until(lambda: host.pids("work --one"))
    process.send_signal(number)
    assert process.wait(60) in (0, -signal.SIGTERM)
    until(lambda: host.pids("pixel") == [])


def test_work_redis_replica_is_survived(host: Stack, run: Run, client: redis.Redis, tmp_path: Path):
    run(LINES["web"])
    make_campaign(host)
    log = tmp_path / "work.log"
    run(f"exec pixel-server work 2>{log}")
    counted(host, ["ada"])
    [link] = host.call("POST", "/api/campaigns/mail/links", {"recipients": ["eve"]})[1]["links"]
    client.replicaof("127.0.0.1", "1")
    try:
        until(lambda: " worker-redis-away: " in log.read_text())
        assert host.get(link["url"]) == (200, "recorded")
        failing = host.call("GET", "/readyz")[1]["recorder"]["failing_since"]
        assert abs(datetime.fromisoformat(failing).timestamp() - time.time()) < 60
    finally:
        client.replicaof("NO", "ONE")
    until(lambda: host.totals("mail")["opens"] == 2)
    counted(host, ["bob"])
    said = log.read_text()
    assert "traceback=" not in said
    assert "ended with" not in said


def test_serve_redis_absent_starts_anyway(host: Stack, run: Run, tmp_path: Path):
    """The test needs an address without a Redis."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 6379)) == 0:
            pytest.skip("a Redis is at the default address")
    log = tmp_path / "web.log"
    run(f"exec pixel-server serve 2>{log}", REDIS_URL="")
    until(lambda: answers(host))
    assert "Redis at 127.0.0.1:6379 does not answer" in log.read_text()
    assert "pixel-server up" not in log.read_text()


@pytest.mark.parametrize(("hard", "warned"), [(5000, False), (200, True)])
def test_serve_raises_its_file_limit(host: Stack, run: Run, tmp_path: Path, hard: int, warned: bool):
    log = tmp_path / "web.log"
    process = run(f"ulimit -Sn 100; ulimit -Hn {hard}; exec pixel-server serve 2>{log}")
    until(lambda: answers(host))
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    assert re.search(rf"Max open files +{hard} +{hard} ", limits)
    assert (f"only {hard} files may be open" in log.read_text()) == warned


def test_serve_used_port_prints_one_line(host: Stack, run: Run):
    run(LINES["web"])
    until(lambda: answers(host))
    second = subprocess.run(
        ["sh", "-c", LINES["web"]], env=host.environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert second.returncode == 1
    assert (
        second.stderr == f"pixel-server: cannot listen on 0.0.0.0 port {host.port}: Address already in use; "
        "choose another port\n"
    )


class Line:
    """A connection that is kept alive."""

    def __init__(self, host: Stack) -> None:
        self.socket = socket.create_connection(("127.0.0.1", host.port), timeout=60)
        self._file = self.socket.makefile("rb")

    def ask(self, method: str, target: str, body: bytes = b"") -> int:
        self.send(method, target, body)
        return self.answer()

    def send(self, method: str, target: str, body: bytes = b"") -> None:
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n"
        more = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        self.socket.sendall(f"{head}{more}\r\n".encode() + body)

    def answer(self) -> int:
        """Sends a request, and returns the status."""
        status = int(self._file.readline().split()[1])
        length = 0
        while (line := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b": ")
            if name.lower() == b"content-length":
                length = int(value)
        assert len(self._file.read(length)) == length
        return status

    def close(self) -> None:
        self._file.close()
        self.socket.close()


def connections(host: Stack, pid: int) -> int:
    """Returns how many connections to the server this process has open."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    wanted = {f"socket:[{line[9]}]" for line in lines if line[1].endswith(f":{host.port:04X}")}
    found = []
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(handle.readlink()))
    return len(wanted & set(found))


def make_site(host: Stack) -> None:
    until(lambda: answers(host))
    assert host.call("POST", "/api/campaigns", {"id": "site", "name": "Site", "kind": "web"})[0] == 201


PIXEL = "/p/site.gif?u=https://example.org/"


def test_serve_one_connection_carries_pixels_pages_and_writes(host: Stack, run: Run):
    """A proxy sends all requests over the same connections."""
    run(LINES["web"])
    make_site(host)
    line = Line(host)
    for i in range(5):
        assert line.ask("GET", PIXEL) == 200
        assert line.ask("GET", "/api/campaigns/site/stats") == 200
        assert line.ask("GET", "/api/openapi.json") == 200
        assert line.ask("POST", "/api/campaigns", b'{"id": "c%d", "name": "C", "kind": "email"}' % i) == 201
        assert line.ask("POST", "/api/campaigns", b" " * 300_000) == 400
        assert line.ask("GET", "/sign-in") == 200
    line.close()


def test_serve_request_in_pieces_reaches_its_side(host: Stack, run: Run):
    run(LINES["web"])
    make_site(host)
    line = Line(host)
    for target in ("/api/openapi.json", PIXEL, "/healthz", "/api/openapi.json"):
        head = f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        line.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in head:
            line.socket.sendall(bytes([byte]))
        assert line.answer() == 200
    line.close()


def test_serve_stopped_pages_process_delays_no_pixel(host: Stack, run: Run):
    """The process for pages is stopped, and pixels are answered without delay."""
    run(LINES["web"])
    make_site(host)
    [pages] = until(lambda: host.pids("serve --beside"))
    reading, mixed = Line(host), Line(host)
    for line in (reading, mixed):
        assert line.ask("GET", "/api/openapi.json") == 200
    until(lambda: connections(host, pages) == 0)  # an idle connection goes back
    os.kill(pages, signal.SIGSTOP)
    try:
        waiting = [Line(host) for _ in range(20)]
        for line in waiting:
            line.send("GET", "/api/openapi.json")
        reading.send("GET", "/api/openapi.json")
        line = Line(host)
        for _ in range(20):
            assert line.ask("GET", PIXEL) == 200
            assert mixed.ask("GET", PIXEL) == 200
            assert host.get(PIXEL) == (200, "recorded")
        assert line.ask("GET", "/healthz") == 200
        assert line.ask("GET", "/readyz") == 200
        assert line.ask("POST", "/api/campaigns", b'{"id": "new", "name": "New", "kind": "web"}') == 201
    finally:
        os.kill(pages, signal.SIGCONT)
    assert [each.answer() for each in (reading, *waiting)] == [200] * 21
    for each in (line, reading, mixed, *waiting):
        each.close()


def test_serve_pages_process_killed_is_replaced(host: Stack, run: Run):
    run(LINES["web"])
    make_site(host)
    [pages] = until(lambda: host.pids("serve --beside"))
    os.kill(pages, signal.SIGKILL)
    line = Line(host)
    assert line.ask("GET", PIXEL) == 200
    assert line.ask("GET", "/api/openapi.json") == 200  # it waited for the new one
    assert line.ask("GET", PIXEL) == 200
    line.close()
    assert host.pids("serve --beside") not in ([], [pages])


@pytest.mark.parametrize(
    ("only", "statuses"),
    [
        ("pixels", {PIXEL: 200, "/p.js": 200, "/healthz": 200, "/readyz": 200, "/api/keys": 421, "/": 421}),
        ("pages", {PIXEL: 421, "/o/x.gif": 421, "/healthz": 200, "/readyz": 200, "/api/keys": 200}),
    ],
)
def test_serve_only_one_side_answers_421_to_the_other(
    host: Stack, run: Run, only: str, statuses: dict[str, int]
):
    run(f"exec pixel-server serve --only {only}")
    until(lambda: answers(host))
    host.run("campaign", "create", "site", "--kind", "web")
    shown = {200: "recorded", 421: "failed; reason=elsewhere"}
    until(lambda: host.get(PIXEL) == (statuses[PIXEL], shown[statuses[PIXEL]]))
    for target, status in statuses.items():
        line = Line(host)
        assert line.ask("GET", target) == status, target
        line.close()
    assert host.pids("serve --beside") == []
