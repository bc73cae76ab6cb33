"""uvicorn, as this server runs it."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import ClassVar

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from pixel_server.collect.handover import Channel, Side, side_of

log = logging.getLogger("pixel_server.collect.http_protocol")

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
MOST_UNREAD_BYTES = 32 << 20
"""Bytes that all clients of a process together may leave unread; beyond it the longest unread are cut off."""
GIVE_BACK_SECONDS = 0.02
"""Seconds from one look to the next whether an answer was read, before its connection goes back."""


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
    """Connections of clients at most, see `listen.raise_file_limit`."""
    channel: ClassVar[Channel | None] = None
    """The way to the process that answers the other side's requests, of all connections of this process."""
    side: ClassVar[Side] = Side.PIXELS
    first = b""
    """What was read of this connection before it was handed over to this process."""
    _peer: str | None = None
    """Address of the client, None on a Unix socket."""
    _begun = b""
    """Bytes of a request whose side is not known yet."""
    _between = True
    """Whether what is read next begins a request."""
    _held: tuple[RequestResponseCycle, ASGI3Application] | None = None
    """The next request of a client that has not read the answers before it."""
    _unread_bytes: ClassVar[dict[Protocol, int]] = {}
    """Connections of this process whose clients do not read, the one that stopped first at the front."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._peer = self.client[0] if self.client else None
        if len(self.connections) > self.max_clients:
            log.warning(
                "a connection is refused: %d clients are connected, and no more files may be open; raise "
                "`ulimit -n`, or let a proxy in front keep the connections",
                self.max_clients,
            )
            transport.abort()
            return
        self._be_patient()
        if self.first:
            data, self.first = self.first, b""
            self.data_received(data)

    def _own(self, data: bytes) -> bytes | None:
        """Returns the bytes that this process reads, None if they wait to be known or were handed over.

        Called with what is read between two requests, when nothing is being answered.
        """
        if self.channel is None:
            return data
        data = self._begun + data
        side = side_of(data, self.app_state["prefix"])
        if side is None:
            if not self._begun:
                self._unset_keepalive_if_required()
                self._be_patient()
            self._begun, self._head = data, len(data)
            return None
        if self._begun:
            self._begun, self._head = b"", 0
        if side is self.side or self.transport.get_write_buffer_size():
            return data
        if not self._hand_over(self.channel, data):
            self._refuse(b"503 Service Unavailable", b"retry-after: 2\r\n")
        return None

    def _hand_over(self, channel: Channel, data: bytes) -> bool:
        handle = os.dup(self.transport.get_extra_info("socket").fileno())
        try:
            is_sent = channel.send(handle, data)
        finally:
            os.close(handle)
        if is_sent:
            self.transport.abort()  # the connection lives on in the other process
        return is_sent

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.channel is not None and self.side is Side.PAGES:
            self.loop.call_soon(self._give_back)

    def _give_back(self) -> None:
        """Gives an idle connection back, so that a pixel that comes next on it waits for no page."""
        is_idle = self.cycle.response_complete and self._between and not self._begun and not self._head
        if self.channel is None or not is_idle or self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size():  # the answer is still on its way
            self.loop.call_later(GIVE_BACK_SECONDS, self._give_back)
        else:
            self._hand_over(self.channel, b"")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._stop_waiting()
        self._held = None
        super().connection_lost(exc)
        self._hang_up()
        if self._running is not None:
            self._running.message_event.set()

    def pause_writing(self) -> None:
        """The client does not read what is answered."""
        super().pause_writing()
        self._stop_waiting()
        self._unread = self.loop.call_later(READ_WITHIN, self.transport.abort)
        self._unread_bytes[self] = self.transport.get_write_buffer_size()
        if sum(self._unread_bytes.values()) > MOST_UNREAD_BYTES:
            # Later: this is called in the middle of a write.
            self.loop.call_soon(self._end_unread)

    def _end_unread(self) -> None:
        """Ends the connections that have been unread longest, until the rest is within the bound."""
        for each, size in list(self._unread_bytes.items()):
            if sum(self._unread_bytes.values()) <= MOST_UNREAD_BYTES:
                return
            del self._unread_bytes[each]
            if size:
                each.transport.abort()

    def resume_writing(self) -> None:
        self._stop_waiting()
        super().resume_writing()
        if self._held is not None:
            held, self._held = self._held, None
            self._start_asgi_task(*held)

    def _stop_waiting(self) -> None:
        self._unread_bytes.pop(self, None)
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self.flow.write_paused:
            self._held = cycle, app
            self.flow.pause_reading()
            return
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        if (
            self.channel is not None
            and self._between
            and (self.cycle is None or self.cycle.response_complete)
        ):
            own = self._own(data)
            if own is None:
                return
            data = own
        self._read(data)

    def _read(self, data: bytes) -> None:
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

    def _refuse(self, status: bytes, more: bytes = b"") -> None:
        if not self.transport.is_closing():
            head = b"HTTP/1.1 %b\r\n%bcontent-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(head % (status, more))
            self.transport.close()
            self._hang_up()

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > MOST_URL:
            raise ValueError("URL too long")  # which ends the parse: 400

    def on_message_begin(self) -> None:
        self._is_whole = self._between = False
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
        self._between = True
        self._head = 0
