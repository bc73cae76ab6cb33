"""The sink that is Redis: all batches of a group in one write, each appended once.

A connection of its own, its commands written as bytes and its answers read by hiredis: with redis-py's
pipeline a group commit costs several times as much processor time as all its hits together (`make bench`).

Redis may be far away. So connecting is not part of a group's time: `keep` connects ahead of need, and again
as soon as a connection ends. Several groups may be on their way on the one connection (`recorder`). How long
a group may take goes by the round trips that were measured, and lies between `within` and `at_most`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha1
from typing import Any, NamedTuple, cast

import hiredis
from redis.asyncio.connection import parse_url

from pixel_server import hit
from pixel_server.collect.batch import Batch
from pixel_server.collect.round_trips import RoundTrips
from pixel_server.store import keys, producer
from pixel_server.store.client import keep_alive

log = logging.getLogger("pixel_server.stream")

WITHIN = 0.12
"""Seconds that a group may take at least, however near Redis is."""
AT_MOST = 0.2
"""Seconds that a group may take at most: the rest of `recorder.ANSWER_WITHIN` is for the spool."""
CONNECT_WITHIN = 3.0
"""Seconds that connecting may take, TLS and sign-in included."""
PING_WITHIN = 2.0
"""Seconds that Redis may take to answer a ping; then the connection counts as dead."""
IDLE = 1.0
"""Seconds without a group after which Redis is asked for a sign of life."""
AGAIN = 0.2
"""Seconds between two tries to connect."""
GOOD_TRIPS = 3
"""Round trips, one after the other and each in time, that make a new connection a ready one."""
_LATE = 0.005
"""Seconds that a reply may yet take when its time is over: perhaps this process is late, not Redis."""

_SHA = sha1(producer.APPEND.encode(), usedforsecurity=False).hexdigest().encode()
_FIELD = str(hit.FORMAT).encode()
_PING = b"*1\r\n$4\r\nPING\r\n"
_AFTER_NONE = b"$1\r\n0\r\n"


class RedisSink:
    """See `recorder.Sink`. OSError, TimeoutError, hiredis.HiredisError: the connection is then given up.

    Groups may overlap: they are written in the order of the calls. mark: gives the mark of the store that
    batches are meant for, b"" for any; see `store_mark`.
    """

    def __init__(
        self,
        url: str,
        within: float = WITHIN,
        at_most: float = AT_MOST,
        mark: Callable[[], bytes] = bytes,
    ) -> None:
        self._mark = mark
        self._options: dict[str, Any] = dict(parse_url(url))
        self._trips = RoundTrips(within, max(within, at_most))
        self._wire: _Wire | None = None
        self._connecting: asyncio.Task[_Wire] | None = None
        self._heads: dict[tuple[int, str], bytes] = {}

    def append(self, batches: Sequence[Batch]) -> Awaitable[list[int]]:
        """Writes at once if there is a connection; else waits for one."""
        mark, within = _bulk(self._mark()), self._trips.within
        data = b"".join([self._command(batch) + mark for batch in batches])
        wire = self._wire
        if wire is None or wire.closed:
            return self._append_later(data, len(batches), within)
        return wire.send(data, len(batches), within)

    async def _append_later(self, data: bytes, answers: int, within: float) -> list[int]:
        try:
            async with asyncio.timeout(within):
                wire = await asyncio.shield(self._connect())
        except TimeoutError:
            raise TimeoutError(f"no connection within {within:.2f} s") from None
        return await wire.send(data, answers, within)

    async def keep(self) -> None:
        """Keeps a connection ready, until cancelled: connects, and asks an idle one for a sign of life."""
        failing = far = False
        while True:
            try:
                await self.warm_up()
                failing = False
                await self._silence()
                await self._ping()
                far = self._report_far(far)
            except (OSError, hiredis.HiredisError) as error:
                if not failing:
                    log.warning("stream: no connection to Redis: %s", str(error) or type(error).__name__)
                failing = True
                await asyncio.sleep(AGAIN)

    async def warm_up(self) -> None:
        """Connects, and measures round trips: until enough were good, or ten. Raises as `append` does."""
        wire = await asyncio.shield(self._connect())
        while wire.good < GOOD_TRIPS and wire.trips < 10:
            await self._ping()

    async def settle(self) -> None:
        """Gives a connection some seconds to become ready; hits that come before it is go to the spool."""
        with contextlib.suppress(OSError, hiredis.HiredisError):
            async with asyncio.timeout(CONNECT_WITHIN):
                await self.warm_up()

    @property
    def is_ready(self) -> bool:
        """Whether there is a connection, and its last round trips came in time."""
        wire = self._wire
        return wire is not None and not wire.closed and wire.good >= GOOD_TRIPS

    def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if self._wire is not None:
            self._wire.abort(ConnectionError("closed"))
            self._wire = None

    async def _ping(self) -> None:
        await (await asyncio.shield(self._connect())).send(_PING, 1, PING_WITHIN)

    async def _silence(self) -> None:
        """Returns once the connection has been idle for IDLE seconds, or has ended."""
        loop = asyncio.get_running_loop()
        while (wire := self._wire) is not None and not wire.closed:
            left = wire.last + IDLE - loop.time()
            if left <= 0 and not wire.is_busy:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(left, 0.1)):
                    await wire.ended.wait()

    def _report_far(self, was_far: bool) -> bool:
        trip, most = self._trips.smoothed, self._trips.at_most
        is_far = trip > most and not self.is_ready
        if is_far and not was_far:
            log.error(
                "stream: Redis answers after %.0f ms; above %.0f ms all hits go by way of the spool: "
                "run this process nearer to Redis",
                trip * 1000,
                most * 1000,
            )
        return is_far

    def _command(self, batch: Batch) -> bytes:
        head = self._heads.get((batch.shard, batch.producer))
        if head is None:
            if len(self._heads) > 1024:  # producers come and go
                self._heads.clear()
            names = (keys.hits(batch.shard).encode(), keys.producers(batch.shard).encode())
            words = (b"EVALSHA", _SHA, b"2", *names, batch.producer.encode())
            head = b"*11\r\n" + b"".join(map(_bulk, words))
            self._heads[batch.shard, batch.producer] = head
        after = _bulk(b"%d" % batch.after) if batch.after else _AFTER_NONE
        return head + b"$%d\r\n%d\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n%b" % (
            len(str(batch.sequence)),
            batch.sequence,
            len(_FIELD),
            _FIELD,
            len(batch.data),
            batch.data,
            after,
        )

    def _connect(self) -> asyncio.Future[_Wire]:
        """The connection, or the one that is being made: by whoever asks first, for all."""
        if self._wire is not None and not self._wire.closed:
            there: asyncio.Future[_Wire] = asyncio.get_running_loop().create_future()
            there.set_result(self._wire)
            return there
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._open())
            self._connecting.add_done_callback(_is_seen)
        return self._connecting

    async def _open(self) -> _Wire:
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                self._wire = await self._opened()
                return self._wire
        except TimeoutError:
            raise TimeoutError(f"no connection within {CONNECT_WITHIN} s") from None

    async def _opened(self) -> _Wire:
        options = self._options
        loop = asyncio.get_running_loop()
        make = lambda: _Wire(self._trips)  # noqa: E731
        if "path" in options:
            _, wire = await loop.create_unix_connection(make, options["path"])
        else:
            host, port = options.get("host", "localhost"), options.get("port", 6379)
            transport, wire = await loop.create_connection(make, host, port, ssl=_tls(options))
            keep_alive(transport.get_extra_info("socket"))
        hello: list[tuple[bytes, ...]] = [(b"SCRIPT", b"LOAD", producer.APPEND.encode())]
        if options.get("db"):
            hello.insert(0, (b"SELECT", str(options["db"]).encode()))
        if options.get("password"):
            name = (options["username"].encode(),) if options.get("username") else ()
            hello.insert(0, (b"AUTH", *name, options["password"].encode()))
        try:
            commands = (b"*%d\r\n" % len(words) + b"".join(map(_bulk, words)) for words in hello)
            await wire.send(b"".join(commands), len(hello), CONNECT_WITHIN)
        except BaseException:
            wire.abort(ConnectionError("closed"))
            raise
        return wire


class _Request(NamedTuple):
    answers: int
    sent: float
    until: float
    done: asyncio.Future[list[Any]]


class _Wire(asyncio.Protocol):
    """One connection. Requests are answered in the order they were sent; when one fails, so do all behind it.

    trips: answered requests. good: those of them in a row that came in time, up to now.
    """

    def __init__(self, trips: RoundTrips) -> None:
        self._trips = trips
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._answers: list[Any] = []
        self._requests: deque[_Request] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._overdue: _Request | None = None
        self.closed = False
        self.ended = asyncio.Event()
        self.last = self._loop.time()
        self.trips = self.good = 0

    @property
    def is_busy(self) -> bool:
        return bool(self._requests)

    def send(self, data: bytes, answers: int, within: float) -> asyncio.Future[list[Any]]:
        """So many answers. The first error among them is raised, and ends the connection."""
        done: asyncio.Future[list[Any]] = self._loop.create_future()
        if self.closed or self._transport is None:
            done.set_exception(ConnectionError("connection closed"))
            return done
        now = self._loop.time()
        self._requests.append(_Request(answers, now, now + within, done))
        if self._timer is None:
            self._timer = self._loop.call_later(within, self._look)
        elif self._timer.when() > now + within:
            self._timer.cancel()
            self._timer = self._loop.call_later(within, self._look)
        self._transport.write(data)
        return done

    def abort(self, error: Exception) -> None:
        """Ends the connection. What waits for an answer gets this error."""
        self.closed = True
        self.ended.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        while self._requests:
            done = self._requests.popleft().done
            if not done.done():
                done.set_exception(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by their class

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        requests, answers = self._requests, self._answers
        try:
            while requests:
                wanted = requests[0].answers
                while len(answers) < wanted and (answer := self._reader.gets()) is not False:
                    answers.append(answer)
                if len(answers) < wanted:
                    return
                self._answers = answers = self._take(requests, answers)
        except hiredis.HiredisError as error:
            self.abort(error)

    def _take(self, requests: deque[_Request], answers: list[Any]) -> list[Any]:
        """Answers the first request."""
        for answer in answers:
            if isinstance(answer, hiredis.ReplyError):
                raise answer
        request = requests.popleft()
        self.last = now = self._loop.time()
        self.trips += 1
        is_good = self._trips.add(now - request.sent)
        self.good = self.good + 1 if is_good else 0
        if not request.done.done():
            request.done.set_result(answers)
        return []

    def _look(self) -> None:
        """Looks for a request whose time is over. The timer is not set for each request: that costs less.

        A request is given _LATE seconds more: after a standstill of this process its reply is still unread.
        """
        self._timer = None
        if not self._requests:
            return
        first = min(self._requests, key=lambda request: request.until)
        left = first.until - self._loop.time()
        if left <= 0 and first is self._overdue:
            self.abort(TimeoutError(f"no answer within {first.until - first.sent:.2f} s"))
            return
        self._overdue = first if left <= 0 else None
        self._timer = self._loop.call_later(max(left, _LATE), self._look)

    def connection_lost(self, error: Exception | None) -> None:
        self.abort(error or ConnectionError("connection closed by Redis"))


def _is_seen(task: asyncio.Task[_Wire]) -> None:
    """Nobody may have waited for it to the end."""
    if not task.cancelled():
        task.exception()


def _bulk(data: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)


def _tls(options: dict[str, Any]) -> ssl.SSLContext | None:
    """As redis-py takes it from a rediss:// URL."""
    if "SSL" not in getattr(options.get("connection_class"), "__name__", ""):
        return None
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    if options.get("ssl_cert_reqs") == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options.get("ssl_certfile"):
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    return context
