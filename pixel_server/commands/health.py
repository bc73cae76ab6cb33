"""`pixel-server health`"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque
from collections.abc import Iterable, Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple

import click
import redis

from pixel_server.addresses import parse_host_port
from pixel_server.commands.failures import Failure
from pixel_server.commands.support import settings_here
from pixel_server.settings import Settings
from pixel_server.store import client, keys

DEFAULT_PORT = 8000
TIMEOUT_SECONDS = 2.0
WORKER_SEEN_SECONDS = 10
"""Seconds for which a worker counts as running after its last heartbeat."""
_COMMANDS = ("up", "serve", "work", "relay")
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - nothing listens here
"""Address to ask, by an address that stands for all addresses of the machine."""


class Main(NamedTuple):
    """Process that a container runs: the command (`"serve"`), and the port and address to ask."""

    command: str
    port: int
    host: str = "127.0.0.1"


@click.command()
@click.option("--worker", is_flag=True, help="Check the workers, whatever command runs here.")
@click.option("--pid", default=1, show_default=True, help="Process whose command is checked, or its parent.")
def health(worker: bool, pid: int) -> None:
    """Check `up`, `serve`, `work` or `relay` from inside its container.

    The exit code is 1 if the check fails. A web process must answer, and a relay must greet. Of workers,
    which `work` runs, Redis must hold a heartbeat from this machine that is at most ten seconds old.
    """
    main = None if worker else find_main(_command_lines(pid), os.environ.get("PORT", ""))
    if main is None or main.command == "work":
        count = _count_workers(settings_here(), socket.gethostname())
        if not count:
            raise Failure(f"no worker of this machine has been seen for {WORKER_SEEN_SECONDS} s")
        click.echo(f"workers seen: {count}")
        return
    if main.command == "relay":
        require_greeting(main.host, main.port)
    else:
        _require_answer(main.host, main.port)
    click.echo(f"port {main.port} answers")


def _command_lines(pid: int) -> Iterator[list[str]]:
    """Yields the words of the command line of a process, then those of its children, then of their children.

    So a shell that runs a script needs no `exec`. A command that is passed to a shell is split too. Raises
    Failure if the process cannot be read.
    """
    try:
        yield _words_of(pid)
    except OSError as error:
        raise Failure(f"process {pid} cannot be read: {error.strerror}") from None
    children = _children_by_parent()
    waiting = deque(children.get(pid, []))
    while waiting:
        descendant = waiting.popleft()
        waiting.extend(children.get(descendant, []))
        with contextlib.suppress(OSError):  # it has just ended
            yield _words_of(descendant)


def _words_of(pid: int) -> list[str]:
    line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return line.replace("\0", " ").split()


def _children_by_parent() -> dict[int, list[int]]:
    """Returns the ids of the children of each process, the oldest first."""
    children: dict[int, list[int]] = {}
    for pid in sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        with contextlib.suppress(OSError):
            # `4711 (name) S 4700 ...`: the name may contain spaces and brackets.
            parent = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1]
            children.setdefault(int(parent), []).append(pid)
    return children


def find_main(command_lines: Iterable[list[str]], port_set: str) -> Main:
    """Returns what a container runs: the first command of this program among the command lines.

    port_set: value of the variable `PORT`. Without such a command, this is a web process.
    """
    rest = next(filter(None, map(_own_command, command_lines)), ["serve"])
    if rest[0] == "relay":
        host, relay_port = parse_host_port(_option(rest, "--listen") or settings_here().relay_listen)
        return Main("relay", relay_port, reachable(host))
    port = _option(rest, "--port") or port_set
    host = (_option(rest, "--host") or "").strip("[]")
    return Main(rest[0], int(port) if port.isdigit() else DEFAULT_PORT, reachable(host))


def reachable(host: str) -> str:
    """Returns the address to ask of a process that listens on a host."""
    return _LOOPBACK.get(host, host)


def _own_command(words: list[str]) -> list[str]:
    """Returns the words from this program's command on: `["serve", "--port", "80"]`, [] without a command."""
    for number, word in enumerate(words[1:], start=1):
        if word in _COMMANDS and Path(words[number - 1]).name in ("pixel-server", "pixel_server"):
            return words[number:]
    return []


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


def require_greeting(host: str, port: int) -> None:
    """Raises Failure unless a relay at this address greets. A relay whose connections are all taken does."""
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT_SECONDS) as connection:
            greeting = connection.recv(3)
    except OSError as error:
        raise Failure(f"port {port} does not answer: {error}") from None
    if greeting not in (b"220", b"421"):
        raise Failure(f"port {port} does not greet as a mail server does")


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
