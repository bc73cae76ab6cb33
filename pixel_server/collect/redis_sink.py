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
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import hiredis

from pixel_server import store_url, tasks
from pixel_server.collect.append_command import AppendEncoder, encode_wait
from pixel_server.collect.batch import Batch
from pixel_server.collect.connector import CONNECT_TIMEOUT_SECONDS, NOT_A_PRIMARY, ROLE, Connector
from pixel_server.collect.descriptor_reserve import DescriptorReserve
from pixel_server.collect.redirects import Redirected, is_redirect
from pixel_server.collect.redis_connection import RedisConnection, encode_command
from pixel_server.collect.replica_watch import ReplicaWatch
from pixel_server.collect.round_trips import RoundTrips
from pixel_server.collect.tail import Tail
from pixel_server.logs import Log
from pixel_server.store.role import Role, parse_role
from pixel_server.store_url import StoreUrl

log = Log(__name__)

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
_TRY_AGAIN = hiredis.ReplyError("TRYAGAIN another shard must be sent again first")
_ASKING = encode_command(b"ASKING")


class RedisSink:
    """A `Sink`. After OSError, TimeoutError or hiredis.HiredisError it gives up the connection.

    Calls of `append` may overlap: groups are written in the order of the calls.
    timeout_seconds, max_timeout_seconds: bounds of a group's timeout.
    mark: returns the mark of the store that batches are meant for, b"" for any store; see `store_mark`.
    reserve: has a descriptor for the connection if no other is free.
    tail: keeps acknowledged batches. None to keep none.
    replicas: number of replicas that must have a group before `append` returns. If fewer confirm the group in
    time, `append` raises ConnectionError.
    shards: returns the shards of a node of a cluster, None if Redis is not such a node. A node may refuse
    batches: then `append` raises Redirected, and the connection stays.
    """

    def __init__(
        self,
        url: str | StoreUrl,
        timeout_seconds: float = MIN_TIMEOUT_SECONDS,
        max_timeout_seconds: float = MAX_TIMEOUT_SECONDS,
        mark: Callable[[], bytes] = bytes,
        reserve: DescriptorReserve | None = None,
        tail: Tail | None = None,
        replicas: int = 0,
        shards: Callable[[], Collection[int]] | None = None,
    ) -> None:
        self._mark = mark
        self._round_trips = RoundTrips(timeout_seconds, max(timeout_seconds, max_timeout_seconds))
        url = store_url.parse(url) if isinstance(url, str) else url
        self._connector = Connector(url, self._round_trips, reserve or DescriptorReserve())
        self._connection: RedisConnection | None = None
        self._connecting: asyncio.Task[RedisConnection] | None = None
        self._tail = tail or Tail()
        self._replica_watch = ReplicaWatch()
        self._replicas = replicas
        self._shards = shards
        self._encoder = AppendEncoder(is_before_wait=replicas > 0)

    def append(self, batches: Sequence[Batch]) -> Awaitable[list[int]]:
        """Writes at once if there is a connection, otherwise waits for a connection."""
        data, timeout_seconds = self._encoder.encode(batches, self._mark()), self._round_trips.timeout_seconds
        connection = self._connection
        if connection is None or connection.is_closed:
            return self._append_later(batches, data, timeout_seconds)
        if self._tail.is_kept or self._replicas or self._shards is not None:
            return self._append_safely(connection, batches, data, timeout_seconds)
        return connection.send(data, len(batches), timeout_seconds)

    async def _append_later(self, batches: Sequence[Batch], data: bytes, timeout_seconds: float) -> list[int]:
        connection = await self._connect_within(timeout_seconds)
        return await self._append_safely(connection, batches, data, timeout_seconds)

    async def append_asking(self, batches: Sequence[Batch]) -> list[int]:
        """Appends batches to a node that another node has named in a reply ASK. Does not keep them."""
        timeout_seconds = self.timeout_seconds
        connection = await self._connect_within(timeout_seconds)
        mark = self._mark()
        data = b"".join([_ASKING + self._encoder.encode([batch], mark) for batch in batches])
        replies, confirmed = await self._send(connection, data, 2 * len(batches), timeout_seconds)
        self._check(connection, replies[1::2], confirmed)
        return replies[1::2]

    async def _connect_within(self, timeout_seconds: float) -> RedisConnection:
        try:
            async with asyncio.timeout(timeout_seconds):
                return await asyncio.shield(self._connect())
        except TimeoutError:
            raise TimeoutError(f"no connection within {timeout_seconds:.2f} s") from None

    async def _append_safely(
        self, connection: RedisConnection, batches: Sequence[Batch], data: bytes, timeout_seconds: float
    ) -> list[int]:
        """Sends again what Redis may lack, then appends batches, keeps them, and waits for replicas."""
        if self._tail.is_kept and not self._tail.has_all(connection.node, batches):
            refusals = await self._repeat(connection, {batch.shard for batch in batches})
            if any(batch.shard in refusals for batch in batches):
                # Not one of these batches may overtake a batch that could not be sent again.
                raise Redirected([refusals.get(batch.shard, _TRY_AGAIN) for batch in batches])
        replies, confirmed = await self._send(connection, data, len(batches), timeout_seconds)
        self._keep(connection, batches, replies)
        self._check(connection, replies, confirmed)
        return replies

    async def _send(
        self, connection: RedisConnection, data: bytes, count: int, timeout_seconds: float
    ) -> tuple[list[Any], int]:
        """Sends commands. Returns their replies, and the number of replicas that have confirmed all."""
        accepts_errors = self._shards is not None
        if not self._replicas:
            return await connection.send(data, count, timeout_seconds, accepts_errors), 0
        data += encode_wait(self._replicas, timeout_seconds * WAIT_SHARE)
        *replies, confirmed = await connection.send(data, count + 1, timeout_seconds, accepts_errors)
        return replies, confirmed

    def note_appended(self, batches: Sequence[Batch], replies: Sequence[int]) -> None:
        """Keeps batches that another node has, which gets the shards of these batches from this node."""
        if self._connection is not None:
            self._keep(self._connection, batches, replies)

    def _keep(self, connection: RedisConnection, batches: Sequence[Batch], replies: Sequence[Any]) -> None:
        """Keeps the batches that Redis has accepted."""
        if not self._tail.is_kept:
            return
        if self._shards is not None and [reply for reply in replies if not isinstance(reply, int)]:
            pairs = zip(batches, replies, strict=True)
            accepted = [(batch, reply) for batch, reply in pairs if isinstance(reply, int)]
            batches, replies = [batch for batch, _ in accepted], [reply for _, reply in accepted]
        self._tail.keep(connection.node, batches, replies, asyncio.get_running_loop().time())

    def _check(self, connection: RedisConnection, replies: Sequence[Any], confirmed: int) -> None:
        """Raises Redirected if a node refused batches, and ConnectionError if replicas lack a batch."""
        is_redirected = False
        for reply in replies if self._shards is not None else ():
            if isinstance(reply, hiredis.ReplyError):
                if not is_redirect(reply):
                    connection.abort(reply)
                    raise reply
                is_redirected = True
        if confirmed < self._replicas:
            raise ConnectionError(f"{confirmed} of {self._replicas} replicas have confirmed the hits")
        if is_redirected:
            raise Redirected(replies)

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
                    log.warning("redis-not-connected", "no connection to Redis: %(error)s", error=error)
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
    def timeout_seconds(self) -> float:
        """Returns the timeout of the next group."""
        return self._round_trips.timeout_seconds

    @property
    def is_connected(self) -> bool:
        return self._connection is not None and not self._connection.is_closed

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
        log.warning("primary-changed", "the address of Redis leads to another primary by now")
        return self._use(fresh)

    async def _repeat(
        self, connection: RedisConnection, shards: Collection[int] | None = None
    ) -> dict[int, hiredis.ReplyError]:
        """Sends again the batches of the tail that Redis may lack.

        shards: the shards to send, None for all shards of this Redis. Returns the reply of a node that has
        refused batches of a shard, by shard.
        """
        if shards is None and self._shards is not None:
            shards = self._shards()
        refusals: dict[int, hiredis.ReplyError] = {}

        async def send(batches: Sequence[Batch]) -> list[int]:
            data = self._encoder.encode(batches, self._mark())
            if self._shards is None:
                return await connection.send(data, len(batches), REPEAT_TIMEOUT_SECONDS)
            replies = await connection.send(data, len(batches), REPEAT_TIMEOUT_SECONDS, accepts_errors=True)
            for batch, reply in zip(batches, replies, strict=True):
                if is_redirect(reply):
                    refusals[batch.shard] = reply
            self._check(connection, replies, self._replicas)
            return replies

        await self._tail.repeat(connection.node, send, shards)
        return refusals

    def _report_far(self, was_far: bool) -> bool:
        """Returns whether Redis is too far away. Logs an error once Redis becomes too far away."""
        trip, limit = self._round_trips.smoothed_seconds, self._round_trips.max_seconds
        is_far = trip > limit and not self.is_ready
        if is_far and not was_far:
            log.error(
                "redis-far",
                "Redis answers after %(milliseconds).0f ms; above %(limit_milliseconds).0f ms all hits go "
                "through the spool: run this process nearer to Redis",
                milliseconds=trip * 1000,
                limit_milliseconds=limit * 1000,
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
            self._connecting.add_done_callback(tasks.retrieve_exception)
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
