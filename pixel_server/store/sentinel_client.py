"""Redis clients that follow the primary which the sentinels agree on.

A connection refuses a primary that is a replica: a failover may be under way. Before each command the pool
asks the sentinels, at most once a second, and gives out no connection to an address that was the primary's
before.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import redis
from redis import asyncio as aioredis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pixel_server.store.sentinel import ASK_SECONDS, AgreedPrimary, NoPrimaryError
from pixel_server.store_url import Address, StoreUrl, sign_in_options


class SentinelRedis(redis.Redis):
    """A client of the primary. `nodes` also returns clients of its replicas."""

    def nodes(self) -> list[redis.Redis]:
        """Returns a client of the primary, and of each replica that a sentinel knows, also if it is away.

        Raises NoPrimaryError if the sentinels do not agree on the primary, or do not tell the replicas. The
        clients share no connection with this client, and are closed with it.
        """
        pool: Any = self.connection_pool
        primary = pool.refresh()
        addresses = [primary, *(replica for replica in ask_replicas(pool.url) if replica != primary)]
        for address in addresses:
            if address not in pool.nodes:
                pool.nodes[address] = redis.Redis(*address, **pool.node_options)
        return [pool.nodes[address] for address in addresses]

    def close(self) -> None:
        super().close()
        pool: Any = self.connection_pool
        while pool.nodes:
            pool.nodes.popitem()[1].close()


def ask_replicas(url: StoreUrl) -> list[Address]:
    """Returns the replicas that a sentinel knows. Raises NoPrimaryError if no sentinel answers."""
    options = {**sign_in_options(url.sentinel_sign_in), **url.tls_options(), "socket_timeout": ASK_SECONDS}
    for host, port in url.addresses:
        try:
            with redis.Redis(host, port, retry=Retry(NoBackoff(), 0), protocol=2, **options) as sentinel:
                replicas = cast(list[dict[str, Any]], sentinel.sentinel_slaves(url.name))
                return [(replica["ip"], replica["port"]) for replica in replicas]
        except (redis.RedisError, OSError):
            continue
    raise NoPrimaryError(f"no sentinel of {url.shown()} tells the replicas of {url.name!r}")


def client(url: StoreUrl, **options: Any) -> SentinelRedis:
    """Returns a client that blocks. options: arguments of redis.Redis."""
    return cast(SentinelRedis, SentinelRedis.from_pool(_Pool(url, options)))


def async_client(url: StoreUrl, **options: Any) -> aioredis.Redis:
    """Returns a client for asyncio. options: arguments of redis.asyncio.Connection."""
    return aioredis.Redis.from_pool(_AsyncPool(url, options))


def require_primary(hello: list[Any]) -> None:
    """Raises NoPrimaryError if a server is a replica. hello: its reply to HELLO, as names and values.

    HELLO tells the role as ROLE does, and every user is allowed to send it.
    """
    names = hello[::2]
    if hello[2 * names.index(b"role") + 1] != b"master":
        raise NoPrimaryError("the primary that the sentinels name is a replica")


class _Connection(redis.Connection):
    """A connection to the primary. primary: shared by all connections of a pool."""

    def __init__(self, primary: AgreedPrimary, **options: Any) -> None:
        super().__init__(**options)
        self.primary = primary

    def connect(self) -> None:
        if self.is_connected and (self.host, self.port) != self.primary.address:
            self.disconnect()
        super().connect()

    def _connect(self) -> Any:
        self.host, self.port = self.primary.address
        return super()._connect()

    def on_connect_check_health(self, check_health: bool = True) -> None:
        super().on_connect_check_health(check_health)
        self.send_command("HELLO", check_health=False)
        require_primary(self.read_response())


class _TlsConnection(_Connection, redis.SSLConnection):
    pass


class _Pool(redis.ConnectionPool):
    """Connections to the primary. nodes: plain clients of the primary and its replicas, by address."""

    def __init__(self, url: StoreUrl, options: dict[str, Any]) -> None:
        self.url = url
        self.node_options = dict(options)
        self.nodes: dict[Address, redis.Redis] = {}
        self._primary = AgreedPrimary(url)
        self._refresh_lock = threading.Lock()
        is_tls = options.pop("ssl", False)
        super().__init__(_TlsConnection if is_tls else _Connection, primary=self._primary, **options)

    def refresh(self) -> Address:
        """Returns the primary's address. Raises NoPrimaryError if the sentinels do not agree on it."""
        with self._refresh_lock:
            return self._primary.refresh_sync()

    def get_connection(self, *arguments: Any, **options: Any) -> Any:
        self.refresh()
        try:
            return super().get_connection()
        except redis.RedisError:
            self._primary.forget()
            raise


class _AsyncConnection(aioredis.Connection):
    """A connection to the primary. primary: shared by all connections of a pool."""

    def __init__(self, primary: AgreedPrimary, **options: Any) -> None:
        super().__init__(**options)
        self.primary = primary

    async def connect(self) -> None:
        if self.is_connected and (self.host, self.port) != self.primary.address:
            await self.disconnect()
        await super().connect()

    async def _connect(self) -> None:
        self.host, self.port = self.primary.address
        await super()._connect()

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        await super().on_connect_check_health(check_health)
        await self.send_command("HELLO", check_health=False)
        require_primary(await self.read_response())


class _AsyncTlsConnection(_AsyncConnection, aioredis.SSLConnection):
    pass


class _AsyncPool(aioredis.ConnectionPool):
    def __init__(self, url: StoreUrl, options: dict[str, Any]) -> None:
        self._primary = AgreedPrimary(url)
        self._refresh_lock = asyncio.Lock()
        is_tls = options.pop("ssl", False)
        super().__init__(
            _AsyncTlsConnection if is_tls else _AsyncConnection, primary=self._primary, **options
        )

    async def get_connection(self, *arguments: Any, **options: Any) -> Any:
        async with self._refresh_lock:
            await self._primary.refresh()
        try:
            return await super().get_connection()
        except redis.RedisError:
            self._primary.forget()
            raise
