"""uvicorn's HTTP protocol with bounds on what a client may send, keep waiting and leave unread."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import Any, ClassVar

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from pixel_server.logs import Log

log = Log(__name__)

MAX_HEAD_BYTES = 128 << 10
"""Bytes of the head of one request. uvicorn itself sets no bound."""
MAX_URL_BYTES = 65_535
"""Bytes of a URL that the URL parser accepts. uvicorn itself gathers more before it asks the parser."""
MAX_WAITING_REQUESTS = 256
"""Requests of one connection that may wait behind the request being answered. Each takes some KB of memory.
uvicorn itself queues all requests that it has read."""
KEEP_ALIVE_SECONDS = 30
"""Seconds until an idle connection is closed."""
HEAD_TIMEOUT_SECONDS = 30.0
"""Seconds that a client may take to send the head of a request, or be silent on a new connection."""
READ_TIMEOUT_SECONDS = 30.0
"""Seconds in which a client must read some 50 KB of its answer."""
MAX_UNREAD_BYTES = 32 << 20
"""Bytes that all clients of a process together may leave unread. Above this bound, the connections whose
answers have been unread longest are closed."""

_replace_non_ascii = re.compile(rb"[^\0-\x7f]").sub
_find_raw_line = re.compile(rb"(?:GET|HEAD|POST|OPTIONS) [^ \r\n]*[^\0-\x7f]").search
"""Finds what may be a request line with raw UTF-8 behind a body."""


def _percent_encode(line: bytes) -> bytes:
    """Returns a line with its bytes beyond ASCII percent-encoded: `b"/caf%C3%A9"` for `b"/caf\\xc3\\xa9"`."""
    return _replace_non_ascii(lambda match: b"%%%02X" % match[0][0], line)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds on heads, pipelined requests, time, and unread answers.

    It also tells every request of a connection that the client has gone. uvicorn tells the last request only.
    """

    max_clients: ClassVar[int] = sys.maxsize
    """Maximum number of clients' connections at once; see `listen.raise_file_limit`."""
    _unread_bytes: ClassVar[dict[BoundedProtocol, int]] = {}
    """Unread bytes of connections whose clients do not read, in the order in which they stopped reading."""

    # Slots, because CPython 3.11 looks attributes up slowly in an object that has more than 30 of them, and
    # uvicorn's protocol has 27.
    __slots__ = (
        "_head_bytes",
        "_head_is_whole",
        "_head_timer",
        "_held",
        "_is_between_requests",
        "_is_in_request_line",
        "_peer",
        "_running",
        "_unread_timer",
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._peer: str | None = None
        """Address of the client. None on a Unix socket."""
        self._head_bytes = 0
        """Number of bytes of a head that has begun and is not whole."""
        self._head_is_whole = False
        """Whether the head of the request being read is whole. Headers that follow it are trailers."""
        self._is_between_requests = True
        """Whether the next bytes begin a request."""
        self._is_in_request_line = False
        """Whether a request line is incomplete. False if an ASCII request precedes it in the same read."""
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._running: RequestResponseCycle | None = None
        """The request that the app is answering."""
        self._held: tuple[RequestResponseCycle, ASGI3Application] | None = None
        """The next request, and the app for it, while the client has not read the earlier answers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._peer = self.client[0] if self.client else None
        if len(self.connections) > self.max_clients:
            log.warning(
                "connection-refused",
                "a connection is refused: %(clients)d clients are connected, and no more files may be open; "
                "raise `ulimit -n`, or let a proxy in front keep the connections",
                clients=self.max_clients,
            )
            transport.abort()
            return
        self._restart_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._stop_unread_timer()
        self._held = None
        super().connection_lost(exc)
        self._mark_disconnected()
        if self._running is not None:
            self._running.message_event.set()

    def data_received(self, data: bytes) -> None:
        self._read(data)

    def _read(self, data: bytes) -> None:
        """Lets the parser read, and bounds the size and the time of the head."""
        begins_head = self._head_bytes == 0
        begins_request, continues_line = self._is_between_requests, self._is_in_request_line
        self._head_bytes += len(data)
        if data.isascii():
            super().data_received(data)
            line = data.lstrip(b"\r\n") if begins_request else data
            self._is_in_request_line = (
                self._head_bytes > 0 and (begins_request or continues_line) and b"\n" not in line
            )
        else:
            self._read_encoded(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")
        elif self._head_bytes and begins_head:
            self._restart_head_timer()

    def _read_encoded(self, data: bytes) -> None:
        """Reads bytes that are not ASCII. Percent-encodes request lines: the parser refuses raw UTF-8."""
        start = tries = 0
        while start < len(data) and not self.transport.is_closing():
            is_request_line = self._is_between_requests or self._is_in_request_line
            if is_request_line or not self._head_is_whole:
                end = data.find(b"\n", start) + 1 or len(data)
            else:
                # Only the parser knows where a body ends, so it reads up to what may be a request line. The
                # number of pieces is bounded: a body may hold many such lines.
                tries += 1
                found = tries <= MAX_WAITING_REQUESTS and _find_raw_line(data, start + 1)
                end = found.start() if found else len(data)
            line = data[start:end]
            super().data_received(_percent_encode(line) if is_request_line else line)
            self._is_in_request_line = is_request_line and not line.endswith(b"\n")
            start = end

    def _restart_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_SECONDS, self._end_late_head)

    def _end_late_head(self) -> None:
        """Ends a connection if a head is late or a new client is silent, but not during an answer."""
        self._head_timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            if self._head_bytes:
                self._restart_head_timer()
        elif self._head_bytes:
            self._refuse(b"408 Request Timeout")
        elif self.cycle is None and not self.transport.is_closing():
            self.transport.close()

    def pause_writing(self) -> None:
        """Starts the timeout of a client that does not read its answer."""
        super().pause_writing()
        self._stop_unread_timer()
        self._unread_timer = self.loop.call_later(READ_TIMEOUT_SECONDS, self.transport.abort)
        self._unread_bytes[self] = self.transport.get_write_buffer_size()
        if sum(self._unread_bytes.values()) > MAX_UNREAD_BYTES:
            # In the next turn of the event loop: `pause_writing` is called in the middle of a write.
            self.loop.call_soon(self._end_unread)

    def resume_writing(self) -> None:
        self._stop_unread_timer()
        super().resume_writing()
        if self._held is not None:
            held, self._held = self._held, None
            self._start_asgi_task(*held)

    def _end_unread(self) -> None:
        """Ends the connections that have been unread longest, until the others are within the bound."""
        for connection, size in list(self._unread_bytes.items()):
            if sum(self._unread_bytes.values()) <= MAX_UNREAD_BYTES:
                return
            del self._unread_bytes[connection]
            if size:
                connection.transport.abort()

    def _stop_unread_timer(self) -> None:
        self._unread_bytes.pop(self, None)
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self.flow.write_paused:
            self._held = cycle, app
            self.flow.pause_reading()
            return
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        super().send_400_response(msg)
        self._mark_disconnected()

    def _mark_disconnected(self) -> None:
        """Tells the requests of a closed connection that nothing more of their answers is written."""
        for cycle in (self._running, self.cycle):
            if cycle is not None:
                cycle.disconnected = True

    def _refuse(self, status: bytes, headers: bytes = b"") -> None:
        """Answers with an empty body and closes the connection. headers: whole lines, as they are sent."""
        if not self.transport.is_closing():
            head = b"HTTP/1.1 %b\r\n%bcontent-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(head % (status, headers))
            self.transport.close()
            self._mark_disconnected()

    def on_message_begin(self) -> None:
        self._head_is_whole = self._is_between_requests = False
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > MAX_URL_BYTES:
            raise ValueError("URL too long")  # the parser then answers 400

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_is_whole:  # a trailer could override a header that a proxy in front has set
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MAX_WAITING_REQUESTS:
            raise ValueError("too many requests wait")  # the parser then answers 400
        super().on_headers_complete()
        self._head_bytes = 0
        self._head_is_whole = True
        if self.parser.should_upgrade():
            # Bytes after an upgrade are not read as a request, so the connection must end after this answer.
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._head_bytes = 0

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._is_between_requests = True
        self._head_bytes = 0
