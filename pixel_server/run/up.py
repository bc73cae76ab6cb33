"""`pixel-server up`: starts Redis, the web process and the workers, in one data directory."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import click
import redis

from pixel_server.auth import api_keys, sign_in_links
from pixel_server.classify import rules
from pixel_server.classify.networks import load_networks
from pixel_server.logs import Log
from pixel_server.run import listen
from pixel_server.run.banner import banner, program
from pixel_server.run.supervisor import TICK_SECONDS, Child, Keeper, Stop
from pixel_server.run.up_state import RESTORING, UpState, read_up_state, sign_in_bases, write_up_state
from pixel_server.run.valkey import Valkey
from pixel_server.scopes import SCOPES
from pixel_server.secret import Secrets
from pixel_server.settings import Settings, SettingsError, exported_environment
from pixel_server.store import keys
from pixel_server.store.client import StoreEmptiedError, connect, connect_async
from pixel_server.store.compatibility import check_store, secrets_for
from pixel_server.store.store_mark import StoreMark

log = Log(__name__)

REWRITE_MINUTES = "60"
"""PIXEL_REWRITE_MINUTES for the bundled Valkey, unless the operator sets it."""
TIMEOUT_SECONDS = 60.0
"""Timeout in seconds: for web and workers to answer after their start, and for Valkey to exit."""
DEMO_STOP_SECONDS = 2.0
"""Timeout in seconds for the demo process to exit after it is stopped."""
PORT_TIMEOUT_SECONDS = 8.0
"""Seconds to wait for the port after a restart: the children of a killed `up` may still hold the port."""


def run(
    host: str,
    port: int,
    settings: Settings,
    with_valkey: bool,
    with_demo: bool,
    relay_at: tuple[str, int] | None = None,
) -> None:
    """Runs everything until Ctrl-C.

    with_valkey: whether to start the bundled Valkey, because REDIS_URL is not set. with_demo: whether to add
    the demo, in a process of its own, once everything runs. relay_at: host and port of the SMTP relay, or
    None without it.
    """
    os.umask(0o077)  # all files are for this user alone
    data = settings.data.resolve()
    lock = _lock(data, with_demo)
    rules.load_rules(settings.rules_file)  # fails before anything is started if a file is bad
    load_networks(replace(settings, data=data))
    stop = Stop()
    last_state = read_up_state(data)
    is_restart = last_state is not None and last_state.address == _address(host, port)
    listening = listen.bind(host, port, PORT_TIMEOUT_SECONDS if is_restart else 0.0)
    timeout = PORT_TIMEOUT_SECONDS if last_state is not None else 0.0
    relay_listening = listen.bind(*relay_at, timeout) if relay_at else None
    address = _address(host, listening.getsockname()[1])
    valkey = Valkey(data) if with_valkey else None
    redis_url = valkey.url if valkey else settings.redis_url
    try:
        if valkey:
            valkey.start()
            valkey.wait_ready(give_up=lambda: stop.is_requested)
        if stop.is_requested:
            return
        secrets = secrets_for(replace(settings, data=data), redis_url)
        new_key, never_had_campaign = asyncio.run(_prepare_store(redis_url, settings, secrets, data))
        recipient, signers = secrets.fingerprints()
        state = UpState(address, settings.base_url or address, redis_url, [recipient, *signers])
        environ = _child_environment(state, data, with_valkey)
        exported, queue_url = exported_environment(environ), settings.queue_url or ""
        write_up_state(data, replace(state, settings=exported, queue_url=queue_url))
        children = _children(listening, relay_listening, environ)
        for child in children:
            child.start()
        demo = Child("demo", ["demo", "add"], environ) if with_demo else None
        keeper = Keeper(children, settings.hang_seconds, last=valkey)

        def print_banner() -> None:
            path = asyncio.run(_sign_in_path(redis_url))
            urls = [base + path for base in sign_in_bases(address, state.base_url)]
            key = new_key or _where_key_is(settings)
            click.echo(banner(address, data, urls, key, never_had_campaign, with_demo))

        _watch(keeper, stop, address, redis_url, print_banner, demo)
    finally:
        listening.close()
        if relay_listening:
            relay_listening.close()
        if valkey:
            valkey.stop()
            valkey.wait(TIMEOUT_SECONDS)
        os.close(lock)


def _child_environment(state: UpState, data: Path, with_valkey: bool) -> dict[str, str]:
    """Returns the environment variables of all children."""
    environ = {
        **os.environ,
        "REDIS_URL": state.redis_url,
        "PIXEL_BASE_URL": state.base_url,
        "PIXEL_DATA_DIR": str(data),
    }
    if with_valkey and not environ.get("PIXEL_REWRITE_MINUTES", "").strip():
        environ["PIXEL_REWRITE_MINUTES"] = REWRITE_MINUTES
    return environ


def _children(
    listening: socket.socket, relay_listening: socket.socket | None, environ: dict[str, str]
) -> list[Child]:
    """Returns the children. Their sockets stay open while a child is restarted, so clients only wait."""
    handle = listening.fileno()
    children = [
        Child("web", ["serve", "--handle", str(handle)], environ, [handle]),
        Child("workers", ["work"], environ),
    ]
    if relay_listening is not None:
        relay_handle = relay_listening.fileno()
        children.append(Child("relay", ["relay", "--handle", str(relay_handle)], environ, [relay_handle]))
    return children


def _watch(
    keeper: Keeper,
    stop: Stop,
    address: str,
    redis_url: str,
    on_ready: Callable[[], None],
    demo: Child | None,
) -> None:
    """Keeps the children running until this process is told to stop.

    Calls `on_ready` and starts the demo once web and workers answer. Raises SettingsError if they do not
    answer within TIMEOUT_SECONDS.
    """
    waiting_since: float | None = time.monotonic()
    next_check = 0.0
    try:
        while not stop.is_requested:
            keeper.check()
            now = time.monotonic()
            if waiting_since is not None and now >= next_check:
                next_check = now + 0.3
                if _is_ready(address, redis_url):
                    waiting_since = None
                    on_ready()
                    if demo is not None:
                        demo.start()
                elif now - waiting_since > TIMEOUT_SECONDS:
                    raise SettingsError("web or workers did not start; the log lines above say why")
            time.sleep(TICK_SECONDS)
        with contextlib.suppress(OSError):  # the terminal may be closed
            click.echo("stopping")
    finally:
        if demo is not None:
            demo.stop()
            demo.wait(DEMO_STOP_SECONDS)
        keeper.stop()


def _lock(data: Path, with_demo: bool) -> int:
    """Locks the data directory for as long as this process runs. Returns the lock's file descriptor.

    Raises SettingsError if another `up` holds the lock, or if the directory cannot be written.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = os.open(data / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(f"cannot write to {data}: {error.strerror}") from None
    if (data / RESTORING).exists():
        os.close(lock)
        raise SettingsError(
            f"a restore into {data} was not finished: remove everything in it, and run `pixel-server "
            "restore` again"
        )
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        running = read_up_state(data)
        where = f" at {running.address}" if running else ""
        instead = f"; this adds the demo to it: {program(data)} demo add" if with_demo else ""
        raise SettingsError(f"already up{where} with {data}; nothing was changed{instead}") from None
    return lock


def _address(host: str, port: int) -> str:
    """Returns the URL of the web process for this machine: `http://127.0.0.1:8000` for host `0.0.0.0`."""
    if host in ("", "0.0.0.0"):  # noqa: S104
        shown = "127.0.0.1"
    elif host == "::":
        shown = "[::1]"
    else:
        shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


async def _prepare_store(
    redis_url: str, settings: Settings, secrets: Secrets, data: Path
) -> tuple[str | None, bool]:
    """Checks the store, and makes an API key if the store has no key.

    Returns (banner's text with the new key, whether the store never had a campaign). The text is None if no
    key was made.
    """
    client = connect_async(redis_url, timeout=5.0)
    try:
        try:
            mark = StoreMark(data)
            await check_store(client, redis_url, settings.shards, secrets, mark, is_server=True)
        except StoreEmptiedError as error:
            log.error("store-emptied-at-start", "%(error)s; starting anyway", error=error)
            return None, False
        await api_keys.store_environment_key(client, settings.api_key)
        never_had_campaign = not await client.exists(keys.CAMPAIGNS, keys.GONE)
        if await api_keys.list_keys(client):
            return None, never_had_campaign
        _, key = await api_keys.create(client, "first key", list(SCOPES))
        return f"{key} (shown this once)", never_had_campaign
    finally:
        await client.aclose()


async def _sign_in_path(redis_url: str) -> str:
    """Returns the path of a new sign-in link, or of the sign-in page if no link can be made."""
    client = connect_async(redis_url, timeout=5.0)
    try:
        return f"/sign-in/{await sign_in_links.make(client)}"
    except (sign_in_links.NoApiKey, redis.RedisError, OSError):
        return "/sign-in"
    finally:
        await client.aclose()


_without_proxy = build_opener(ProxyHandler({}))
"""Opens URLs of this machine, even if http_proxy is set."""


def _is_ready(address: str, redis_url: str) -> bool:
    """Returns whether the web process answers, and a worker has reported within the last 5 seconds."""
    try:
        with _without_proxy.open(f"{address}/healthz", timeout=1.0):
            pass
        with connect(redis_url, timeout=1.0) as client:
            now = client.time()[0]
            return bool(client.zcount(keys.WORKERS, now - 5, now + keys.MAX_BEAT_SKEW_SECONDS))
    except (HTTPException, OSError, redis.RedisError):
        return False


def _where_key_is(settings: Settings) -> str:
    """Returns the banner's text on where the operator finds the API key, if no key was made at this start."""
    if settings.api_key:
        return "the one in PIXEL_API_KEY"
    return "as shown at the first start (another: pixel-server key create NAME)"
