"""The HTTP protocol of a process that hands connections over to another process; see `handover`."""

from __future__ import annotations

import asyncio
import os
from typing import Any, ClassVar

from pixel_server.collect.handover import Channel, Side, side_of
from pixel_server.collect.http_protocol import BoundedProtocol

GIVE_BACK_SECONDS = 0.02
"""Seconds between two checks whether the client has read its answer, so that the connection can go back."""


class HandoverProtocol(BoundedProtocol):
    """Hands a connection over when a request begins that the other process answers.

    Without a channel, this process answers all requests.
    """

    channel: ClassVar[Channel | None] = None
    """The channel to the other process, shared by all connections of this process."""
    side: ClassVar[Side] = Side.PIXELS
    """The kind of requests that this process answers: for pixels, or for pages."""

    __slots__ = ("_undecided", "first_bytes")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.first_bytes = b""
        """Bytes that the other process had read when it handed this connection over."""
        self._undecided = b""
        """The first bytes of a request whose side is not known yet."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.first_bytes and not transport.is_closing():
            data, self.first_bytes = self.first_bytes, b""
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        if (
            self.channel is not None
            and self._is_between_requests
            and (self.cycle is None or self.cycle.response_complete)
        ):
            kept = self._decide(data)
            if kept is None:
                return
            data = kept
        self._read(data)

    def _decide(self, data: bytes) -> bytes | None:
        """Returns the bytes that this process must read.

        Returns None while the side is not known, and if the connection was handed over or refused. data:
        bytes that came between two requests, while no request is being answered.
        """
        if self.channel is None:
            return data
        data = self._undecided + data
        side = side_of(data, self.app_state["prefix"])
        if side is None:
            if not self._undecided:
                self._unset_keepalive_if_required()
                self._restart_head_timer()
            self._undecided, self._head_bytes = data, len(data)
            return None
        if self._undecided:
            self._undecided, self._head_bytes = b"", 0
        if side is self.side or self.transport.get_write_buffer_size():
            return data
        if not self._hand_over(self.channel, data):
            self._refuse(b"503 Service Unavailable", b"retry-after: 2\r\n")
        return None

    def _hand_over(self, channel: Channel, data: bytes) -> bool:
        """Hands the connection over. Returns whether the other process has it now."""
        handle = os.dup(self.transport.get_extra_info("socket").fileno())
        try:
            is_sent = channel.send(handle, data)
        finally:
            os.close(handle)
        if is_sent:
            self.transport.abort()  # closes this descriptor only: the other process has its own
        return is_sent

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.channel is not None and self.side is Side.PAGES:
            self.loop.call_soon(self._give_back)

    def _give_back(self) -> None:
        """Gives an idle connection back, so that its next pixel does not wait for a page."""
        is_idle = (
            self.cycle.response_complete
            and self._is_between_requests
            and not self._undecided
            and not self._head_bytes
        )
        if self.channel is None or not is_idle or self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size():  # the client has not read the whole answer
            self.loop.call_later(GIVE_BACK_SECONDS, self._give_back)
        else:
            self._hand_over(self.channel, b"")
