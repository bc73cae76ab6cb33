"""The processes on their own, as a host that reads the Procfile runs them."""

from __future__ import annotations

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
    """Where it will answer, and who may ask. Its own `up` is never started."""
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
    """Starts a line of the Procfile; ends it, and sees that nothing of it is left."""
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
        process.wait(30)
    until(lambda: host.pids("pixel_server") == [], within=15)


def answers(host: Stack) -> bool:
    try:
        with urllib.request.urlopen(f"{host.address}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def counted(host: Stack, recipients: list[str]) -> None:
    """Those mails are opened, each recorded and counted."""
    _, made = host.call("POST", "/api/campaigns/mail/links", {"recipients": recipients})
    before = host.totals("mail")["opens"]
    for link in made["links"]:
        assert host.get(link["url"]) == (200, "recorded")
    until(lambda: host.totals("mail")["opens"] == before + len(recipients))


def make_campaign(host: Stack) -> None:
    until(lambda: answers(host))
    assert host.call("POST", "/api/campaigns", {"id": "mail", "name": "Mail", "kind": "email"})[0] == 201


def test_both_lines_as_they_stand(host: Stack, run: Run):
    assert sorted(LINES) == ["web", "worker"]
    run(LINES["web"])
    run(LINES["worker"])
    make_campaign(host)
    counted(host, ["ada", "bob"])
    assert host.call("GET", "/readyz")[1]["workers"] == 1


def test_both_lines_with_several_processes(host: Stack, run: Run):
    run(LINES["web"], WEB_CONCURRENCY="2")
    run(LINES["worker"], WORKER_CONCURRENCY="2")
    make_campaign(host)
    counted(host, ["ada", "bob"])
    until(lambda: host.call("GET", "/readyz")[1]["workers"] == 2)
    assert len(host.pids("serve --handle")) == 2


def test_a_web_process_that_is_killed_is_replaced(host: Stack, run: Run):
    run("exec pixel-server serve --processes 2")
    run(LINES["worker"])
    make_campaign(host)
    before = until(lambda: len(found := host.pids("serve --handle")) == 2 and found)
    os.kill(before[0], signal.SIGKILL)
    until(lambda: len(found := host.pids("serve --handle")) == 2 and before[0] not in found, within=10)
    counted(host, ["ada"] * 20)


def test_a_worker_that_is_killed_is_replaced(host: Stack, run: Run):
    run(LINES["web"])
    run("exec pixel-server work --processes 2")
    make_campaign(host)
    before = until(lambda: len(found := host.pids("work --one")) == 2 and found)
    os.kill(before[0], signal.SIGKILL)
    counted(host, ["ada"] * 20)
    until(lambda: len(found := host.pids("work --one")) == 2 and before[0] not in found, within=10)


@pytest.mark.parametrize("command", ["serve", "work"])
def test_children_end_with_a_parent_that_is_killed(host: Stack, run: Run, command: str):
    parent = run(f"exec pixel-server {command} --processes 2")
    words = {"serve": "serve --handle", "work": "work --one"}[command]
    until(lambda: len(host.pids(words)) == 2)
    parent.kill()
    parent.wait()
    until(lambda: host.pids(words) == [], within=15)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", ["serve", "serve --processes 2", "work", "work --processes 2"])
def test_a_process_stops_when_it_is_told_to(host: Stack, run: Run, command: str, number: signal.Signals):
    process = run(f"exec pixel-server {command}")
    if command.startswith("serve"):
        until(lambda: answers(host))
    else:
        until(lambda: host.pids("work --one"))
    process.send_signal(number)
    assert process.wait(20) in (0, -signal.SIGTERM)
    until(lambda: host.pids("pixel") == [], within=15)


def test_a_worker_bears_a_redis_that_becomes_a_replica(
    host: Stack, run: Run, client: redis.Redis, tmp_path: Path
):
    run(LINES["web"])
    make_campaign(host)
    log = tmp_path / "work.log"
    run(f"exec pixel-server work 2>{log}")
    counted(host, ["ada"])
    [link] = host.call("POST", "/api/campaigns/mail/links", {"recipients": ["eve"]})[1]["links"]
    client.replicaof("127.0.0.1", "1")
    try:
        until(lambda: "worker: Redis cannot be worked with" in log.read_text())
        assert host.get(link["url"]) == (200, "recorded")
        failing = host.call("GET", "/readyz")[1]["recorder"]["failing_since"]
        assert abs(datetime.fromisoformat(failing).timestamp() - time.time()) < 60
    finally:
        client.replicaof("NO", "ONE")
    until(lambda: host.totals("mail")["opens"] == 2)
    counted(host, ["bob"])
    said = log.read_text()
    assert "Traceback" not in said
    assert "ended with" not in said


def test_a_web_process_starts_before_a_redis_that_nobody_named(host: Stack, run: Run, tmp_path: Path):
    """Only where none is at that address; else it would be used."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 6379)) == 0:
            pytest.skip("a Redis is at the default address")
    log = tmp_path / "web.log"
    run(f"exec pixel-server serve 2>{log}", REDIS_URL="")
    until(lambda: answers(host))
    assert "Redis at 127.0.0.1:6379 does not answer" in log.read_text()
    assert "pixel-server up" not in log.read_text()


@pytest.mark.parametrize(("hard", "warned"), [(5000, False), (200, True)])
def test_as_many_files_may_be_open_as_the_system_lets(
    host: Stack, run: Run, tmp_path: Path, hard: int, warned: bool
):
    log = tmp_path / "web.log"
    process = run(f"ulimit -Sn 100; ulimit -Hn {hard}; exec pixel-server serve 2>{log}")
    until(lambda: answers(host))
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    assert re.search(rf"Max open files +{hard} +{hard} ", limits)
    assert (f"only {hard} files may be open" in log.read_text()) == warned


def test_a_port_that_is_taken(host: Stack, run: Run):
    run(LINES["web"])
    until(lambda: answers(host))
    second = subprocess.run(
        ["sh", "-c", LINES["web"]], env=host.environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert second.returncode == 1
    assert (
        second.stderr == f"pixel-server: cannot listen on 0.0.0.0 port {host.port}: Address already in use; "
        "`--port` takes another\n"
    )
