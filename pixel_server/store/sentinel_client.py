"""Redis clients that follow the primary which the sentinels agree on.

A connection refuses a primary that is a replica: a failover may be under way. Before each command the pool
asks the sentinels, at most once a second, and gives out no connection to an address that was the primary's
before.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import redis
from redis import asyncio as aioredis

from pixel_server.store.sentinel import AgreedPrimary, NoPrimaryError
from pixel_server.store_url import StoreUrl


def client(url: StoreUrl, **options: Any) -> redis.Redis:
    """Returns a client that blocks. options: arguments of redis.Connection."""
    return redis.Redis.from_pool(_Pool(url, options))


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
    def __init__(self, url: StoreUrl, options: dict[str, Any]) -> None:
        self._primary = AgreedPrimary(url)
        self._refresh_lock = threading.Lock()
        is_tls = options.pop("ssl", False)
        super().__init__(_TlsConnection if is_tls else _Connection, primary=self._primary, **options)

    def get_connection(self, *arguments: Any, **options: Any) -> Any:
        with self._refresh_lock:
            self._primary.refresh_sync()
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
