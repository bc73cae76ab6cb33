"""The store: one Redis or Valkey, fit to be used by this process or refused with one clear line."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import urlsplit

import redis
from redis import asyncio as aioredis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from pixel_server.store.protocols import AsyncRedis, Redis

log = logging.getLogger("pixel_server.store.client")

IDLE, PROBE, PROBES = 5, 2, 3
"""Seconds until the kernel probes a silent TCP connection, seconds between two probes, and how many of them
are lost before it ends the connection."""
UNANSWERED_MS = 5000
"""Milliseconds until the kernel ends a connection whose other side does not confirm what it was sent."""


class StoreError(RuntimeError):
    """A store that cannot be used; the message is one line for the operator."""


class StoreAwayError(StoreError):
    """It does not answer now, or takes no writes."""


class StoreEmptiedError(StoreAwayError):
    """It was emptied, or is another than this server used; see `store_mark`."""


def connect(url: str, *, timeout: float = 5.0) -> Redis:
    """Returns a client that waits `timeout` seconds and never sends a command twice."""
    return cast(Redis, connect_queue(url, timeout=timeout))


def connect_queue(url: str, *, timeout: float) -> redis.Redis:
    """Returns the same client under its own type, for RQ."""
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        **_keepalive(url),
    )


def connect_async(url: str, *, timeout: float = 2.0) -> AsyncRedis:
    """Returns the same for asyncio."""
    client = aioredis.Redis.from_url(
        url,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=AsyncRetry(NoBackoff(), 0),
        protocol=2,
        **_keepalive(url),
    )
    pool = client.connection_pool
    pool.connection_class = type("Told", (_Told, pool.connection_class), {})
    return cast(AsyncRedis, client)


def keepalive_options() -> dict[int, int]:
    """Returns the options of a TCP socket by which the kernel notices a connection that died in silence."""
    idle = "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"  # macOS
    wanted = {idle: IDLE, "TCP_KEEPINTVL": PROBE, "TCP_KEEPCNT": PROBES, "TCP_USER_TIMEOUT": UNANSWERED_MS}
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}


def keep_alive(connection: socket.socket) -> None:
    """Sets `keepalive_options` on a TCP socket."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in keepalive_options().items():
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


def _keepalive(url: str) -> dict[str, Any]:
    if urlsplit(url).scheme == "unix":
        return {}
    return {"socket_keepalive": True, "socket_keepalive_options": keepalive_options()}


class _Told:
    """Of a connection: one that is closed while it is made is a Redis that is away. uvloop raises a bare
    RuntimeError then, which redis-py passes on."""

    async def connect(self) -> None:
        with _away():
            await super().connect()  # type: ignore[misc]

    async def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        with _away():
            await super().send_packed_command(*arguments, **options)  # type: ignore[misc]


@contextlib.contextmanager
def _away() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise redis.ConnectionError(str(error)) from error


def shown(url: str) -> str:
    """A Redis URL without its password, for a log line."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    return f"{parts.hostname or '127.0.0.1'}:{parts.port or 6379}"
