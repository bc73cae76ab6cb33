"""Connects to Redis, and names the errors of a store that cannot be used."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import redis
from redis import asyncio as aioredis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from pixel_server import store_url
from pixel_server.store import sentinel_client
from pixel_server.store.async_cluster import AsyncClusterRedis
from pixel_server.store.cluster import ClusterRedis
from pixel_server.store.protocols import AsyncRedis, Redis
from pixel_server.store_url import Address, StoreUrl

KEEPALIVE_IDLE_SECONDS = 5
"""Seconds of silence after which the kernel probes a TCP connection."""
KEEPALIVE_INTERVAL_SECONDS = 2
"""Seconds between two probes."""
KEEPALIVE_PROBES = 3
"""Number of lost probes after which the kernel ends the connection."""
UNANSWERED_MS = 5000
"""Milliseconds without an acknowledgement after which the kernel ends a TCP connection."""


class StoreError(RuntimeError):
    """The store cannot be used. The message is one line for the operator."""

    is_loggable = True


class StoreAwayError(StoreError):
    """The store does not answer now, or accepts no writes."""


class StoreRefusedError(StoreAwayError):
    """This process must not use the store until somebody changes the store or this process."""


class StoreEmptiedError(StoreRefusedError):
    """The store was emptied, or is not the store that this server used. See `store_mark`."""


class StoreNewerError(StoreRefusedError):
    """The store has a format that this version cannot read. See `store_version`."""


def is_wrong_type(error: Exception) -> bool:
    """Returns whether Redis answered that a key holds a value of another type than the command needs."""
    return isinstance(error, redis.ResponseError) and str(error).startswith("WRONGTYPE")


def is_away(error: Exception) -> bool:
    """Returns whether an error means that Redis does not answer or refuses, whatever it stores."""
    return isinstance(error, redis.RedisError | OSError) and not is_wrong_type(error)


def connect(url: str, *, timeout: float = 5.0) -> Redis:
    """Returns a client that waits `timeout` seconds and never sends a command twice."""
    parts = store_url.parse(url)
    if parts.kind == "cluster":
        return cast(Redis, ClusterRedis(parts.addresses, partial(_node, parts), timeout))
    return cast(Redis, connect_queue(url, timeout=timeout))


def connect_queue(url: str, *, timeout: float) -> redis.Redis:
    """Returns a client like that of `connect`, with the type `redis.Redis` that RQ needs."""
    parts = store_url.parse(url)
    options = _options(parts, timeout) | {"retry": Retry(NoBackoff(), 0)}
    return sentinel_client.client(parts, **options) if parts.kind == "sentinel" else redis.Redis(**options)


def connect_async(url: str, *, timeout: float = 2.0) -> AsyncRedis:
    """Returns a client like that of `connect`, for asyncio."""
    parts = store_url.parse(url)
    if parts.kind == "cluster":
        return cast(AsyncRedis, AsyncClusterRedis(parts.addresses, partial(_async_node, parts), timeout))
    return cast(AsyncRedis, _async_client(parts, **_options(parts, timeout)))


def keepalive_options() -> dict[int, int]:
    """Returns the options of a TCP socket by which the kernel notices a dead connection."""
    idle = "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"  # macOS
    options = {
        idle: KEEPALIVE_IDLE_SECONDS,
        "TCP_KEEPINTVL": KEEPALIVE_INTERVAL_SECONDS,
        "TCP_KEEPCNT": KEEPALIVE_PROBES,
        "TCP_USER_TIMEOUT": UNANSWERED_MS,
    }
    return {getattr(socket, name): value for name, value in options.items() if hasattr(socket, name)}


def keep_alive(connection: socket.socket) -> None:
    """Sets `keepalive_options` on a TCP socket."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in keepalive_options().items():
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


class _ConvertsCloseError:
    """Connection that raises redis.ConnectionError if it is closed during a command.

    uvloop raises a bare RuntimeError in that case, and redis-py does not convert it.
    """

    async def connect(self) -> None:
        with _as_connection_error():
            await super().connect()  # type: ignore[misc]

    async def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        with _as_connection_error():
            await super().send_packed_command(*arguments, **options)  # type: ignore[misc]


@contextlib.contextmanager
def _as_connection_error() -> Iterator[None]:
    """Raises redis.ConnectionError instead of RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        raise redis.ConnectionError(str(error)) from error


def _async_client(parts: StoreUrl, **options: Any) -> aioredis.Redis:
    options["retry"] = AsyncRetry(NoBackoff(), 0)
    is_sentinel = parts.kind == "sentinel"
    client = sentinel_client.async_client(parts, **options) if is_sentinel else aioredis.Redis(**options)
    pool = client.connection_pool
    pool.connection_class = type("ConvertsCloseError", (_ConvertsCloseError, pool.connection_class), {})
    return client


def _node(parts: StoreUrl, address: Address, timeout: float, connect_timeout: float) -> redis.Redis:
    return redis.Redis(**_node_options(parts, address, timeout, connect_timeout), retry=Retry(NoBackoff(), 0))


def _async_node(parts: StoreUrl, address: Address, timeout: float, connect_timeout: float) -> aioredis.Redis:
    return _async_client(parts, **_node_options(parts, address, timeout, connect_timeout))


def _node_options(
    parts: StoreUrl, address: Address, timeout: float, connect_timeout: float
) -> dict[str, Any]:
    """Returns the arguments of redis.Redis for a node of a cluster."""
    host, port = address
    options = _options(parts, timeout)
    return options | {"host": host, "port": port, "socket_connect_timeout": connect_timeout}


def _options(parts: StoreUrl, timeout: float) -> dict[str, Any]:
    """Returns the arguments of redis.Redis and redis.asyncio.Redis."""
    options = {
        **parts.client_options(),
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "protocol": 2,
    }
    # The default driver_info costs two round trips of each new connection. TLS needs a round trip: until a
    # reply was read, redis-py takes the server's session tickets for data that nobody asked for.
    if parts.tls is None:
        options["driver_info"] = None
    if parts.socket_path:
        return {**options, "unix_socket_path": parts.socket_path}
    options |= {"socket_keepalive": True, "socket_keepalive_options": keepalive_options()}
    if parts.kind == "single":
        options["host"], options["port"] = parts.addresses[0]
    return options
