"""Hands connections over between two processes: one answers pixels, the other pages.

Only the process for pixels accepts connections. When a request begins that is for the other process, the
connection's file descriptor goes there through a socket pair, with the bytes read so far. The connection
comes back the same way once it is answered. So pages, however dear, never occupy the event loop that answers
pixels, and a proxy may send both over one connection.

Requests that read go to the process for pages. Requests that write are answered beside the pixels, so that a
withdrawal or a new campaign holds for pixels at once; signing in is a write to nobody but the browser.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
from collections.abc import Callable
from enum import Enum
from urllib.parse import unquote_to_bytes

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pixel_server.collect.image import GIF

log = logging.getLogger("pixel_server.collect.handover")

INLINE_BYTES = 32 << 10
"""Bytes of a request that travel inside one message; more of them travel as a file in memory."""
LONGEST_START = 4096
"""Bytes of a request line after which the side is decided by what there is."""
_BUFFER_BYTES = 1 << 20
_AT_A_TIME = 32
"""Connections taken between two turns of the event loop."""
_ELSEWHERE = "this is answered by another process of this server; ask again on a new connection"
_CLOSE = {"Connection": "close"}
_NO_PIXEL = {"X-Pixel": "failed; reason=elsewhere", "Cache-Control": "no-store"}
_may_start = re.compile(rb"[A-Z]{0,20}(?: [!-~]*)?").fullmatch
_start = re.compile(rb"([A-Z]+) (?:https?://[^/?# \r\n]*)?(/[^ ?#\r\n]*)").match
_PIXELS_TOO = frozenset((b"/healthz", b"/readyz", b"/p.js", b"/o", b"/p"))


class Side(Enum):
    """Which process answers a request."""

    PIXELS = "pixels"
    PAGES = "pages"


def is_pixel(path: bytes, prefix: bytes) -> bool:
    """Whether this is the path of a pixel, of what pages with pixels load, or of a health check."""
    if b"%" in path:
        path = unquote_to_bytes(path)
    if prefix and path.startswith(prefix + b"/"):
        path = path[len(prefix) :]
    return path.startswith((b"/o/", b"/p/")) or path in _PIXELS_TOO


def side_of_path(method: bytes, path: bytes, prefix: bytes) -> Side:
    """Returns the side that answers this method and this path, which may be percent-encoded."""
    if is_pixel(path, prefix):
        return Side.PIXELS
    is_sign_in = method == b"POST" and path.endswith(b"/sign-in")
    return Side.PAGES if is_sign_in or method in (b"GET", b"HEAD") else Side.PIXELS


def side_of(data: bytes, prefix: bytes) -> Side | None:
    """Returns the side that answers the request that begins here, None while too little of it has come.

    What is not a request stays beside the pixels, where it is refused at little cost.
    """
    data = data.lstrip(b"\r\n")
    if not data:
        return Side.PIXELS
    line, _, _ = data.partition(b"\n")
    is_whole = len(line) < len(data) or len(line) > LONGEST_START
    found = _start(line)
    if found is None or (not is_whole and found.end() == len(line)):
        return Side.PIXELS if is_whole or _may_start(line) is None else None
    return side_of_path(found[1], found[2], prefix)


class Misdirected:
    """Answers 421 to what is not answered in this process, and ends the connection.

    Such a request comes if a client sent it behind another one without waiting, or if a proxy is set up so.
    """

    def __init__(self, app: ASGIApp, prefix: bytes, is_here: Callable[[bytes, bytes, bytes], bool]) -> None:
        self._app = app
        self._prefix = prefix
        self._is_here = is_here

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope.get("raw_path") or scope["path"].encode()
            if not self._is_here(scope["method"].encode(), path, self._prefix):
                answer: Response = PlainTextResponse(_ELSEWHERE, 421, _CLOSE)
                if is_pixel(path, self._prefix):  # whatever becomes of it, a pixel is the image
                    answer = Response(GIF, 421, {**_CLOSE, **_NO_PIXEL}, "image/gif")
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


class Channel:
    """One end of the socket pair between the two processes."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        self._end = end

    @staticmethod
    def pair() -> tuple[socket.socket, socket.socket]:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def send(self, connection: int, data: bytes) -> bool:
        """Sends a connection's descriptor and what was read of it. False if the other side has no room."""
        handles = [connection]
        try:
            if len(data) > INLINE_BYTES:
                handles.append(os.memfd_create("request"))
                with os.fdopen(os.dup(handles[1]), "wb") as file:
                    file.write(data)
                data = b""
            socket.send_fds(self._end, [b"+" + data], handles)
        except OSError:  # full, or nobody is there
            return False
        finally:
            for handle in handles[1:]:
                os.close(handle)
        return True

    def receive(self) -> tuple[socket.socket, bytes] | None:
        """Returns a connection and what was read of it, None if none waits. Raises EOFError at the end."""
        try:
            message, handles, _, _ = socket.recv_fds(self._end, INLINE_BYTES + 1, 2)
        except (BlockingIOError, InterruptedError):
            return None
        if not message or not handles:
            raise EOFError
        connection, data = socket.socket(fileno=handles[0]), message[1:]
        if len(handles) > 1:
            with os.fdopen(handles[1], "rb") as file:
                file.seek(0)
                data = file.read()
        return connection, data

    def listen(self, make: Callable[[bytes], asyncio.Protocol]) -> None:
        """Serves what comes. make: gives the protocol of a connection of which these bytes were read."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._end.fileno(), self._take, loop, make, set())

    def ignore(self) -> None:
        """Serves nothing more that comes."""
        asyncio.get_running_loop().remove_reader(self._end.fileno())

    def _take(
        self,
        loop: asyncio.AbstractEventLoop,
        make: Callable[[bytes], asyncio.Protocol],
        running: set[asyncio.Task[None]],
    ) -> None:
        for _ in range(_AT_A_TIME):
            try:
                found = self.receive()
            except (EOFError, OSError) as error:
                log.error(
                    "handover: the other process's end is gone (%s); no connections come from it", error
                )
                self.ignore()
                return
            if found is None:
                return
            task = loop.create_task(_begin(loop, make, *found))
            running.add(task)
            task.add_done_callback(running.discard)


async def _begin(
    loop: asyncio.AbstractEventLoop,
    make: Callable[[bytes], asyncio.Protocol],
    connection: socket.socket,
    data: bytes,
) -> None:
    try:
        connection.setblocking(False)
        await loop.connect_accepted_socket(lambda: make(data), connection)
    except OSError:  # its client has gone
        with contextlib.suppress(OSError):
            connection.close()
