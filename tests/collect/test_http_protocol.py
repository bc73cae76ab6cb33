"""Timeouts: slow and silent clients are closed, unless their request is whole or being answered."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from uvicorn.server import ServerState

from pixel_server.collect import http_protocol
from pixel_server.collect.http_protocol import BoundedProtocol

PATIENCE = 0.3
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LATE = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
Story = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _work(request: Request) -> PlainTextResponse:
    """Answers after `s` seconds, with `kb` KB."""
    if size := int(request.query_params.get("kb", "0")) << 10:
        return PlainTextResponse("x" * size)
    await asyncio.sleep(float(request.query_params.get("s", "0")))
    return PlainTextResponse((await request.body()).decode() or "done")


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch) -> Callable[[Story], None]:
    """Returns a function that runs a story on one connection."""
    monkeypatch.setattr(http_protocol, "HEAD_TIMEOUT_SECONDS", PATIENCE)
    monkeypatch.setattr(BoundedProtocol, "_unread_bytes", {})
    app = Starlette(routes=[Route("/", _work, methods=["GET", "POST"])])
    config = uvicorn.Config(app, http=BoundedProtocol, ws="none", lifespan="off", log_config=None)
    config.load()

    async def run(story: Story) -> None:
        state = ServerState()

        def make_protocol() -> BoundedProtocol:
            return BoundedProtocol(config=config, server_state=state, app_state={})

        listening = await asyncio.get_running_loop().create_server(make_protocol, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
        await asyncio.wait_for(story(reader, writer), 60)
        writer.close()
        listening.close()

    return lambda story: asyncio.run(run(story))


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return await reader.readexactly(length)


def test_protocol_silent_client_is_closed(tell):
    async def story(reader, writer):
        assert await reader.read() == b""

    tell(story)


@pytest.mark.parametrize("before", [0, 1])
def test_protocol_slow_head_is_answered_408(tell, before):
    """The head is also late if whole requests came before it on the connection."""

    async def story(reader, writer):
        for _ in range(before):
            writer.write(GET)
            assert await answer(reader) == b"done"
        end = asyncio.ensure_future(reader.readexactly(len(LATE)))
        for byte in b"GET / HTTP/1.1\r\nX: " + b"x" * 1000:
            if end.done():
                break
            writer.write(bytes([byte]))
            await asyncio.sleep(PATIENCE / 20)
        assert await end == LATE
        with contextlib.suppress(ConnectionResetError):  # the last byte may arrive after the server closed
            assert await reader.read() == b""

    tell(story)


async def _go_on(writer: asyncio.StreamWriter) -> None:
    """Writes a piece of a head again and again until the server closes the connection."""
    while True:
        writer.write(b"GET")
        await writer.drain()
        await asyncio.sleep(0.01)


def test_protocol_client_that_does_not_read_is_closed(tell, monkeypatch):
    monkeypatch.setattr(http_protocol, "READ_TIMEOUT_SECONDS", PATIENCE)

    async def story(reader, writer):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(200):
            writer.write(GET.replace(b"/ ", b"/?kb=64 ", 1))
        await asyncio.sleep(3 * PATIENCE)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await _go_on(writer)

    tell(story)


def test_protocol_client_that_reads_slowly_is_served(tell, monkeypatch):
    monkeypatch.setattr(http_protocol, "READ_TIMEOUT_SECONDS", PATIENCE)

    async def story(reader, writer):
        writer.write(GET.replace(b"/ ", b"/?kb=4096 ", 1))
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-length: 4194304" in head
        for _ in range(16):
            await reader.readexactly(4194304 // 16)
            await asyncio.sleep(PATIENCE / 4)

    tell(story)


def test_protocol_silence_after_whole_request_is_allowed(tell):
    async def story(reader, writer):
        for _ in range(2):
            writer.write(GET)
            assert await answer(reader) == b"done"
            await asyncio.sleep(2 * PATIENCE)

    tell(story)


def test_protocol_slow_answer_comes_before_a_refusal(tell):
    async def story(reader, writer):
        writer.write(GET.replace(b"/ ", b"/?s=1 ", 1))
        await asyncio.sleep(PATIENCE / 3)
        writer.write(b"GET / HT")
        assert await answer(reader) == b"done"
        assert await reader.read() == LATE

    tell(story)


def test_protocol_head_in_time_after_a_slow_head_is_answered(tell):
    async def story(reader, writer):
        for _ in range(3):
            for part in (GET[:5], GET[5:20], GET[20:]):
                writer.write(part)
                await asyncio.sleep(PATIENCE / 4)
            assert await answer(reader) == b"done"

    tell(story)


def test_protocol_slow_body_is_read(tell):
    async def story(reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
        for byte in b"slow":
            await asyncio.sleep(PATIENCE / 2)
            writer.write(bytes([byte]))
        assert await answer(reader) == b"slow"

    tell(story)


KB = 16 << 10
"""KB of an answer that is larger than all buffers of the system."""


def _ask(writer: asyncio.StreamWriter, requests: int) -> None:
    """Requests answers of KB each, and does not read them."""
    writer.transport.pause_reading()
    for _ in range(requests):
        writer.write(GET.replace(b"/ ", b"/?kb=%d " % KB, 1))


async def _until(is_true: Callable[[], bool]) -> None:
    while not is_true():  # noqa: ASYNC110 - the condition has no event
        await asyncio.sleep(0.01)


def test_protocol_unread_answer_holds_the_next_request(tell, monkeypatch):
    """The app makes at most one answer before the client has read the last."""
    begun: list[str] = []
    start = BoundedProtocol._start_asgi_task

    def note(self, cycle, app):
        if not self.flow.write_paused:
            begun.append(cycle.scope["path"])
        start(self, cycle, app)

    monkeypatch.setattr(BoundedProtocol, "_start_asgi_task", note)

    async def story(reader, writer):
        _ask(writer, 50)
        await _until(lambda: bool(begun and BoundedProtocol._unread_bytes))
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(begun) == 1
        writer.transport.resume_reading()
        for _ in range(3):
            assert len(await answer(reader)) == KB << 10
        assert len(begun) <= 5

    tell(story)


def test_protocol_too_much_unread_closes_the_longest_unread(tell, monkeypatch):
    monkeypatch.setattr(http_protocol, "MAX_UNREAD_BYTES", 40 << 20)

    async def story(reader, writer):
        address = writer.get_extra_info("peername")
        clients = []
        for _ in range(4):
            clients.append(await asyncio.open_connection(*address[:2]))
            _ask(clients[-1][1], 1)
            begun = min(len(clients), 2)
            await _until(lambda begun=begun: len(BoundedProtocol._unread_bytes) >= begun)
        first_reader, first_writer = clients[0]
        first_writer.transport.resume_reading()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await answer(first_reader)
        last_reader, last_writer = clients[-1]
        last_writer.transport.resume_reading()
        assert len(await answer(last_reader)) == KB << 10
        for _, each in clients:
            each.close()

    tell(story)
