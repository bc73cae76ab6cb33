"""`pixel-server up` when it cannot start: one line says why."""

from __future__ import annotations

import re
import socket
import socketserver
import subprocess
import threading
from pathlib import Path

import pytest

from pixel_server.collect.redis_connection import encode_command
from pixel_server.run import valkey
from tests.journeys.up_steps import assert_refused, children, create_link, run_up, send_hits
from tests.stack import PROGRAM, Stack, free_port, until


class _OldRedis(socketserver.StreamRequestHandler):
    """Answers HELLO as Redis 6.2 does, 0 to HEXISTS, and OK to the rest."""

    def handle(self) -> None:
        while line := self.rfile.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(size + 2)[:size])
            hello = [b"server", b"redis", b"version", b"6.2.0", b"mode", b"standalone"]
            known = {b"HELLO": encode_command(*hello), b"HEXISTS": b":0\r\n"}
            self.wfile.write(known.get(words[0], b"+OK\r\n"))


def test_up_second_start_on_same_directory_is_refused(stack: Stack):
    url = create_link(stack)
    kept = {name: (stack.data / name).read_bytes() for name in ("up.json", "secrets.json")}
    before = children(stack)
    for port in (None, stack.port):
        result = run_up(stack.data, port)
        assert_refused(result, "already up", stack.address, "nothing was changed")
        assert "demo" not in result.stderr
    with_demo = run_up(stack.data, None, "--demo")
    assert_refused(with_demo, "already up", "nothing was changed")
    assert children(stack) == before
    assert {name: (stack.data / name).read_bytes() for name in kept} == kept
    send_hits(stack, url, 1)
    until(lambda: stack.totals("mail")["opens"] == 1)
    hint = re.search(r"; this adds the demo to it: (PIXEL_DATA_DIR=.* demo add)$", with_demo.stderr)
    added = subprocess.run(["sh", "-ec", hint[1]], cwd="/", env={}, capture_output=True, check=True)
    assert b"made-up hits in demo-newsletter" in added.stdout


@pytest.mark.parametrize(
    "environ", [{"PIXEL_RULES": "/nowhere/rules.toml"}, {"PIXEL_DATA_DIR": "bad-list"}], ids=["rules", "list"]
)
def test_up_bad_rules_or_list_is_refused_at_once(data: Path, environ: dict[str, str]):
    if "PIXEL_DATA_DIR" in environ:
        (data / "networks").mkdir()
        (data / "networks" / "cisco.txt").write_text("nonsense\n")
    assert_refused(run_up(data, None, **environ), "rules.toml" if "PIXEL_RULES" in environ else "cisco.txt")
    assert not (data / "valkey").exists()


def test_up_used_port_is_refused(data: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_refused(run_up(data, port), f"cannot listen on 127.0.0.1 port {port}")


@pytest.mark.parametrize("host", ["nobody.invalid", "192.0.2.1", "x" * 70])
def test_up_foreign_address_is_refused(data: Path, host: str):
    result = subprocess.run(
        [PROGRAM, "up", "--host", host, "--data", str(data)], capture_output=True, text=True, check=False
    )
    assert_refused(result, f"cannot listen on {host} port 8000: ")


@pytest.mark.parametrize("where", ["/dev/null/x", "/proc/pixel-data", "file"])
def test_up_unwritable_data_directory_is_refused(data: Path, where: str):
    (data / "file").touch()
    assert_refused(run_up(data / where), "cannot write to", where)


def test_up_damaged_valkey_data_is_refused(data: Path):
    stack = Stack(data)
    stack.start()
    stack.stop()
    manifest = next((data / "valkey").rglob("*.manifest"))
    manifest.write_text("nonsense\n")
    assert_refused(run_up(data), "valkey ended", "valkey.log")


def test_up_old_redis_is_refused(data: Path):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _OldRedis) as old:
        old.daemon_threads = True
        threading.Thread(target=old.serve_forever, daemon=True).start()
        port = old.server_address[1]
        result = run_up(data, REDIS_URL=f"redis://127.0.0.1:{port}/0")
        old.shutdown()
    assert_refused(result, f"127.0.0.1:{port}", "6.2.0", "7.0 or newer")


def test_up_evicting_redis_is_refused(data: Path):
    path = data / "evicting.sock"
    arguments = ["--port", "0", "--unixsocket", str(path), "--save", "", "--maxmemory-policy", "allkeys-lru"]
    process = subprocess.Popen([str(valkey.binary()), *arguments], stdout=subprocess.DEVNULL, cwd=data)
    try:
        until(path.exists)
        assert_refused(run_up(data, REDIS_URL=f"unix://{path}"), "evicts", "allkeys-lru", "noeviction")
    finally:
        process.kill()
        process.wait()


def test_up_redis_absent_is_refused(data: Path):
    port = free_port()
    secret = f"redis://:a-password@127.0.0.1:{port}/0"
    result = run_up(data, REDIS_URL=secret)
    assert_refused(result, f"127.0.0.1:{port}", "does not answer")
    assert "a-password" not in result.stderr
    assert_refused(run_up(data, REDIS_URL="unix:///nowhere/at.sock"), "/nowhere/at.sock", "does not answer")


def test_up_store_with_other_shards_or_secrets_is_refused(data: Path):
    stack = Stack(data)
    stack.start()
    url = create_link(stack)
    send_hits(stack, url, 1)
    stack.stop()
    other = "another-secret-of-32-characters-"
    assert_refused(run_up(data, PIXEL_SHARDS="8"), "4 shards", "PIXEL_SHARDS=4")
    assert_refused(run_up(data, PIXEL_RECIPIENT_SECRET=other), "another recipient secret")
    assert_refused(run_up(data, PIXEL_SECRET=other), "none of this server's signing keys")
    assert stack.pids("") == []
    stack.start()
    send_hits(stack, url, 1)
    until(lambda: stack.totals("mail")["opens"] == 2)
    assert stack.stop() == 0


def test_up_lost_secrets_are_refused_and_not_replaced(data: Path):
    stack = Stack(data)
    stack.start()
    url = create_link(stack)
    send_hits(stack, url, 1)
    stack.stop()
    kept = (data / "secrets.json").read_bytes()
    (data / "secrets.json").unlink()
    assert_refused(run_up(data), f"no secrets in {data.resolve()}", "restore")
    assert not (data / "secrets.json").exists()
    (data / "secrets.json").write_bytes(kept)
    stack.start()
    send_hits(stack, url, 1)
    until(lambda: stack.totals("mail")["opens"] == 2)
    assert stack.stop() == 0
