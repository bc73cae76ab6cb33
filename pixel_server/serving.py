"""uvicorn, as this server runs it."""

from __future__ import annotations

import errno
import socket
import sys
import time

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pixel_server.settings import SettingsError

MOST_HEAD = 128 << 10
"""Bytes that the head of one request may have; uvicorn alone sets no bound."""
KEEP_ALIVE = 30
GRACE = 5
BACKLOG = 2048


class Protocol(HttpToolsProtocol):
    """uvicorn's own, with a bound on what a client may send before its request is complete."""

    _head = 0

    def data_received(self, data: bytes) -> None:
        self._head += len(data)
        super().data_received(data)
        if self._head > MOST_HEAD and not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
                b"content-length: 0\r\nconnection: close\r\n\r\n"
            )
            self.transport.close()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._head = -sys.maxsize  # a body follows, or nothing: not counted here

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._head = 0


def bind(host: str, port: int, patience: float = 0.0) -> socket.socket:
    """A listening socket. SettingsError: the address cannot be had, also not after `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            made = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            raise SettingsError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
        except OverflowError:
            raise SettingsError(f"cannot listen on {host} port {port}: no such port") from None
        return made


def run(listening: socket.socket) -> None:
    """Serves `pixel_server.app:app` on this socket until told to stop; exits with 3 if it cannot start."""
    config = uvicorn.Config(
        "pixel_server.app:app",
        factory=True,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
    )
    server = uvicorn.Server(config)
    server.run(sockets=[listening])
    if not server.started:
        sys.exit(3)
