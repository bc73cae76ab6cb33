"""Runs the web process: uvicorn on a socket, and a process for pages beside the process for pixels."""

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

import uvicorn

from pixel_server.collect.handover import Channel, Side
from pixel_server.collect.http_protocol import KEEP_ALIVE, Protocol
from pixel_server.run.supervisor import Child, Keeper
from pixel_server.settings import SettingsError

log = logging.getLogger("pixel_server.run.listen")

GRACE = 5
BACKLOG = 2048
MOST_FILES, FEW_FILES = 65_536, 1_024
"""Open files, most of them connections: as many as are asked for, and fewer than which are told."""
RESERVED = 32
"""Open files that are kept from clients: for the spool, Redis, logs and pages."""
FAST = "pixel_server.collect.fast_path:PixelProtocol"
REFERENCE = PLAIN = "pixel_server.collect.http_protocol:Protocol"
"""Protocols by name: with the fast path for pixels, and without it, when the app answers all."""
APP, PIXELS, PAGES = (f"pixel_server.app:{name}" for name in ("app", "pixels", "pages_only"))
"""Apps by name: all in one process, pixels only, pages only."""
NICE = 10
"""How much the process for pages stands back where processors are scarce."""


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


class _Server(uvicorn.Server):
    """uvicorn's own, with a channel to the process for the other side.

    keeper: keeps that process running if it is a child of this one.
    """

    def __init__(
        self, config: uvicorn.Config, channel: Channel | None = None, keeper: Keeper | None = None
    ) -> None:
        super().__init__(config)
        self._channel = channel
        self._keeper = keeper

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._channel is not None:
            self._channel.listen(self._make)

    def _make(self, first: bytes) -> asyncio.Protocol:
        made: Protocol = self.config.http_protocol_class(  # type: ignore[call-arg, assignment]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        made.first = first
        return made

    async def on_tick(self, counter: int) -> bool:
        if self._keeper is not None:
            self._keeper.look()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._channel is not None:
            self._channel.ignore()
        for child in self._keeper.children if self._keeper is not None else ():
            child.stop()
        await super().shutdown(sockets)


def run(listening: socket.socket, protocol: str = FAST, app: str = APP) -> None:
    """Serves an app on this socket until told to stop; exits with 3 if it cannot start."""
    _run(_Server(_config(protocol, app)), [listening])


def run_both(listening: socket.socket) -> None:
    """Serves pixels in this process and pages in a child; see `handover`."""
    mine, theirs = Channel.pair()
    handle = theirs.fileno()
    keeper = Keeper([Child("pages", ["serve", "--beside", str(handle)], os.environ, [handle])])
    keeper.start()
    Protocol.channel, Protocol.side = Channel(mine), Side.PIXELS
    try:
        _run(_Server(_config(FAST, "pixel_server.app:beside_pages"), Protocol.channel, keeper), [listening])
    finally:
        keeper.stop()


def run_beside(handle: int) -> None:
    """Serves the pages of the connections that come through this end of a channel."""
    with contextlib.suppress(OSError):
        os.nice(NICE)
    Protocol.channel, Protocol.side = Channel(socket.socket(fileno=handle)), Side.PAGES
    _run(_Server(_config(PLAIN, PAGES), Protocol.channel), [])


def _config(protocol: str, app: str) -> uvicorn.Config:
    return uvicorn.Config(
        app,
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


def _run(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
    have_files()
    # It warns of what is no request: a line whenever a stranger likes, and nothing to be done about it.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    with contextlib.suppress(KeyboardInterrupt):  # raised by uvicorn once it has stopped
        server.run(sockets=sockets)
    if not server.started:
        sys.exit(3)
