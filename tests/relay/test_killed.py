"""The relay as a process that is killed at each step of a mail."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.relay.servers import ScriptedServer, Talk
from tests.stack import PROGRAM, free_port, until

HTML = b"Subject: Hi\r\nContent-Type: text/html\r\n\r\n<html><body><p>Hi</p></body></html>\r\n"
SECRETS = {
    "PIXEL_SECRET": "a-signing-key-for-tests",
    "PIXEL_RECIPIENT_SECRET": "a-recipient-secret-for-tests",
    "PIXEL_BASE_URL": "https://img.example.org",
}


@contextlib.contextmanager
def process(data: Path, to: str, port: int, *words: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yields a process of `pixel-server relay` that greets. words: added to its command line."""
    with (data.with_suffix(".log")).open("wb") as log:
        started = subprocess.Popen(
            [PROGRAM, "relay", "--listen", f"127.0.0.1:{port}", "--to", to, "--campaign", "spring", *words],
            env={**os.environ, **SECRETS, "PIXEL_DATA_DIR": str(data), **environ},
            stderr=log,
        )
    try:
        until(lambda: greets(port))
        yield started
    finally:
        started.kill()
        started.wait()


def greets(port: int) -> bool:
    with contextlib.suppress(OSError), Talk(port, greets=False) as client:
        return client.banner.startswith("220")
    return False


class Seen(NamedTuple):
    """What both sides saw of one mail. sent: the client saw 250. arrived: mails that the server took."""

    sent: bool
    arrived: int


def kill_at(step: str, data: Path) -> Seen:
    """Kills a relay as the next server receives a step, before the step is answered."""
    port = free_port()
    with ScriptedServer().running() as behind:
        with process(data, f"smtp://127.0.0.1:{behind.port}", port) as relay:

            def kill(at: str) -> None:
                if at.startswith(step):
                    relay.kill()
                    relay.wait()

            behind.on_step = kill
            replies = [""]
            with contextlib.suppress(OSError, AssertionError), Talk(port) as client:
                replies.append(client.mail(HTML, "ada@example.org"))
        return Seen(replies[-1].startswith("250"), len(behind.mails))


def test_relay_killed_at_each_step_is_no_lost_mail(tmp_path: Path):
    steps = ["MAIL", "RCPT", "DATA", ".", "never"]
    with ThreadPoolExecutor(len(steps)) as threads:
        seen = list(threads.map(lambda step: kill_at(step, tmp_path / f"at{step}"), steps))
    # Only after the end of the mail does nobody know what the client does not see.
    assert seen == [Seen(False, 0)] * 3 + [Seen(False, 1), Seen(True, 1)]


def test_relay_password_is_in_no_list_of_processes_and_no_log(tmp_path: Path):
    port, data = free_port(), tmp_path / "data"
    with process(data, "smtp://me:hidden%40word@127.0.0.1:9", port, PIXEL_LOG_LEVEL="debug") as relay:
        assert b"hidden" not in Path(f"/proc/{relay.pid}/cmdline").read_bytes()
        with Talk(port, greets=False) as client:
            assert client.say("EHLO ada@example.org").startswith("421")
        health = subprocess.run(
            [PROGRAM, "health", "--pid", str(relay.pid)], capture_output=True, text=True, check=True
        )
        assert health.stdout == f"port {port} answers\n"
        relay.terminate()
        assert relay.wait(30) == 0
    log = data.with_suffix(".log").read_text()
    assert "relay-next-away" in log
    assert "hidden" not in log
    assert "ada@" not in log


@pytest.mark.parametrize(
    ("words", "environ", "says"),
    [
        ([], {}, "PIXEL_RELAY_TO"),
        (["--to", "mail.example.org"], {}, "PIXEL_RELAY_TO: must be smtp://"),
        (["--to", "smtp://x", "--listen", "0.0.0.0:2525"], {}, "open to everybody"),
        (["--to", "smtp://x", "--listen", "2525"], {}, "PIXEL_RELAY_LISTEN"),
        (["--to", "smtp://x", "--campaign", "No Id"], {}, "PIXEL_RELAY_CAMPAIGN"),
        (["--to", "smtp://x"], {"PIXEL_SECRET": ""}, "no secrets"),
        (["--to", "smtp://x"], {"PIXEL_BASE_URL": ""}, "PIXEL_BASE_URL"),
        (
            ["--to", "smtp://x"],
            {"PIXEL_RELAY_CERT": "/absent", "PIXEL_RELAY_TLS_KEY": "/absent"},
            "cannot use the certificate /absent",
        ),
    ],
)
def test_relay_that_cannot_start_says_why_in_one_line(
    words: list[str], environ: dict[str, str], says: str, tmp_path: Path
):
    done = subprocess.run(
        [PROGRAM, "relay", *words],
        env={**os.environ, **SECRETS, "PIXEL_DATA_DIR": str(tmp_path), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_up_with_a_relay_that_cannot_start_says_why_before_it_starts_anything(tmp_path: Path):
    done = subprocess.run(
        [PROGRAM, "up", "--relay", "--data", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "PIXEL_RELAY_TO" in done.stderr
    assert not (tmp_path / "data").exists()
