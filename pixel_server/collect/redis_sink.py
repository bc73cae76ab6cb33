"""The sink that stores batches in Redis: it sends all batches of a group in one write.

Redis may be far away. So a group does not wait for a connection: `keep_connected` connects ahead of need, and
again as soon as a connection ends. Several groups may be in flight on the one connection; see `recorder`. The
timeout of a group follows the measured round trips, between two bounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha1

import hiredis

from pixel_server import hit
from pixel_server.collect.batch import Batch
from pixel_server.collect.connector import CONNECT_TIMEOUT_SECONDS, NOT_A_PRIMARY, ROLE, Connector
from pixel_server.collect.descriptor_reserve import DescriptorReserve
from pixel_server.collect.redis_connection import RedisConnection, encode_command, encode_word
from pixel_server.collect.round_trips import RoundTrips
from pixel_server.store import keys, producer
from pixel_server.store.role import parse_role

log = logging.getLogger("pixel_server.redis_sink")

MIN_TIMEOUT_SECONDS = 0.12
"""Minimum timeout of a group in seconds, however near Redis is."""
MAX_TIMEOUT_SECONDS = 0.2
"""Maximum timeout of a group in seconds. The rest of `recorder.ANSWER_TIMEOUT_SECONDS` is for the spool."""
PING_TIMEOUT_SECONDS = 2.0
"""Seconds that Redis may take to answer a ping or a check. Then the connection counts as dead."""
CHECK_SECONDS = 1.0
"""Seconds between two checks that Redis answers, and is a primary."""
RETRY_SECONDS = 0.2
"""Seconds between two tries to connect."""
GOOD_TRIPS = 3
"""Number of round trips in a row, each within the maximum timeout of a group, after which a connection is
ready."""
MAX_WARM_UP_TRIPS = 10
"""Number of round trips after which `warm_up` ends, even if the connection is not ready."""

_SHA = sha1(producer.APPEND.encode(), usedforsecurity=False).hexdigest().encode()
_FIELD = str(hit.FORMAT).encode()
_PING = encode_command(b"PING")
_AFTER_NONE = encode_word(b"0")


class RedisSink:
    """A `Sink`. After OSError, TimeoutError or hiredis.HiredisError it gives up the connection.

    Calls of `append` may overlap: groups are written in the order of the calls.
    timeout_seconds, max_timeout_seconds: bounds of a group's timeout.
    mark: returns the mark of the store that batches are meant for, b"" for any store; see `store_mark`.
    reserve: has a descriptor for the connection if no other is free.
    """

    def __init__(
        self,
        url: str,
        timeout_seconds: float = MIN_TIMEOUT_SECONDS,
        max_timeout_seconds: float = MAX_TIMEOUT_SECONDS,
        mark: Callable[[], bytes] = bytes,
        reserve: DescriptorReserve | None = None,
    ) -> None:
        self._mark = mark
        self._round_trips = RoundTrips(timeout_seconds, max(timeout_seconds, max_timeout_seconds))
        self._connector = Connector(url, self._round_trips, reserve or DescriptorReserve())
        self._connection: RedisConnection | None = None
        self._connecting: asyncio.Task[RedisConnection] | None = None
        self._command_heads: dict[tuple[int, str], bytes] = {}

    def append(self, batches: Sequence[Batch]) -> Awaitable[list[int]]:
        """Writes at once if there is a connection, otherwise waits for a connection."""
        mark, timeout_seconds = encode_word(self._mark()), self._round_trips.timeout_seconds
        data = b"".join([self._command(batch) + mark for batch in batches])
        connection = self._connection
        if connection is None or connection.is_closed:
            return self._append_later(data, len(batches), timeout_seconds)
        return connection.send(data, len(batches), timeout_seconds)

    async def _append_later(self, data: bytes, reply_count: int, timeout_seconds: float) -> list[int]:
        try:
            async with asyncio.timeout(timeout_seconds):
                connection = await asyncio.shield(self._connect())
        except TimeoutError:
            raise TimeoutError(f"no connection within {timeout_seconds:.2f} s") from None
        return await connection.send(data, reply_count, timeout_seconds)

    async def keep_connected(self) -> None:
        """Keeps a connection to a primary ready until cancelled: connects, and checks the connection."""
        is_failing = is_far = False
        while True:
            try:
                await self.warm_up()
                is_failing = False
                await self._check_later()
                is_far = self._report_far(is_far)
            except (OSError, hiredis.HiredisError) as error:
                if not is_failing:
                    log.warning("redis sink: no connection to Redis: %s", str(error) or type(error).__name__)
                is_failing = True
                await asyncio.sleep(RETRY_SECONDS)

    async def warm_up(self) -> None:
        """Connects, and measures round trips until enough are good. Raises the same errors as `append`."""
        connection = await asyncio.shield(self._connect())
        while connection.good_trips < GOOD_TRIPS and connection.trips < MAX_WARM_UP_TRIPS:
            await self._ping()

    async def settle(self) -> None:
        """Waits up to CONNECT_TIMEOUT_SECONDS until a connection is ready, so that hits need no spool."""
        with contextlib.suppress(OSError, hiredis.HiredisError):
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                await self.warm_up()

    @property
    def is_ready(self) -> bool:
        """Returns whether there is a connection whose last GOOD_TRIPS round trips were in time."""
        connection = self._connection
        return connection is not None and not connection.is_closed and connection.good_trips >= GOOD_TRIPS

    def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.abort(ConnectionError("closed"))
            self._connection = None

    async def _ping(self) -> None:
        connection = await asyncio.shield(self._connect())
        await connection.send(_PING, 1, PING_TIMEOUT_SECONDS)

    async def _check_later(self) -> None:
        """Checks the connection after CHECK_SECONDS. Returns at once when it ends.

        A primary that was replaced by a replica may become a replica itself, and answer on.
        """
        connection = self._connection
        if connection is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CHECK_SECONDS):
                await connection.ended.wait()
                return
        await self._connector.check_address(connection)
        if not connection.tells_role:
            await connection.send(_PING, 1, PING_TIMEOUT_SECONDS)
            return
        (reply,) = await connection.send(ROLE, 1, PING_TIMEOUT_SECONDS)
        role = parse_role(reply)
        if role is None or not role.is_primary:
            error = ConnectionError(NOT_A_PRIMARY)
            connection.abort(error)
            raise error

    def _report_far(self, was_far: bool) -> bool:
        """Returns whether Redis is too far away. Logs an error once Redis becomes too far away."""
        trip, limit = self._round_trips.smoothed_seconds, self._round_trips.max_seconds
        is_far = trip > limit and not self.is_ready
        if is_far and not was_far:
            log.error(
                "redis sink: Redis answers after %.0f ms; above %.0f ms all hits go through the spool: "
                "run this process nearer to Redis",
                trip * 1000,
                limit * 1000,
            )
        return is_far

    def _command(self, batch: Batch) -> bytes:
        """Returns the command that appends a batch, without its last word, the mark."""
        head = self._command_heads.get((batch.shard, batch.producer))
        if head is None:
            if len(self._command_heads) > 1024:  # producers come and go
                self._command_heads.clear()
            stream, producers = keys.hits(batch.shard).encode(), keys.producers(batch.shard).encode()
            words = (b"EVALSHA", _SHA, b"2", stream, producers, batch.producer.encode())
            head = b"*11\r\n" + b"".join(map(encode_word, words))
            self._command_heads[batch.shard, batch.producer] = head
        after = encode_word(b"%d" % batch.after) if batch.after else _AFTER_NONE
        return head + b"$%d\r\n%d\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n%b" % (
            len(str(batch.sequence)),
            batch.sequence,
            len(_FIELD),
            _FIELD,
            len(batch.data),
            batch.data,
            after,
        )

    def _connect(self) -> asyncio.Future[RedisConnection]:
        """Returns the connection. The first caller opens it for all."""
        if self._connection is not None and not self._connection.is_closed:
            connected: asyncio.Future[RedisConnection] = asyncio.get_running_loop().create_future()
            connected.set_result(self._connection)
            return connected
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._open())
            self._connecting.add_done_callback(_retrieve_exception)
        return self._connecting

    async def _open(self) -> RedisConnection:
        self._connection = await self._connector.open()
        return self._connection


def _retrieve_exception(task: asyncio.Task[RedisConnection]) -> None:
    """Keeps asyncio from logging a failure that no caller waited for."""
    if not task.cancelled():
        task.exception()
