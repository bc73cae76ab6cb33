"""`pixel-server up`: Redis, web and workers from one command, in one data directory."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

import click
import redis

from pixel_server import files
from pixel_server.auth import api_keys, sign_in_links
from pixel_server.classify import rules
from pixel_server.classify.networks import Networks
from pixel_server.run import listen
from pixel_server.run.supervisor import TICK, Child, Keeper, Stop
from pixel_server.run.valkey import Valkey
from pixel_server.secret import Secrets
from pixel_server.settings import Settings, SettingsError, told
from pixel_server.store import keys
from pixel_server.store.client import StoreEmptiedError, connect, connect_async
from pixel_server.store.compatibility import check, secrets_for
from pixel_server.store.store_mark import StoreMark

log = logging.getLogger("pixel_server.run.up")

STATE = "up.json"
REWRITE_MINUTES = "60"
"""PIXEL_REWRITE_MINUTES of a Valkey of our own."""
PATIENCE = 60.0
ONCE = 2.0
"""Seconds that what runs beside all this has to end."""
OLD_CHILDREN = 8.0
"""Seconds that children of an `up` that was killed may need to let go of the port."""


@dataclass(frozen=True, slots=True)
class Left:
    """What `up` leaves in the data directory for other commands.

    base_url: what links are made from. prints: of the recipient secret, then of each signing key. settings:
    by name, as its processes have them; see `settings.told`.
    """

    address: str
    base_url: str
    redis_url: str
    prints: list[str]
    settings: dict[str, str] = field(default_factory=dict)


def left(data: Path) -> Left | None:
    """What an `up` has left there; None if none ever ran. SettingsError: it is not ours to read."""
    try:
        kept = json.loads((data / STATE).read_bytes())
        prints = [str(name) for name in kept["prints"]]
        chosen = {str(name): str(value) for name, value in kept.get("settings", {}).items()}
        return Left(str(kept["address"]), str(kept["base_url"]), str(kept["redis_url"]), prints, chosen)
    except PermissionError as error:
        raise SettingsError(f"cannot read {error.filename}: {error.strerror}; whose is it?") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def leave(data: Path, leaves: Left) -> None:
    """Whole or not at all. Where nothing can be written, as on a full disk, hits are served all the same."""
    try:  # 0600, as the address of a Redis may hold a password
        files.write(data / STATE, json.dumps(asdict(leaves)).encode() + b"\n", 0o600)
    except OSError as error:
        log.error("cannot write %s, so other commands may not find this server: %s", data / STATE, error)


def run(host: str, port: int, settings: Settings, own_redis: bool, with_demo: bool) -> None:
    """Until Ctrl-C. own_redis: REDIS_URL is not set, so the bundled Valkey is used. with_demo: a process adds
    the demo, once all is up."""
    os.umask(0o077)  # what is kept is for this user alone
    data = settings.data.resolve()
    lock = _lock(data, with_demo)
    rules.load(settings.rules)
    Networks.load(data / "networks")
    stop = Stop()
    before = left(data)
    patient = before is not None and before.address == _address(host, port)
    listening = listen.bind(host, port, patience=OLD_CHILDREN if patient else 0.0)
    address = _address(host, listening.getsockname()[1])
    valkey = Valkey(data) if own_redis else None
    redis_url = valkey.url if valkey else settings.redis_url
    try:
        if valkey:
            valkey.start()
            valkey.wait_ready(give_up=lambda: stop.asked)
        if stop.asked:
            return
        secrets = secrets_for(replace(settings, data=data), redis_url)
        new_key, unused = asyncio.run(_prepare(redis_url, settings, secrets, data))
        recipient, signers = secrets.fingerprints()
        leaves = Left(address, settings.base_url or address, redis_url, [recipient, *signers])
        environ = _environ(leaves, data, own_redis)
        leave(data, replace(leaves, settings=told(environ)))
        children = _children(listening, environ)
        for child in children:
            child.start()
        once = [Child("demo", ["demo", "add"], environ)] if with_demo else []
        # Stopped in this order: web stores what it holds, then the workers, then what they both need.
        keeper = Keeper([*children, *([valkey] if valkey else [])])

        def ready() -> None:
            path = asyncio.run(_sign_in_path(redis_url))
            links = [base + path for base in sign_in_bases(address, leaves.base_url)]
            key = new_key or _known_key(settings)
            click.echo(_banner(address, data, links, key, unused, with_demo))

        _watch(keeper, stop, address, redis_url, ready, once)
    finally:
        listening.close()
        if valkey:
            valkey.stop()
            valkey.wait(PATIENCE)
        os.close(lock)


def _environ(leaves: Left, data: Path, own_redis: bool) -> dict[str, str]:
    """That of all children."""
    environ = {
        **os.environ,
        "REDIS_URL": leaves.redis_url,
        "PIXEL_BASE_URL": leaves.base_url,
        "PIXEL_DATA_DIR": str(data),
    }
    if own_redis and not environ.get("PIXEL_REWRITE_MINUTES", "").strip():
        environ["PIXEL_REWRITE_MINUTES"] = REWRITE_MINUTES
    return environ


def _children(listening: socket.socket, environ: dict[str, str]) -> list[Child]:
    handle = listening.fileno()
    return [
        Child("web", ["serve", "--handle", str(handle)], environ, [handle]),
        Child("workers", ["work"], environ),
    ]


def _watch(
    keeper: Keeper,
    stop: Stop,
    address: str,
    redis_url: str,
    ready: Callable[[], None],
    once: Sequence[Child],
) -> None:
    """once: children that are started when all is up, and end by themselves."""
    waiting_since: float | None = time.monotonic()
    next_look = 0.0
    try:
        while not stop.asked:
            keeper.look()
            now = time.monotonic()
            if waiting_since is not None and now >= next_look:
                next_look = now + 0.3
                if _answers(address, redis_url):
                    waiting_since = None
                    ready()
                    for child in once:
                        child.start()
                elif now - waiting_since > PATIENCE:
                    raise SettingsError("web or workers did not come up; the log lines above say why")
            time.sleep(TICK)
        with contextlib.suppress(OSError):  # its terminal may have gone
            click.echo("stopping")
    finally:
        for child in once:
            child.stop()
            child.wait(ONCE)
        keeper.stop()


def _lock(data: Path, with_demo: bool) -> int:
    """Held while this `up` runs. SettingsError: another has it, or nothing can be written there."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = os.open(data / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(f"cannot write to {data}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        running = left(data)
        where = f" at {running.address}" if running else ""
        instead = f"; this adds the demo to it: {_program(data)} demo add" if with_demo else ""
        raise SettingsError(f"already up{where} with {data}; nothing was changed{instead}") from None
    return lock


def _address(host: str, port: int) -> str:
    if host in ("", "0.0.0.0"):  # noqa: S104
        shown = "127.0.0.1"
    elif host == "::":
        shown = "[::1]"
    else:
        shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


async def _prepare(
    redis_url: str, settings: Settings, secrets: Secrets, data: Path
) -> tuple[str | None, bool]:
    """Checks the store. Gives (an API key if there was none, whether there never was a campaign)."""
    client = connect_async(redis_url, timeout=5.0)
    try:
        try:
            await check(client, redis_url, settings.shards, secrets, StoreMark(data))
        except StoreEmptiedError as error:
            log.error("%s; starting all the same", error)
            return None, False
        await api_keys.use_environment(client, settings.api_key)
        unused = not await client.exists(keys.CAMPAIGNS, keys.GONE)
        if await api_keys.listed(client):
            return None, unused
        _, key = await api_keys.create(client, "first key", list(api_keys.SCOPES))
        return f"{key} (shown this once)", unused
    finally:
        await client.aclose()


def sign_in_bases(address: str, base_url: str) -> list[str]:
    """Where a browser can sign in: at the base URL, and at this machine's own address, if it is another.

    With a base URL of https the session's cookie is Secure. Of http, browsers keep such a one where it comes
    from this machine itself (a test tries Chromium; Safari does not), else never.
    """
    host = urlsplit(address).hostname or ""
    is_loopback = host in ("localhost", "::1") or host.startswith("127.")
    local = address + urlsplit(base_url).path
    is_good = local != base_url and (is_loopback or base_url.startswith("http:"))
    return [base_url, local] if is_good else [base_url]


async def _sign_in_path(redis_url: str) -> str:
    """Made when all is up, for it does not live long."""
    client = connect_async(redis_url, timeout=5.0)
    try:
        return f"/sign-in/{await sign_in_links.make(client)}"
    except (sign_in_links.NoKey, redis.RedisError, OSError):
        return "/sign-in"
    finally:
        await client.aclose()


_direct = build_opener(ProxyHandler({}))
"""Whatever http_proxy says, our own address is not reached through it."""


def _answers(address: str, redis_url: str) -> bool:
    """Whether web and workers both do."""
    try:
        with _direct.open(f"{address}/healthz", timeout=1.0):
            pass
        with connect(redis_url, timeout=1.0) as client:
            now = client.time()[0]
            return bool(client.zcount(keys.WORKERS, now - 5, now + keys.SKEW))
    except (HTTPException, OSError, redis.RedisError):
        return False


def _known_key(settings: Settings) -> str:
    if settings.api_key:
        return "the one in PIXEL_API_KEY"
    return "as shown at the first start (another: pixel-server key create NAME)"


def _program(data: Path) -> str:
    """How to call this program, from any directory."""
    here = Path(sys.argv[0]).absolute()
    started = [sys.executable, "-m", "pixel_server"] if here.name == "__main__.py" else [str(here)]
    return f"PIXEL_DATA_DIR={shlex.quote(str(data))} {shlex.join(started)}"


def _banner(address: str, data: Path, links: list[str], key: str, unused: bool, with_demo: bool) -> str:
    """What is printed once all is up. links: of one sign-in."""
    program = _program(data)
    first = ["campaign create hello", "link hello ada@example.org --html"]
    what = "make a campaign, and a link for one recipient" if unused else "see the campaigns"
    return "\n".join(
        [
            f"pixel-server is up at {address}",
            f"  sign in  {links[0]} (once, within ten minutes)",
            *(f"  or at    {link} (the same, at its own address)" for link in links[1:]),
            f"  data     {data}",
            f"  API key  {key}",
            f"  next     {what}, in another terminal:",
            *(f"           {program} {step}" for step in (first if unused else ["campaign list"])),
            *([f"  demo     on its way; this takes it away: {program} demo remove"] if with_demo else []),
            "Ctrl-C stops it.",
        ]
    )
