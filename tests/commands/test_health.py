"""`healthcheck` of web processes and workers, and the lines that `serve` and `work` write at their start."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pixel_server.commands.healthcheck import Main, find_main
from pixel_server.store import keys
from tests.stack import PROGRAM, free_port, until
from workers import heartbeat

DOCKERFILE = Path(__file__).parents[2] / "Dockerfile"


@pytest.mark.parametrize(
    ("line", "port_set", "main"),
    [
        ("/app/bin/python /app/bin/pixel-server up --host 0.0.0.0", "", Main("up", 8000)),
        ("/app/bin/python /app/bin/pixel-server up --host 0.0.0.0", "9100", Main("up", 9100)),
        ("pixel-server serve --port 9200 --host ::", "9100", Main("serve", 9200, "::1")),
        ("pixel-server serve --host=10.1.2.3", "", Main("serve", 8000, "10.1.2.3")),
        ("pixel-server serve --port=9300", "", Main("serve", 9300)),
        ("python -m pixel_server work --processes 2", "9100", Main("work", 9100)),
        ("/sbin/docker-init -- pixel-server work", "", Main("work", 8000)),
        ("sh -c exec pixel-server work --processes 1", "", Main("work", 8000)),
        ("sleep infinity", "9400", Main("serve", 9400)),
        ("pixel-server", "", Main("serve", 8000)),
    ],
)
def test_find_main_reads_command_and_port(line, port_set, main):
    assert find_main(line.split(), port_set) == main


@pytest.fixture
def start(redis_url, tmp_path):
    """Returns a function that starts a command, and returns (its process, its environment, its log)."""
    started = []
    Path(tmp_path / "data").mkdir()

    def start(*arguments, **environ):
        environ = {
            **os.environ,
            "REDIS_URL": redis_url,
            "PIXEL_DATA_DIR": str(tmp_path / "data"),
            **environ,
        }
        log = tmp_path / f"{arguments[0]}.log"
        with log.open("wb") as out:
            started.append(subprocess.Popen([PROGRAM, *arguments], env=environ, stdout=out, stderr=out))
        return started[-1], environ, log

    yield start
    for process in started:
        process.terminate()
        process.wait(60)


def check(process, environ):
    """Runs `healthcheck` on a process. Returns (exit code, output)."""
    done = subprocess.run(
        [PROGRAM, "healthcheck", "--pid", str(process.pid)],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


def test_healthcheck_web_process_on_its_port(start):
    port = free_port()
    process, environ, log = start("serve", PORT=str(port))
    until(lambda: check(process, environ)[0] == 0, every=0.3)
    assert (
        f"web process (pixels and pages; 1 on the port) at http://127.0.0.1:{port}, Redis " in log.read_text()
    )
    process.terminate()
    process.wait(60)
    stand_in = subprocess.Popen(
        [sys.executable, "-c", "input()", "pixel-server", "serve"], stdin=subprocess.PIPE
    )
    code, output = check(stand_in, environ)
    stand_in.communicate(b"")
    assert (code, f"port {port} does not answer" in output) == (1, True)


def test_healthcheck_worker_needs_no_port(start, client, redis_url):
    process, environ, log = start("work")
    until(lambda: check(process, environ) == (0, "workers seen: 1\n"), every=0.3)
    place = redis_url.partition("?")[0]
    assert f"workers (1), Redis {place}, data in {environ['PIXEL_DATA_DIR']}" in log.read_text()
    os.kill(process.pid, 19)  # SIGSTOP, so that its workers stay dead
    until(lambda: subprocess.run(["pkill", "-9", "-P", str(process.pid)], check=False).returncode == 0)
    client.zadd(keys.WORKERS, {heartbeat.name(): time.time() - 60, "another-machine:7": time.time()})
    for name in client.zrange(keys.WORKERS, 0, -1):
        if name.decode() != "another-machine:7":
            client.zrem(keys.WORKERS, name)
    code, output = check(process, environ)
    os.kill(process.pid, 18)
    assert (code, "no worker of this machine" in output) == (1, True)


def test_healthcheck_worker_without_redis_is_not_well(start):
    process, environ, _ = start("work")
    environ["REDIS_URL"] = "redis://127.0.0.1:1/0"
    code, output = check(process, environ)
    assert (code, "Redis does not answer" in output) == (1, True)


def test_healthcheck_is_what_the_container_runs():
    assert 'CMD ["pixel-server", "healthcheck"]' in DOCKERFILE.read_text()
