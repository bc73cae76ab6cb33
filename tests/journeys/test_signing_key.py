"""The change of the signing key, step by step as docs/operating.md tells."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.in_process import StackInProcess
from tests.stack import Stack

DOCS = Path(__file__).parents[2] / "docs" / "operating.md"
RECORDED, UNKNOWN = (200, "recorded"), (404, "refused; reason=token")


def documented(step: int, cwd: Path) -> str:
    """Runs the command of a step of the docs, and returns what it prints."""
    text = DOCS.read_text().partition("**A new signing key.**")[2]
    command = re.search(rf"^{step}\. .*?`python3 -c '(.*?)'`", text, re.M)
    assert command is not None
    done = subprocess.run(
        [sys.executable, "-c", command[1]], cwd=cwd, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def link(stack: Stack) -> str:
    return stack.run("link", "letter", "ada").stdout.strip()


@pytest.fixture
def server(tmp_path: Path):
    server = StackInProcess(tmp_path / "pixel-data")
    server.start()
    yield server
    server.stop()


def test_signing_key_is_changed_step_by_step(server: Stack, tmp_path: Path):
    server.run("campaign", "create", "letter")
    old_link = link(server)
    old, new = documented(1, tmp_path), documented(2, tmp_path)
    assert len(new) >= 16

    def restart(keys: str) -> None:
        server.stop()
        server.environ["PIXEL_SECRET"] = keys
        server.start()

    restart(f"{old},{new}")
    assert link(server).rpartition("/")[0] == old_link.rpartition("/")[0]
    restart(f"{new},{old}")
    new_link = link(server)
    assert (server.get(old_link), server.get(new_link)) == (RECORDED, RECORDED)
    restart(new)
    assert (server.get(old_link), server.get(new_link)) == (UNKNOWN, RECORDED)
    assert server.get(link(server)) == RECORDED
    server.environ["PIXEL_SECRET"] = old
    refused = server.run("link", "letter", "ada", check=False)
    assert (refused.returncode, "other secrets" in refused.stderr) == (1, True)
