"""uvicorn, as this server runs it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import socket
import sys
import time
from typing import ClassVar

import uvicorn
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from pixel_server.settings import SettingsError

log = logging.getLogger("pixel_server.serving")

MOST_HEAD = 128 << 10
"""Bytes that the head of one request may have; uvicorn alone sets no bound."""
MOST_URL = 65_535
"""Bytes of a URL that the URL parser takes; uvicorn alone gathers more, and then finds that out."""
MOST_WAITING = 256
"""Requests of one connection that may wait behind one that is being answered, some KB of memory each; uvicorn
alone queues all that it has read."""
KEEP_ALIVE = 30
HEAD_WITHIN = 30.0
"""Seconds that a client may take to send the head of a request, or be silent on a new connection."""
READ_WITHIN = 30.0
"""Seconds in which a client must take some 50 KB of what it asked for."""
GRACE = 5
BACKLOG = 2048
MOST_FILES, FEW_FILES = 65_536, 1_024
"""Open files, most of them connections: as many as are asked for, and fewer than which are told."""
RESERVED = 32
"""Open files that are kept from clients: for the spool, Redis, logs and pages."""
FAST = "pixel_server.collect.fast:PixelProtocol"
REFERENCE = "pixel_server.serving:Protocol"
"""Protocols by name: with the fast path for pixels, and without it, when the app answers all."""


class Protocol(HttpToolsProtocol):
    """uvicorn's own, with bounds on what a client may send that is neither a whole request nor a body, and on
    how long it may take.

    Whose client has gone is told so, also where the client had sent more requests behind it.
    """

    _head = 0
    """Bytes of a head that has begun and is not whole."""
    _is_whole = False
    """Whether the head of the request that is read is whole. What looks like a header then is a trailer."""
    _patience: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _running: RequestResponseCycle | None = None

    max_clients: ClassVar[int] = sys.maxsize
    """Connections of clients at most, see `have_files`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_clients:
            log.warning(
                "a connection is refused: %d clients are connected, and no more files may be open; raise "
                "`ulimit -n`, or let a proxy in front keep the connections",
                self.max_clients,
            )
            transport.abort()
            return
        self._be_patient()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._stop_waiting()
        super().connection_lost(exc)
        self._hang_up()
        if self._running is not None:
            self._running.message_event.set()

    def pause_writing(self) -> None:
        """The client does not read what is answered."""
        super().pause_writing()
        self._stop_waiting()
        self._unread = self.loop.call_later(READ_WITHIN, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_waiting()
        super().resume_writing()

    def _stop_waiting(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        begins = self._head == 0
        self._head += len(data)
        super().data_received(data)
        if self._head > MOST_HEAD:
            self._refuse(b"431 Request Header Fields Too Large")
        elif self._head and begins:
            self._be_patient()

    def _be_patient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience = self.loop.call_later(HEAD_WITHIN, self._lose_patience)

    def _lose_patience(self) -> None:
        """Ends a connection whose head did not come in time; not one that sent all, or is being answered."""
        self._patience = None
        if self.cycle is not None and not self.cycle.response_complete:
            if self._head:
                self._be_patient()
        elif self._head:
            self._refuse(b"408 Request Timeout")
        elif self.cycle is None and not self.transport.is_closing():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        super().send_400_response(msg)
        self._hang_up()

    def _hang_up(self) -> None:
        """What is being answered may come to its end, and is not written: the connection is closed."""
        for cycle in (self._running, self.cycle):  # uvicorn tells the last of several requests only
            if cycle is not None:
                cycle.disconnected = True

    def _refuse(self, status: bytes) -> None:
        if not self.transport.is_closing():
            head = b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(head % status)
            self.transport.close()
            self._hang_up()

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > MOST_URL:
            raise ValueError("URL too long")  # which ends the parse: 400

    def on_message_begin(self) -> None:
        self._is_whole = False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_whole:  # else a client could add to what a proxy in front has said of it
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MOST_WAITING:
            raise ValueError("too many requests wait")  # which ends the parse: 400
        super().on_headers_complete()
        self._head = 0
        self._is_whole = True
        if self.parser.should_upgrade():
            # What follows an upgrade is not read as a request, so say that nothing more is answered here.
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._head = 0

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._head = 0


def bind(host: str, port: int, patience: float = 0.0) -> socket.socket:
    """A listening socket. SettingsError: the address cannot be had, also not after `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            both = host == "::" and socket.has_dualstack_ipv6()
            made = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            number = error.errno or 0  # below 0 for a name that is not found
            why = os.strerror(number) if number > 0 else error.strerror or error
            other = "; `--port` takes another" if error.errno == errno.EADDRINUSE else ""
            raise SettingsError(f"cannot listen on {host} port {port}: {why}{other}") from None
        except (OverflowError, UnicodeError):
            raise SettingsError(f"cannot listen on {host} port {port}: no such address") from None
        return made


def have_files() -> None:
    """Raises the limit of open files as far as this process may, and warns where that is not far.

    Clients may have all of them but RESERVED. A connection beyond that is closed unanswered.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    if soft != resource.RLIM_INFINITY and soft < FEW_FILES:
        log.warning("only %d files may be open (ulimit -n): more connections at once are refused", soft)
    if soft != resource.RLIM_INFINITY:
        Protocol.max_clients = max(soft - RESERVED, soft // 4)


def run(listening: socket.socket, protocol: str = FAST) -> None:
    """Serves `pixel_server.app:app` on this socket until told to stop; exits with 3 if it cannot start."""
    have_files()
    config = uvicorn.Config(
        "pixel_server.app:app",
        factory=True,
        loop="uvloop",
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
    )
    # It warns of what is no request: a line whenever a stranger likes, and nothing to be done about it.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    server = uvicorn.Server(config)
    with contextlib.suppress(KeyboardInterrupt):  # raised by uvicorn once it has stopped
        server.run(sockets=[listening])
    if not server.started:
        sys.exit(3)
