"""Opens connections to Redis that can append batches."""

from __future__ import annotations

import asyncio
import itertools

import hiredis
import redis

from pixel_server.collect.descriptor_reserve import DescriptorReserve
from pixel_server.collect.redis_connection import RedisConnection, encode_command
from pixel_server.collect.round_trips import RoundTrips
from pixel_server.store import producer
from pixel_server.store.client import keep_alive
from pixel_server.store.role import parse_identity, parse_role
from pixel_server.store.sentinel import AgreedPrimary
from pixel_server.store.tls import tls_context
from pixel_server.store_url import Address, StoreUrl

CONNECT_TIMEOUT_SECONDS = 3.0
"""Seconds that connecting may take, TLS and sign-in included."""
ROLE = encode_command(b"ROLE")
NOT_A_PRIMARY = "it is a replica, not a primary"

_INFO = encode_command(b"INFO", b"server", b"replication")
_numbers = itertools.count(1)


class Connector:
    """Opens connections to the Redis of a URL, or to the primary that the sentinels of a URL name.

    reserve: has a descriptor if no other is free.
    """

    def __init__(self, url: StoreUrl, round_trips: RoundTrips, reserve: DescriptorReserve) -> None:
        self._url = url
        self._primary = AgreedPrimary(url) if url.kind == "sentinel" else None
        self._round_trips = round_trips
        self._reserve = reserve

    async def open(self) -> RedisConnection:
        """Opens a connection: signs in, loads the script that appends batches, and asks for the role.

        Raises OSError, TimeoutError or hiredis.HiredisError if there is no connection to a primary.
        """
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                connection = await self._connect()
                try:
                    await self._prepare(connection)
                except BaseException:
                    connection.abort(ConnectionError("closed"))
                    raise
                return connection
        except (OSError, hiredis.HiredisError) as error:
            if self._primary is not None:
                self._primary.forget()
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"no connection within {CONNECT_TIMEOUT_SECONDS} s") from None
            raise

    async def check_address(self, connection: RedisConnection) -> None:
        """Ends a connection and raises ConnectionError if the sentinels name another primary by now.

        Does the same if they have not agreed for `sentinel.TRUST_SECONDS`.
        """
        try:
            if self._primary is not None and await self._address() != connection.address:
                raise ConnectionError("the sentinels name another primary by now")
        except ConnectionError as error:
            connection.abort(error)
            raise

    async def _address(self) -> Address:
        """Returns host and port of Redis. Raises ConnectionError if the sentinels do not agree on them."""
        if self._primary is None:
            return self._url.addresses[0]
        try:
            return await self._primary.refresh()
        except redis.ConnectionError as error:
            raise ConnectionError(str(error)) from None

    async def _connect(self) -> RedisConnection:
        loop = asyncio.get_running_loop()
        make = lambda: RedisConnection(self._round_trips)  # noqa: E731
        if path := self._url.socket_path:
            _, connection = await self._reserve.run_async(lambda: loop.create_unix_connection(make, path))
            return connection
        host, port = address = await self._address()
        tls = tls_context(self._url)
        transport, connection = await self._reserve.run_async(
            lambda: loop.create_connection(make, host, port, ssl=tls)
        )
        keep_alive(transport.get_extra_info("socket"))
        connection.address = address
        return connection

    async def _prepare(self, connection: RedisConnection) -> None:
        commands = [encode_command(b"SCRIPT", b"LOAD", producer.APPEND.encode())]
        if self._url.db:
            commands.insert(0, encode_command(b"SELECT", str(self._url.db).encode()))
        sign_in = self._url.sign_in
        if sign_in.password:
            user = (sign_in.username.encode(),) if sign_in.username else ()
            commands.insert(0, encode_command(b"AUTH", *user, sign_in.password.encode()))
        prepared = connection.send(b"".join(commands), len(commands), CONNECT_TIMEOUT_SECONDS)
        asked = connection.send(ROLE + _INFO, 2, CONNECT_TIMEOUT_SECONDS, accepts_errors=True)
        role_reply, info = (await asyncio.gather(prepared, asked))[1]
        role = parse_role(role_reply)
        if role is not None and not role.is_primary:
            raise ConnectionError(NOT_A_PRIMARY)
        connection.role = role
        identity = parse_identity(info)
        connection.tells_node = bool(identity)
        connection.node = identity or f"connection {next(_numbers)}"
