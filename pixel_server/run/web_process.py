"""Runs the web process: uvicorn on a socket. Pixels and pages share the process, or have a process each."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys

import uvicorn

from pixel_server import lifeline, logs
from pixel_server.collect.handover import Channel, Side
from pixel_server.collect.handover_protocol import HandoverProtocol
from pixel_server.collect.http_protocol import KEEP_ALIVE_SECONDS
from pixel_server.run.listen import raise_file_limit
from pixel_server.run.supervisor import Child, Keeper

GRACE_SECONDS = 5
"""Largest number of seconds for which the process waits for open requests after it is told to stop."""
FAST_PROTOCOL = "pixel_server.collect.fast_path:PixelProtocol"
PLAIN_PROTOCOL = "pixel_server.collect.handover_protocol:HandoverProtocol"
"""Import paths of the protocols. The first has the fast path for pixels. With the second, the app answers
every request."""
WHOLE_APP, PIXELS_APP, PAGES_APP, METRICS_APP = (
    f"pixel_server.app:{name}" for name in ("app", "pixels_only", "pages_only", "metrics_only")
)
"""Apps by name: everything in one process, pixels only, pages only, metrics only."""
NICENESS = 10
"""Niceness of the process for pages: where processors are scarce, pixels come first."""


class _Server(uvicorn.Server):
    """A uvicorn server, with a channel to the other process if pixels and pages have a process each."""

    def __init__(
        self, config: uvicorn.Config, channel: Channel | None = None, keeper: Keeper | None = None
    ) -> None:
        """keeper: keeps the other process running, if this process is its parent."""
        super().__init__(config)
        self._channel = channel
        self._keeper = keeper

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._heartbeat = asyncio.create_task(lifeline.keep_beating())  # ends with the event loop
        await super().startup(sockets)
        if self._channel is not None:
            self._channel.listen(self._make_protocol)

    def _make_protocol(self, first: bytes) -> asyncio.Protocol:
        """Returns the protocol of a connection that was handed over. first: bytes read from it so far."""
        protocol: HandoverProtocol = self.config.http_protocol_class(  # type: ignore[call-arg, assignment]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        protocol.first_bytes = first
        return protocol

    async def on_tick(self, counter: int) -> bool:
        if self._keeper is not None:
            self._keeper.check()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._channel is not None:
            self._channel.stop_listening()
        children = self._keeper.services if self._keeper is not None else ()
        for child in children:
            child.stop()
        await super().shutdown(sockets)
        # uvicorn then ends this process by the signal that it has got, so `keeper.stop` is not reached.
        for child in children:
            child.wait(GRACE_SECONDS)


def serve(listening: socket.socket, protocol: str = FAST_PROTOCOL, app: str = WHOLE_APP) -> None:
    """Serves an app on this socket until told to stop. Exits with code 3 if the app cannot start."""
    _run(_Server(_config(protocol, app)), [listening])


def serve_pixels_beside_pages(listening: socket.socket, hang_seconds: float) -> None:
    """Serves pixels in this process, and pages in a child; see `collect.handover`.

    hang_seconds: seconds without a heartbeat after which the child is killed, 0 for never.
    """
    own_end, childs_end = Channel.pair()
    handle = childs_end.fileno()
    pages = Child("pages", ["serve", "--beside", str(handle)], os.environ, [handle])
    keeper = Keeper([pages], hang_seconds)
    keeper.start()
    HandoverProtocol.channel, HandoverProtocol.side = Channel(own_end), Side.PIXELS
    server = _Server(
        _config(FAST_PROTOCOL, "pixel_server.app:beside_pages"), HandoverProtocol.channel, keeper
    )
    try:
        _run(server, [listening])
    finally:
        keeper.stop()


def serve_pages_beside_pixels(handle: int) -> None:
    """Serves pages on the connections that come through a channel. handle: the descriptor of this end."""
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    HandoverProtocol.channel, HandoverProtocol.side = Channel(socket.socket(fileno=handle)), Side.PAGES
    _run(_Server(_config(PLAIN_PROTOCOL, PAGES_APP), HandoverProtocol.channel), [])


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
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _run(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
    raise_file_limit()
    # A name that could not be resolved in time: whoever gave up has reported it. uvloop logs it again.
    logs.leave_out("asyncio", lambda error: isinstance(error, socket.gaierror))
    with contextlib.suppress(KeyboardInterrupt):  # raised by uvicorn once it has stopped
        server.run(sockets=sockets)
    if not server.started:
        sys.exit(3)
