"""One connection to Redis that carries several requests at once.

Commands are written as bytes, and hiredis reads the replies. With redis-py's pipeline a group commit costs
several times as much processor time as all its hits together (`make bench`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple, cast

import hiredis

from pixel_server.collect.round_trips import RoundTrips
from pixel_server.store.role import Role
from pixel_server.store_url import Address

_LATE_SECONDS = 0.005
"""Seconds that a reply gets beyond its timeout, because this process may be late, not Redis."""


class _Request(NamedTuple):
    """A request that waits for `reply_count` replies. sent, deadline: times of the event loop (s).

    accepts_errors: whether a reply may be an error.
    """

    reply_count: int
    sent: float
    deadline: float
    future: asyncio.Future[list[Any]]
    accepts_errors: bool


class RedisConnection(asyncio.Protocol):
    """One connection. Redis replies in order. If a request fails, all later requests fail.

    trips: number of answered requests. good_trips: number of answered requests since a round trip last took
    too long (`RoundTrips.add`). address: host and port of Redis, or None for a unix socket.
    node: differs for two Redis servers, and for a Redis before and after it may have lost data. tells_node:
    whether `node` is also equal for two connections to one Redis. role: the role of Redis when the connection
    was made, None if Redis does not tell it.
    """

    def __init__(self, round_trips: RoundTrips) -> None:
        self._round_trips = round_trips
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._replies: list[Any] = []
        self._requests: deque[_Request] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._overdue: _Request | None = None
        self.is_closed = False
        self.ended = asyncio.Event()
        self.trips = self.good_trips = 0
        self.address: Address | None = None
        self.node = ""
        self.tells_node = False
        self.role: Role | None = None

    def send(
        self, data: bytes, reply_count: int, timeout_seconds: float, accepts_errors: bool = False
    ) -> asyncio.Future[list[Any]]:
        """Sends commands. Returns a future of their replies.

        data: the encoded commands. reply_count: number of the commands. If a reply is an error or comes too
        late, the future raises that error or TimeoutError, and the connection ends. accepts_errors: whether a
        reply that is an error is returned instead.
        """
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if self.is_closed or self._transport is None:
            future.set_exception(ConnectionError("connection closed"))
            return future
        now = self._loop.time()
        self._requests.append(_Request(reply_count, now, now + timeout_seconds, future, accepts_errors))
        if self._timer is None:
            self._timer = self._loop.call_later(timeout_seconds, self._check_deadlines)
        elif self._timer.when() > now + timeout_seconds:
            self._timer.cancel()
            self._timer = self._loop.call_later(timeout_seconds, self._check_deadlines)
        self._transport.write(data)
        return future

    def abort(self, error: Exception) -> None:
        """Ends the connection. Every request that waits for replies raises `error`."""
        self.is_closed = True
        self.ended.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        while self._requests:
            future = self._requests.popleft().future
            if not future.done():
                future.set_exception(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class is not a subclass of Transport

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        requests, replies = self._requests, self._replies
        try:
            while requests:
                expected = requests[0].reply_count
                while len(replies) < expected and (reply := self._reader.gets()) is not False:
                    replies.append(reply)
                if len(replies) < expected:
                    return
                self._replies = replies = self._finish_first(requests, replies)
        except hiredis.HiredisError as error:
            self.abort(error)

    def _finish_first(self, requests: deque[_Request], replies: list[Any]) -> list[Any]:
        """Gives the first request its replies. Returns a list for the next request's replies."""
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError) and not requests[0].accepts_errors:
                raise reply
        request = requests.popleft()
        now = self._loop.time()
        self.trips += 1
        is_good = self._round_trips.add(now - request.sent)
        self.good_trips = self.good_trips + 1 if is_good else 0
        if not request.future.done():
            request.future.set_result(replies)
        return []

    def _check_deadlines(self) -> None:
        """Ends the connection if a request is over its deadline. Sets the timer for the next deadline.

        There is one timer for all requests, because a timer for each would cost more. An overdue request gets
        _LATE_SECONDS more: if this process stood still, the reply may have arrived and be unread.
        """
        self._timer = None
        if not self._requests:
            return
        first = min(self._requests, key=lambda request: request.deadline)
        left_seconds = first.deadline - self._loop.time()
        if left_seconds <= 0 and first is self._overdue:
            self.abort(TimeoutError(f"no answer within {first.deadline - first.sent:.2f} s"))
            return
        self._overdue = first if left_seconds <= 0 else None
        self._timer = self._loop.call_later(max(left_seconds, _LATE_SECONDS), self._check_deadlines)

    def connection_lost(self, error: Exception | None) -> None:
        self.abort(error or ConnectionError("connection closed by Redis"))


def encode_command(*words: bytes) -> bytes:
    """Returns a command in Redis's protocol: `*1\\r\\n$4\\r\\nPING\\r\\n` for `PING`."""
    return b"*%d\r\n" % len(words) + b"".join(map(encode_word, words))


def encode_word(word: bytes) -> bytes:
    """Returns a word of a command: `$4\\r\\nPING\\r\\n` for `PING`."""
    return b"$%d\r\n%b\r\n" % (len(word), word)
