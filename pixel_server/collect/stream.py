"""The sink that is Redis: all batches of a group in one write, each appended once.

A connection of its own, its commands written as bytes and its answers read by hiredis: with redis-py's
pipeline a group commit costs several times as much processor time as all its hits together (`make bench`).
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from hashlib import sha1
from typing import Any, cast

import hiredis
from redis.asyncio.connection import parse_url

from pixel_server import hit, keys, producer
from pixel_server.collect.recorder import Batch

WITHIN = 0.12
"""Seconds that a group may take, a new connection included."""

_SHA = sha1(producer.APPEND.encode(), usedforsecurity=False).hexdigest().encode()
_FIELD = str(hit.FORMAT).encode()


class Stream:
    """See `recorder.Sink`. OSError, TimeoutError, hiredis.HiredisError: the connection is then given up.

    mark: gives the mark of the store that batches are meant for, b"" for any; see `store_mark`.
    """

    def __init__(self, url: str, within: float = WITHIN, mark: Callable[[], bytes] = bytes) -> None:
        self._mark = mark
        self._options: dict[str, Any] = dict(parse_url(url))
        self._within = within
        self._wire: _Wire | None = None
        self._heads: dict[tuple[int, str], bytes] = {}

    async def append(self, batches: Sequence[Batch]) -> list[int]:
        mark = _bulk(self._mark())
        try:
            async with asyncio.timeout(self._within):
                if self._wire is None or self._wire.closed:
                    self._wire = await self._connect()
                return await self._wire.send(
                    b"".join([self._command(batch) + mark for batch in batches]), len(batches)
                )
        except TimeoutError:
            self.close()
            raise TimeoutError(f"no answer within {self._within} s") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._wire is not None:
            self._wire.abort()
            self._wire = None

    def _command(self, batch: Batch) -> bytes:
        head = self._heads.get((batch.shard, batch.producer))
        if head is None:
            if len(self._heads) > 1024:  # producers come and go
                self._heads.clear()
            names = (keys.hits(batch.shard).encode(), keys.producers(batch.shard).encode())
            words = (b"EVALSHA", _SHA, b"2", *names, batch.producer.encode())
            head = b"*11\r\n" + b"".join(map(_bulk, words))
            self._heads[batch.shard, batch.producer] = head
        now = b"%d" % int(time.time() * 1000)
        return head + b"$%d\r\n%d\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
            len(str(batch.sequence)),
            batch.sequence,
            len(now),
            now,
            len(_FIELD),
            _FIELD,
            len(batch.data),
            batch.data,
        )

    async def _connect(self) -> _Wire:
        options = self._options
        loop = asyncio.get_running_loop()
        if "path" in options:
            _, wire = await loop.create_unix_connection(_Wire, options["path"])
        else:
            host, port = options.get("host", "localhost"), options.get("port", 6379)
            _, wire = await loop.create_connection(_Wire, host, port, ssl=_tls(options))
        hello: list[tuple[bytes, ...]] = [(b"SCRIPT", b"LOAD", producer.APPEND.encode())]
        if options.get("db"):
            hello.insert(0, (b"SELECT", str(options["db"]).encode()))
        if options.get("password"):
            name = (options["username"].encode(),) if options.get("username") else ()
            hello.insert(0, (b"AUTH", *name, options["password"].encode()))
        try:
            commands = (b"*%d\r\n" % len(words) + b"".join(map(_bulk, words)) for words in hello)
            await wire.send(b"".join(commands), len(hello))
        except BaseException:
            wire.abort()
            raise
        return wire


class _Wire(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._answers: list[Any] = []
        self._wanted = 0
        self._done: asyncio.Future[list[Any]] | None = None
        self.closed = False

    async def send(self, data: bytes, answers: int) -> list[Any]:
        """So many answers. The first error among them is raised."""
        assert self._transport is not None
        if self.closed:
            raise ConnectionError("connection closed")
        self._wanted = answers
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return await self._done

    def abort(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by their class

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (answer := self._reader.gets()) is not False:
            self._answers.append(answer)
        if len(self._answers) < self._wanted or self._done is None or self._done.done():
            return
        answers, self._answers = self._answers, []
        errors = [answer for answer in answers if isinstance(answer, hiredis.ReplyError)]
        if errors:
            self._done.set_exception(errors[0])
        else:
            self._done.set_result(answers)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self._done is not None and not self._done.done():
            self._done.set_exception(error or ConnectionError("connection closed by Redis"))


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
