"""Opens connections to Redis that can append batches."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from typing import Any

from redis.asyncio.connection import parse_url

from pixel_server.collect.descriptor_reserve import DescriptorReserve
from pixel_server.collect.redis_connection import RedisConnection, encode_command
from pixel_server.collect.round_trips import RoundTrips
from pixel_server.store import producer
from pixel_server.store.client import keep_alive
from pixel_server.store.role import parse_identity, parse_role

CONNECT_TIMEOUT_SECONDS = 3.0
"""Seconds that connecting may take, TLS and sign-in included."""
ROLE = encode_command(b"ROLE")
NOT_A_PRIMARY = "it is a replica, not a primary"

_INFO = encode_command(b"INFO", b"server", b"replication")
_numbers = itertools.count(1)


class Connector:
    """Opens connections to the Redis of a URL. reserve: has a descriptor if no other is free."""

    def __init__(self, url: str, round_trips: RoundTrips, reserve: DescriptorReserve) -> None:
        self._options: dict[str, Any] = dict(parse_url(url))
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
        except TimeoutError:
            raise TimeoutError(f"no connection within {CONNECT_TIMEOUT_SECONDS} s") from None

    async def _connect(self) -> RedisConnection:
        options = self._options
        loop = asyncio.get_running_loop()
        make = lambda: RedisConnection(self._round_trips)  # noqa: E731
        if "path" in options:
            path = options["path"]
            _, connection = await self._reserve.run_async(lambda: loop.create_unix_connection(make, path))
            return connection
        host, port = options.get("host", "localhost"), options.get("port", 6379)
        tls = _tls_context(options)
        transport, connection = await self._reserve.run_async(
            lambda: loop.create_connection(make, host, port, ssl=tls)
        )
        keep_alive(transport.get_extra_info("socket"))
        return connection

    async def _prepare(self, connection: RedisConnection) -> None:
        options = self._options
        commands = [encode_command(b"SCRIPT", b"LOAD", producer.APPEND.encode())]
        if options.get("db"):
            commands.insert(0, encode_command(b"SELECT", str(options["db"]).encode()))
        if options.get("password"):
            user = (options["username"].encode(),) if options.get("username") else ()
            commands.insert(0, encode_command(b"AUTH", *user, options["password"].encode()))
        prepared = connection.send(b"".join(commands), len(commands), CONNECT_TIMEOUT_SECONDS)
        asked = connection.send(ROLE + _INFO, 2, CONNECT_TIMEOUT_SECONDS, accepts_errors=True)
        await prepared
        role_reply, info = await asked
        role = parse_role(role_reply)
        if role is not None and not role.is_primary:
            raise ConnectionError(NOT_A_PRIMARY)
        connection.tells_role = role is not None
        identity = parse_identity(info)
        connection.tells_node = bool(identity)
        connection.node = identity or f"connection {next(_numbers)}"


def _tls_context(options: dict[str, Any]) -> ssl.SSLContext | None:
    """Returns the TLS settings of a `rediss://` URL, as redis-py reads them. Returns None for other URLs."""
    if "SSL" not in getattr(options.get("connection_class"), "__name__", ""):
        return None
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    if options.get("ssl_cert_reqs") == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options.get("ssl_certfile"):
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    return context
