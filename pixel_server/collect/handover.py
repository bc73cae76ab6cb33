"""Hands connections over between two processes: one answers pixels, the other pages.

Only the process for pixels accepts connections. When a request for the other process begins, the connection's
file descriptor goes there through a socket pair, with the bytes read so far. The connection comes back the
same way once the request is answered. So a slow page never occupies the event loop that answers pixels, and a
proxy may send both kinds over one connection.

The process for pages answers requests that read. The process for pixels answers requests that write, so that
a withdrawal or a new campaign holds for pixels at once. Signing in sets only a cookie in the browser, so the
process for pages answers it. It also takes the events of mail services, because they may be many and change
nothing that pixels need at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import Callable
from enum import Enum
from urllib.parse import unquote_to_bytes

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pixel_server.collect.image import GIF
from pixel_server.logs import Log

log = Log(__name__)

INLINE_BYTES = 32 << 10
"""Bytes of a request that fit into one message. Longer requests are sent as a file in memory."""
MAX_START_BYTES = 4096
"""Bytes of an unfinished request line after which the process is chosen without the rest of the line."""
_BUFFER_BYTES = 1 << 20
"""Size of the socket buffers between the two processes."""
_CONNECTIONS_PER_TURN = 32
"""Maximum number of connections received in one turn of the event loop."""
_MISDIRECTED = "another process of this server answers this request; retry on a new connection"
_CLOSE = {"Connection": "close"}
_NO_PIXEL = {"X-Pixel": "failed; reason=elsewhere", "Cache-Control": "no-store"}
_may_be_start = re.compile(rb"[A-Z]{0,20}(?: [!-~\x80-\xff]*)?").fullmatch
_match_start = re.compile(rb"([A-Z]+) (?:https?://[^/?# \r\n]*)?(/[^ ?#\r\n]*)").match
_is_for_events = re.compile(rb"/in/.*|/api/campaigns/[^/]*/deliveries", re.DOTALL).fullmatch
_OTHER_PATHS_OF_PIXEL_PROCESS = frozenset((b"/healthz", b"/readyz", b"/p.js", b"/o", b"/p"))


class Side(Enum):
    """One of the two processes."""

    PIXELS = "pixels"
    PAGES = "pages"


def is_for_pixel_process(path: bytes, prefix: bytes) -> bool:
    """Returns whether the process for pixels answers this path: a pixel, the script, or a health check."""
    if b"%" in path:
        path = unquote_to_bytes(path)
    if prefix and path.startswith(prefix + b"/"):
        path = path[len(prefix) :]
    return path.startswith((b"/o/", b"/p/")) or path in _OTHER_PATHS_OF_PIXEL_PROCESS


def side_of_path(method: bytes, path: bytes, prefix: bytes) -> Side:
    """Returns the side that answers this method and this path, which may be percent-encoded."""
    if is_for_pixel_process(path, prefix):
        return Side.PIXELS
    is_for_pages = method == b"POST" and (path.endswith(b"/sign-in") or _takes_events(path, prefix))
    return Side.PAGES if is_for_pages or method in (b"GET", b"HEAD") else Side.PIXELS


def _takes_events(path: bytes, prefix: bytes) -> bool:
    """Returns whether events of mail services are sent to this path."""
    return _is_for_events(path.removeprefix(prefix)) is not None


def side_of(data: bytes, prefix: bytes) -> Side | None:
    """Returns the side that answers the request that begins with `data`, None if too few bytes have come.

    Bytes that are not a request belong to the process for pixels, which refuses them at little cost.
    """
    data = data.lstrip(b"\r\n")
    if not data:
        return Side.PIXELS
    line, _, _ = data.partition(b"\n")
    is_decidable = len(line) < len(data) or len(line) > MAX_START_BYTES
    start = _match_start(line)
    if start is None or (not is_decidable and start.end() == len(line)):
        return Side.PIXELS if is_decidable or _may_be_start(line) is None else None
    return side_of_path(start[1], start[2], prefix)


class Misdirected:
    """Answers 421 to requests for the other process, and ends the connection.

    Such a request comes if a client sends two requests at once for different processes, or if a proxy sends a
    request to the wrong process.
    """

    def __init__(
        self, app: ASGIApp, prefix: bytes, is_served_here: Callable[[bytes, bytes, bytes], bool]
    ) -> None:
        self._app = app
        self._prefix = prefix
        self._is_served_here = is_served_here

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope.get("raw_path") or scope["path"].encode()
            if not self._is_served_here(scope["method"].encode(), path, self._prefix):
                answer: Response = PlainTextResponse(_MISDIRECTED, 421, _CLOSE)
                if is_for_pixel_process(path, self._prefix):  # every answer to a pixel has the image
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
        """Returns the two ends of a new channel."""
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def send(self, connection: int, data: bytes) -> bool:
        """Sends a connection's descriptor and the bytes read from it.

        Returns False if the channel is full, or the other process is gone.
        """
        handles = [connection]
        try:
            if len(data) > INLINE_BYTES:
                handles.append(os.memfd_create("request"))
                with os.fdopen(os.dup(handles[1]), "wb") as file:
                    file.write(data)
                data = b""
            # A message is never empty: `receive` reads an empty message as the end of the other process.
            socket.send_fds(self._end, [b"+" + data], handles)
        except OSError:
            return False
        finally:
            for handle in handles[1:]:
                os.close(handle)
        return True

    def receive(self) -> tuple[socket.socket, bytes] | None:
        """Returns a connection and the bytes read from it, None if no connection waits.

        Raises EOFError if the other process is gone.
        """
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
        """Serves the connections that arrive.

        make: returns the protocol of a connection, given the bytes read from it.
        """
        loop = asyncio.get_running_loop()
        loop.add_reader(self._end.fileno(), self._receive_all, loop, make, set())

    def stop_listening(self) -> None:
        """Stops serving connections that arrive."""
        asyncio.get_running_loop().remove_reader(self._end.fileno())

    def _receive_all(
        self,
        loop: asyncio.AbstractEventLoop,
        make: Callable[[bytes], asyncio.Protocol],
        running: set[asyncio.Task[None]],
    ) -> None:
        """Serves waiting connections. Stops listening if the other process is gone."""
        for _ in range(_CONNECTIONS_PER_TURN):
            try:
                received = self.receive()
            except (EOFError, OSError) as error:
                log.error(
                    "handover-closed",
                    "the other process is gone (%(error)s); no connections come from it until it is "
                    "restarted",
                    error=error,
                )
                self.stop_listening()
                return
            if received is None:
                return
            task = loop.create_task(_serve(loop, make, *received))
            running.add(task)
            task.add_done_callback(running.discard)


async def _serve(
    loop: asyncio.AbstractEventLoop,
    make: Callable[[bytes], asyncio.Protocol],
    connection: socket.socket,
    data: bytes,
) -> None:
    """Serves a connection from the other process. data: the bytes that the other process read from it."""
    try:
        connection.setblocking(False)
        await loop.connect_accepted_socket(lambda: make(data), connection)
    except OSError:  # the client has gone
        with contextlib.suppress(OSError):
            connection.close()
