"""Steps that the tests of `pixel-server up` share."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.stack import PROGRAM, Stack, free_port


def children(stack: Stack) -> dict[str, int]:
    """Returns the process id of each part of a running stack, 0 for a part that does not run."""
    pids = {}
    for name, words in {"web": "serve --handle", "workers": "pixel_server work", "worker": "--one"}.items():
        of_part = stack.pids(words)
        pids[name] = min(of_part) if of_part else 0
    pids["valkey"] = (stack.pids("valkey-server") or [0])[0]
    return pids


def send_hits(stack: Stack, url: str, number: int) -> None:
    """Sends hits, each of which must be recorded."""
    for _ in range(number):
        assert stack.get(url) == (200, "recorded")


def create_link(stack: Stack) -> str:
    """Creates the campaign `mail`, and returns a link of it."""
    made = {"id": "mail", "name": "Mail", "kind": "email"}
    assert stack.call("POST", "/api/campaigns", made)[0] == 201
    _, answer = stack.call("POST", "/api/campaigns/mail/links", {"recipients": ["ada@example.org"]})
    url: str = answer["links"][0]["url"]
    return url


def run_up(
    data: Path, port: int | None = None, *more: str, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Runs an `up` that ends by itself."""
    return subprocess.run(
        [PROGRAM, "up", "--port", str(port or free_port()), "--data", str(data), *more],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def assert_refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """Checks for one line on stderr with these words, and an exit code other than 0."""
    assert result.returncode not in (0, -signal.SIGKILL)
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("pixel-server: ")
    for word in words:
        assert word in result.stderr
