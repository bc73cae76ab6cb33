"""`pixel-server healthcheck`"""

from __future__ import annotations

import os
import socket
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple

import click
import redis

from pixel_server.commands.failures import Failure
from pixel_server.settings import Settings
from pixel_server.store import client, keys

DEFAULT_PORT = 8000
TIMEOUT_SECONDS = 2.0
WORKER_SEEN_SECONDS = 10
"""Seconds for which a worker counts as running after its last heartbeat."""
_COMMANDS = ("up", "serve", "work")


_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - nothing listens here
"""Address to ask, by an address that stands for all addresses of the machine."""


class Main(NamedTuple):
    """The main process of a container: its command (`"serve"`), and the port and address to ask."""

    command: str
    port: int
    host: str = "127.0.0.1"


@click.command()
@click.option("--pid", default=1, show_default=True, help="Main process of the container.")
def healthcheck(pid: int) -> None:
    """Check `up`, `serve` or `work` from inside its container. The exit code is 1 if the check fails.

    A web process must answer. For workers, Redis must hold a heartbeat from this machine that is at most ten
    seconds old.
    """
    main = find_main(_words_of(pid), os.environ.get("PORT", ""))
    if main.command == "work":
        count = _count_workers(Settings.from_env(), socket.gethostname())
        if not count:
            raise Failure(f"no worker of this machine has been seen for {WORKER_SEEN_SECONDS} s")
        click.echo(f"workers seen: {count}")
    else:
        _require_answer(main.host, main.port)
        click.echo(f"port {main.port} answers")


def _words_of(pid: int) -> list[str]:
    """Returns the words of a process's command line. A command that is passed to a shell is split too."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError as error:
        raise Failure(f"process {pid} cannot be read: {error.strerror}") from None
    return line.replace("\0", " ").split()


def find_main(words: list[str], port_set: str) -> Main:
    """Returns the main process, from the words of its command line. port_set: value of the variable `PORT`.

    If no command of this program is among the words, the process counts as a web process.
    """
    command_positions = [
        number + 1
        for number, word in enumerate(words[:-1])
        if Path(word).name in ("pixel-server", "pixel_server") and words[number + 1] in _COMMANDS
    ]
    rest = words[command_positions[0] :] if command_positions else []
    port = _option(rest, "--port") or port_set
    host = (_option(rest, "--host") or "").strip("[]")
    return Main(
        rest[0] if rest else "serve",
        int(port) if port.isdigit() else DEFAULT_PORT,
        _LOOPBACK.get(host, host),
    )


def _option(words: list[str], name: str) -> str | None:
    """Returns the last value of an option, or None if it is not given."""
    value = None
    for number, word in enumerate(words):
        if word == name and number + 1 < len(words):
            value = words[number + 1]
        elif word.startswith(f"{name}="):
            value = word.removeprefix(f"{name}=")
    return value


def _require_answer(host: str, port: int) -> None:
    """Raises Failure unless a web process at this address answers `/healthz`."""
    connection = HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        raise Failure(f"port {port} does not answer: {error}") from None
    finally:
        connection.close()
    if status != 200:
        raise Failure(f"port {port} answers {status}")


def _count_workers(settings: Settings, machine: str) -> int:
    """Returns the number of this machine's workers with a recent heartbeat. Raises Failure if Redis fails."""
    try:
        with client.connect(settings.redis_url, timeout=TIMEOUT_SECONDS) as store:
            seconds, micros = store.time()
            now = seconds + micros / 1_000_000
            names = store.zrangebyscore(
                keys.WORKERS, now - WORKER_SEEN_SECONDS, now + keys.MAX_BEAT_SKEW_SECONDS
            )
    except redis.ResponseError as error:
        raise Failure(f"Redis refuses a command: {error}") from None
    except (redis.RedisError, OSError) as error:
        raise Failure(f"Redis does not answer: {error}") from None
    return sum(name.decode(errors="replace").rpartition(":")[0] == machine for name in names)
