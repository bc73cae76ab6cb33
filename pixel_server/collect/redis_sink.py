"""The sink that stores batches in Redis: it sends all batches of a group in one write.

Redis may be far away. So a group does not wait for a connection: `keep_connected` connects ahead of need, and
again as soon as a connection ends. Several groups may be in flight on the one connection; see `recorder`. The
timeout of a group follows the measured round trips, between two bounds.

A Redis with replicas may be replaced by one of them, which may lack the newest batches. So the sink keeps
acknowledged batches in the tail, and sends them again through each connection to a Redis that may lack them
(see `tail`), before any other batch. While a replica is missing, the sink looks each second whether the
address leads to another primary by now, because a primary that was replaced may answer on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence

import hiredis

from pixel_server.collect.append_command import AppendEncoder, encode_wait
from pixel_server.collect.batch import Batch
from pixel_server.collect.connector import CONNECT_TIMEOUT_SECONDS, NOT_A_PRIMARY, ROLE, Connector
from pixel_server.collect.descriptor_reserve import DescriptorReserve
from pixel_server.collect.redis_connection import RedisConnection, encode_command
from pixel_server.collect.replica_watch import ReplicaWatch
from pixel_server.collect.round_trips import RoundTrips
from pixel_server.collect.tail import Tail
from pixel_server.store.role import Role, parse_role

log = logging.getLogger("pixel_server.redis_sink")

MIN_TIMEOUT_SECONDS = 0.12
"""Minimum timeout of a group in seconds, however near Redis is."""
MAX_TIMEOUT_SECONDS = 0.2
"""Maximum timeout of a group in seconds. The rest of `recorder.ANSWER_TIMEOUT_SECONDS` is for the spool."""
PING_TIMEOUT_SECONDS = 2.0
"""Seconds that Redis may take to answer a ping or a check. Then the connection counts as dead."""
CHECK_SECONDS = 1.0
"""Seconds between two checks that Redis answers, and is a primary."""
REPEAT_TIMEOUT_SECONDS = 5.0
"""Seconds that Redis may take to store again up to `tail.RUN_BYTES` of batches."""
WAIT_SHARE = 0.5
"""Share of a group's timeout for which Redis waits for its replicas."""
RETRY_SECONDS = 0.2
"""Seconds between two tries to connect."""
GOOD_TRIPS = 3
"""Number of round trips in a row, each within the maximum timeout of a group, after which a connection is
ready."""
MAX_WARM_UP_TRIPS = 10
"""Number of round trips after which `warm_up` ends, even if the connection is not ready."""

_PING = encode_command(b"PING")


class RedisSink:
    """A `Sink`. After OSError, TimeoutError or hiredis.HiredisError it gives up the connection.

    Calls of `append` may overlap: groups are written in the order of the calls.
    timeout_seconds, max_timeout_seconds: bounds of a group's timeout.
    mark: returns the mark of the store that batches are meant for, b"" for any store; see `store_mark`.
    reserve: has a descriptor for the connection if no other is free.
    tail: keeps acknowledged batches. None to keep none.
    replicas: number of replicas that must have a group before `append` returns. If fewer confirm the group in
    time, `append` raises ConnectionError.
    """

    def __init__(
        self,
        url: str,
        timeout_seconds: float = MIN_TIMEOUT_SECONDS,
        max_timeout_seconds: float = MAX_TIMEOUT_SECONDS,
        mark: Callable[[], bytes] = bytes,
        reserve: DescriptorReserve | None = None,
        tail: Tail | None = None,
        replicas: int = 0,
    ) -> None:
        self._mark = mark
        self._round_trips = RoundTrips(timeout_seconds, max(timeout_seconds, max_timeout_seconds))
        self._connector = Connector(url, self._round_trips, reserve or DescriptorReserve())
        self._connection: RedisConnection | None = None
        self._connecting: asyncio.Task[RedisConnection] | None = None
        self._tail = tail or Tail()
        self._replica_watch = ReplicaWatch()
        self._replicas = replicas
        self._encoder = AppendEncoder(is_before_wait=replicas > 0)

    def append(self, batches: Sequence[Batch]) -> Awaitable[list[int]]:
        """Writes at once if there is a connection, otherwise waits for a connection."""
        data, timeout_seconds = self._encoder.encode(batches, self._mark()), self._round_trips.timeout_seconds
        connection = self._connection
        if connection is None or connection.is_closed:
            return self._append_later(batches, data, timeout_seconds)
        if self._tail.is_kept or self._replicas:
            return self._append_safely(connection, batches, data, timeout_seconds)
        return connection.send(data, len(batches), timeout_seconds)

    async def _append_later(self, batches: Sequence[Batch], data: bytes, timeout_seconds: float) -> list[int]:
        try:
            async with asyncio.timeout(timeout_seconds):
                connection = await asyncio.shield(self._connect())
        except TimeoutError:
            raise TimeoutError(f"no connection within {timeout_seconds:.2f} s") from None
        return await self._append_safely(connection, batches, data, timeout_seconds)

    async def _append_safely(
        self, connection: RedisConnection, batches: Sequence[Batch], data: bytes, timeout_seconds: float
    ) -> list[int]:
        """Sends again what Redis may lack, then appends batches, keeps them, and waits for replicas."""
        if self._tail.is_kept and not self._tail.has_all(connection.node, batches):
            await self._repeat(connection)
        if not self._replicas:
            seen = await connection.send(data, len(batches), timeout_seconds)
        else:
            wait = encode_wait(self._replicas, timeout_seconds * WAIT_SHARE)
            *seen, confirmed = await connection.send(data + wait, len(batches) + 1, timeout_seconds)
        if self._tail.is_kept:
            self._tail.keep(connection.node, batches, seen, asyncio.get_running_loop().time())
        if self._replicas and confirmed < self._replicas:
            raise ConnectionError(f"{confirmed} of {self._replicas} replicas have confirmed the hits")
        return seen

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
        if connection.role is None:
            await connection.send(_PING, 1, PING_TIMEOUT_SECONDS)
            await self._care_for_tail(connection)
            return
        asked_at = asyncio.get_running_loop().time()
        (reply,) = await connection.send(ROLE, 1, PING_TIMEOUT_SECONDS)
        role = parse_role(reply)
        if role is None or not role.is_primary:
            error = ConnectionError(NOT_A_PRIMARY)
            connection.abort(error)
            raise error
        self._note_role(connection, role, asked_at)
        await self._care_for_tail(connection)

    def _note_role(self, connection: RedisConnection, role: Role | None, asked_at: float) -> None:
        if role is None or role.replica_offsets:
            self._tail.begin()
        if role is not None:
            self._replica_watch.note(connection.node, role, asked_at)

    async def _care_for_tail(self, connection: RedisConnection) -> None:
        """Sends again what Redis may lack, and forgets what a replica has."""
        if not self._tail.is_kept:
            return
        now = asyncio.get_running_loop().time()
        if self._replica_watch.is_doubtful(now) and connection.tells_node:
            connection = await self._replace(connection)
        await self._repeat(connection)
        confirmed_before = now if connection.role is None else self._replica_watch.confirmed_before
        self._tail.forget(connection.node, confirmed_before, now)

    async def _replace(self, connection: RedisConnection) -> RedisConnection:
        """Returns a connection to the Redis that the address leads to now, or the same connection."""
        try:
            fresh = await self._open_and_repeat()
        except (OSError, hiredis.HiredisError):
            return connection
        if fresh.node == connection.node:
            fresh.abort(ConnectionError("closed"))
            return connection
        log.warning("redis sink: the address leads to another primary by now")
        return self._use(fresh)

    async def _repeat(self, connection: RedisConnection) -> None:
        """Sends again the batches of the tail that Redis may lack."""

        async def send(batches: Sequence[Batch]) -> list[int]:
            data = self._encoder.encode(batches, self._mark())
            return await connection.send(data, len(batches), REPEAT_TIMEOUT_SECONDS)

        await self._tail.repeat(connection.node, send)

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
        return self._use(await self._open_and_repeat())

    def _use(self, connection: RedisConnection) -> RedisConnection:
        """Uses a new connection from now on. Groups in flight on the former connection fail."""
        if self._connection is not None:
            self._connection.abort(ConnectionError("another connection is used by now"))
        self._connection = connection
        return connection

    async def _open_and_repeat(self) -> RedisConnection:
        """Opens a connection, and sends again the batches of the tail that Redis may lack."""
        asked_at = asyncio.get_running_loop().time()
        connection = await self._connector.open()
        self._note_role(connection, connection.role, asked_at)
        if self._tail.is_kept:
            try:
                await self._repeat(connection)
            except BaseException:
                connection.abort(ConnectionError("closed"))
                raise
        return connection


def _retrieve_exception(task: asyncio.Task[RedisConnection]) -> None:
    """Keeps asyncio from logging a failure that no caller waited for."""
    if not task.cancelled():
        task.exception()
