"""Containers of a deployment, run as plain processes, without an engine."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from click.testing import CliRunner

from pixel_server import settings
from pixel_server.cli import main
from pixel_server.run.valkey import binary
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import hosts

ROOT = Path(__file__).parents[2]
SECRETS = {
    "PIXEL_SECRET": "a-signing-key-of-a-deployment",
    "PIXEL_RECIPIENT_SECRET": "a-recipient-secret-of-a-deployment",
    "PIXEL_API_KEY": "an-api-key-of-a-deployment",
    "QUEUE_PASSWORD": "a-password-of-the-queue",
    "PIXEL_RELAY_TO": "smtp://127.0.0.1:1",
}
OTHER_VARIABLES = {"QUEUE_PASSWORD", "PORT", "WEB_CONCURRENCY", "WORKER_CONCURRENCY"}
"""Environment variables of containers that are not settings."""
SETTING_NAMES = {name for name, _, _ in settings.table()}
MUST_AGREE = set(hosts.fingerprints(Settings(), Secrets.derive(("signing",), "recipient"), "web"))
"""Settings that must be the same on all hosts."""
_READ_ONLY = (
    'mount --make-rprivate / && mount --bind "$1" "$1" && cd "$1" && '
    'mount -o remount,bind,ro / && shift && exec "$@"'
)


class Container(NamedTuple):
    """A container. words: its command. environ: its environment variables, without those of the image."""

    name: str
    words: list[str]
    environ: dict[str, str]


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Returns the text with each `$(NAME)` replaced. Raises KeyError if the name is not set before."""
    return re.sub(r"\$\((\w+)\)", lambda match: environ[match[1]], text)


def assert_exists(words: Sequence[str]) -> None:
    """Raises AssertionError if `pixel-server` does not know this command with these options."""
    assert words[0] == "pixel-server", words
    done = CliRunner().invoke(main, [*words[1:], "--help"])
    assert done.exit_code == 0, done.output
    named_options = {word for word in words if word.startswith("--")}
    assert all(f"{option} " in done.output for option in named_options), (words, done.output)


def programs(directory: Path) -> str:
    """Returns a PATH with the programs of the images: `pixel-server`, `valkey-server`, `caddy` and `sh`."""
    directory.mkdir()
    (directory / "valkey-server").symlink_to(binary())
    for name in ("pixel-server", "caddy"):
        (directory / name).symlink_to(Path(sys.executable).with_name(name))
    return f"{directory}:{os.defpath}"


def read_only(directory: Path) -> list[str]:
    """Returns the words that start a program which can write to this directory only.

    Returns no words if this machine does not let the tests make mounts.
    """
    can_mount = (
        shutil.which("unshare")
        and not subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode
    )
    return ["unshare", "--mount", "sh", "-c", _READ_ONLY, "sh", str(directory)] if can_mount else []


PASSED_ON = ("TEST_RUN_MARK", "PIXEL_NETWORKS_REFRESH")
"""Variables of the tests that a container also gets: it must not ask the internet for lists of networks."""


@contextlib.contextmanager
def running(
    container: Container, data: Path, path: str, log: Path, *more: str, **environ: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a container's command, with these words and variables added, until the block ends.

    data: its only directory that it can write to. It is ended by SIGTERM, and must then end with exit code 0.
    """
    data.mkdir(exist_ok=True)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*read_only(data), *container.words, *more],
            env={"PATH": path, "HOME": "/nonexistent", "PIXEL_DATA_DIR": str(data)}
            | container.environ
            | {name: os.environ[name] for name in PASSED_ON if name in os.environ}
            | environ,
            cwd=data,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM), log.read_text()
    finally:
        process.kill()
        process.wait()
