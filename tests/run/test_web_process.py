"""How web processes and process 1 of a container end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.stack import PROGRAM, Stack, free_port, until


def test_serve_stopped_ends_after_its_process_for_pages(redis_url: str, tmp_path: Path):
    server = Stack(tmp_path / "data", free_port(), REDIS_URL=redis_url)
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen([PROGRAM, "serve", "--port", str(server.port)], env=server.environ, stderr=log)
    try:
        until(lambda: is_answered(server.port))
        [pages] = server.pids("serve --beside")
        process.terminate()
        process.wait(30)
        assert not Path(f"/proc/{pages}").exists()
    finally:
        process.kill()


def is_answered(port: int) -> bool:
    """Returns whether the process for pages answers."""
    with socket.socket() as client:
        client.settimeout(10)
        if client.connect_ex(("127.0.0.1", port)):
            return False
        client.sendall(b"GET /sign-in HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return client.recv(64).startswith(b"HTTP/1.1 200")


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="only root can start a process with the id 1"
)
def test_process_1_told_to_stop_while_it_starts_ends(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        environ = {**os.environ, "REDIS_URL": url, "PIXEL_DATA_DIR": str(tmp_path)}
        outer = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--kill-child", PROGRAM, "serve", "--port", str(free_port())],
            env=environ,
        )
        try:
            connection, _ = silent.accept()  # it waits for an answer of Redis
            with connection:
                children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
                os.kill(int(children[0]), signal.SIGTERM)
                assert outer.wait(30) == 0
        finally:
            outer.kill()
            outer.wait()
