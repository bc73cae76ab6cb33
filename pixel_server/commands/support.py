"""The parts that commands share: --json, tables, the settings of this data directory, and its store."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from types import FrameType
from typing import TypeVar

import click
import redis

from pixel_server.addresses import is_local
from pixel_server.commands.failures import Failure
from pixel_server.run.up_state import read_up_state
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store.client import connect, connect_async
from pixel_server.store.compatibility import check_store
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import StoreMark

T = TypeVar("T")

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
"""The option --json."""


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Prints rows in columns of equal width. The first row names the columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip())


def environment() -> dict[str, str]:
    """Returns the environment variables, completed with those of the last `up` of this data directory."""
    state = read_up_state(Settings.from_env().data)
    variables_of_up = {**state.settings, "REDIS_URL": state.redis_url} if state else {}
    if state and state.queue_url:
        variables_of_up["PIXEL_QUEUE_URL"] = state.queue_url
    return {**variables_of_up, **{name: value for name, value in os.environ.items() if value.strip()}}


def settings_here() -> Settings:
    """Returns the settings of `environment`."""
    return Settings.from_env(environment())


def store_url(settings: Settings) -> str:
    """Returns REDIS_URL, or the URL that the last `up` of this data directory used."""
    state = None if is_redis_url_set() else read_up_state(settings.data)
    return state.redis_url if state else settings.redis_url


def warn_if_local(url: str) -> None:
    """Warns on standard error if only this machine can reach an address that a command prints."""
    if is_local(url):
        text = "only this machine can reach this address: set PIXEL_BASE_URL to the public address first"
        click.echo(f"pixel-server: {text}", err=True)


def base_url_of_up(settings: Settings) -> str | None:
    """Returns the base URL of the last `up` of this data directory, or None if there was no `up`."""
    state = read_up_state(settings.data)
    return state.base_url if state else None


def is_redis_url_set() -> bool:
    return bool(os.environ.get("REDIS_URL", "").strip())


def is_store_known(settings: Settings) -> bool:
    """Returns whether REDIS_URL is set, or an `up` has run with this data directory."""
    return is_redis_url_set() or base_url_of_up(settings) is not None


def with_store(act: Callable[[AsyncRedis, Settings], Awaitable[T]]) -> T:
    """Calls `act` with the store of this data directory and the settings, and returns the result.

    Raises StoreError if this server cannot use the store, and Failure if `up` does not run.
    """
    settings = settings_here()
    url = store_url(settings)
    if not is_redis_url_set():
        _require_running(url, settings)
    secrets = Secrets.load(settings.data, settings.signing_secrets, settings.recipient_secret)
    return with_store_at(url, settings, secrets, act)


def _require_running(url: str, settings: Settings) -> None:
    """Raises Failure if no Redis answers: most likely `up` does not run."""
    try:
        with connect(url) as client:
            client.ping()
    except (redis.ConnectionError, redis.TimeoutError, OSError):
        raise Failure(
            f"pixel-server does not run with {settings.data}, or its Redis does not answer: "
            "start it there with `pixel-server up`, or set PIXEL_DATA_DIR or REDIS_URL"
        ) from None
    except redis.RedisError:
        return  # Redis runs; the command that follows reports the error


def with_store_at(
    url: str,
    settings: Settings,
    secrets: Secrets,
    act: Callable[[AsyncRedis, Settings], Awaitable[T]],
    *,
    is_server: bool = False,
) -> T:
    """Calls `act` with the store at a URL and the settings, and returns the result; see `with_store`.

    is_server: see `check_store`.
    """

    async def run() -> T:
        store = connect_async(url, timeout=10.0)
        try:
            mark = StoreMark(settings.data)
            await check_store(store, url, settings.shards, secrets, mark, is_server=is_server)
            return await act(store, settings)
        finally:
            await store.aclose()

    previous_handler = signal.getsignal(signal.SIGINT)
    if previous_handler is signal.default_int_handler:  # an ignored SIGINT stays ignored
        signal.signal(signal.SIGINT, _abort)
    try:
        return asyncio.run(run())
    finally:
        signal.signal(signal.SIGINT, previous_handler)


def _abort(number: int, frame: FrameType | None) -> None:
    """Ends the process at once. Writes to the store are atomic, so that nothing is left half done.

    Python's own handlers do not end the process reliably. asyncio cancels the task, which may ignore the
    cancellation. A KeyboardInterrupt may be raised inside asyncio, which then prints a traceback or goes on.
    """
    os.write(sys.stderr.fileno(), b"\nAborted!\n")
    os._exit(1)
