"""`health` of web processes and workers, and the lines that `serve` and `work` write at their start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from pixel_server.cli import main as pixel_server
from pixel_server.commands.health import Main, find_main
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
    assert find_main([line.split()], port_set) == main


def test_find_main_shell_without_exec_reads_the_command_of_its_child():
    lines = ["sh /entrypoint.sh", "sleep 1", "/app/bin/python /app/bin/pixel-server serve --port 9200"]
    lines.append("/app/bin/python -m pixel_server serve --handle 5")
    assert find_main([line.split() for line in lines], "") == Main("serve", 9200)


@pytest.fixture
def start(redis_url, tmp_path):
    """Returns a function that starts a command, and returns (its process, its environment, its log)."""
    started = []
    Path(tmp_path / "data").mkdir()

    def start(*arguments, program=PROGRAM, **environ):
        environ = {
            **os.environ,
            "REDIS_URL": redis_url,
            "PIXEL_DATA_DIR": str(tmp_path / "data"),
            **environ,
        }
        log = tmp_path / f"{Path(arguments[0]).name}.log"
        with log.open("wb") as out:
            started.append(subprocess.Popen([program, *arguments], env=environ, stdout=out, stderr=out))
        return started[-1], environ, log

    yield start
    for process in started:
        process.terminate()
        process.wait(60)


def check(process, environ):
    """Runs `health` on a process. Returns (exit code, output)."""
    done = subprocess.run(
        [PROGRAM, "health", "--pid", str(process.pid)],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


def test_health_web_process_on_its_port(start):
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


def test_health_worker_needs_no_port(start, client, redis_url):
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


def test_health_worker_without_redis_is_not_well(start):
    process, environ, _ = start("work")
    environ["REDIS_URL"] = "redis://127.0.0.1:1/0"
    code, output = check(process, environ)
    assert (code, "Redis does not answer" in output) == (1, True)


def test_health_of_a_shell_that_runs_a_script_is_that_of_its_worker(start, tmp_path):
    script = tmp_path / "entrypoint.sh"
    script.write_text(f"{PROGRAM} work\nexit 0\n")
    process, environ, _ = start(str(script), program="sh")
    until(lambda: check(process, environ) == (0, "workers seen: 1\n"), 60, 0.3)
    [working] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(working), signal.SIGTERM)
    process.wait(30)


def test_health_worker_option_asks_for_workers_whatever_runs(redis_url, client, tmp_path):
    environ = {"REDIS_URL": redis_url, "PIXEL_DATA_DIR": str(tmp_path)}
    client.delete(keys.WORKERS)
    words = ["health", "--worker", "--pid", str(os.getpid())]
    alone = CliRunner().invoke(pixel_server, words, env=environ)
    assert (alone.exit_code, "no worker of this machine" in alone.output) == (1, True)
    heartbeat.beat(client, client.time()[0])
    seen = CliRunner().invoke(pixel_server, words, env=environ)
    assert (seen.exit_code, seen.output) == (0, "workers seen: 1\n")


def test_health_process_gone_is_one_line():
    done = CliRunner().invoke(pixel_server, ["health", "--pid", "999999999"])
    assert (done.exit_code, "process 999999999 cannot be read" in done.output) == (1, True)


def test_health_earlier_name_still_works_and_is_not_listed():
    assert CliRunner().invoke(pixel_server, ["healthcheck", "--help"]).exit_code == 0
    assert "healthcheck" not in CliRunner().invoke(pixel_server, ["--help"]).output


def test_health_is_what_the_container_runs():
    assert 'CMD ["pixel-server", "health"]' in DOCKERFILE.read_text()
