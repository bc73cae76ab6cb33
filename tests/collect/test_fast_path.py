"""The fast path: what it caches from one request for the next, and how it ends connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvicorn
from uvicorn.server import ServerState

from pixel_server.campaigns.cache import CampaignCache
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.collect import recorder as recorder_module
from pixel_server.collect.admission import Admission
from pixel_server.collect.fast_path import PixelProtocol
from pixel_server.collect.group import AnswerCallback
from pixel_server.collect.head_cache import HeadCache
from pixel_server.collect.http_protocol import MAX_HEAD_BYTES
from pixel_server.collect.redis_sink import RedisSink
from pixel_server.consent import Consent
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from tests.collect.corpus import MAIL, RECIPIENT_SECRET, SECRET, request


class Wire(asyncio.Transport):
    """A transport that collects the bytes written to it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("203.0.113.9", 4711), "sockname": ("127.0.0.1", 80)})
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def take(self) -> bytes:
        taken, self.written = self.written, b""
        return taken

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return len(self.written)


class Recorder:
    """A recorder whose hits are stored when the test calls `stored`."""

    def __init__(self) -> None:
        self.waiting: list[AnswerCallback] = []

    def record(self, shard: int | None, data: bytes, answered: AnswerCallback) -> bool:
        self.waiting.append(answered)
        return True

    def stored(self, stored: bool = True) -> None:
        self.waiting.pop(0)(stored)


async def app(scope: object, receive: object, send: object) -> None:
    raise AssertionError("not a plain pixel request")


def serve(story: Callable[[Callable[[], PixelProtocol], Recorder], None]) -> None:
    """Calls a story with a function that makes connections, and with their recorder."""
    asyncio.run(_serve(story))


async def _serve(story: Callable[[Callable[[], PixelProtocol], Recorder], None]) -> None:
    secrets = Secrets.derive((SECRET,), RECIPIENT_SECRET)
    campaigns = CampaignCache(None, Consent(Settings()))
    campaigns.learn(new_campaign("shop", "Shop", "web", identity="cookie"))
    admission = Admission(Settings(), secrets, campaigns, Consent(Settings()), ())
    recorder, state = Recorder(), ServerState()
    config = uvicorn.Config(app, http=PixelProtocol, ws="none", lifespan="off", log_config=None)
    config.load()
    parts = {"admission": admission, "recorder": recorder, "prefix": b""}
    PixelProtocol._head_cache = HeadCache()

    def connect() -> PixelProtocol:
        connection = PixelProtocol(config=config, server_state=state, app_state=parts)
        connection.connection_made(Wire())
        return connection

    story(connect, recorder)
    for connection in list(state.connections):
        connection.connection_lost(None)


def ask(connection: PixelProtocol, recorder: Recorder, sent: bytes, stored: bool = True) -> bytes:
    """Sends a request, stores its hit, and returns the answer."""
    connection.data_received(sent)
    if recorder.waiting:
        assert connection.transport.take() == b""
        recorder.stored(stored)
    return connection.transport.take()


COOKIES = [b"Cookie: px-no=1", b"Cookie: a=b", b"Cookie: px-no=0", b"cookie: px-no=1"]


@pytest.mark.parametrize("header", COOKIES)
def test_fast_path_head_with_cookie_is_not_cached(header: bytes):
    def story(connect, recorder):
        connection = connect()
        for _ in range(4):
            says = ask(connection, recorder, request(MAIL, b"User-Agent: A", header))
            assert (b"reason=opted-out" in says) == header.endswith(b"=1")
        assert PixelProtocol._head_cache.heads == {}
        for _ in range(4):
            assert b"recorded" in ask(connection, recorder, request(MAIL, b"User-Agent: A"))
        assert len(PixelProtocol._head_cache.heads) == 1, "others are, or this test shows nothing"

    serve(story)


def test_fast_path_single_use_answer_is_not_cached():
    def story(connect, recorder):
        connection = connect()
        plain = request(b"/p/shop.gif")
        for _ in range(3):
            assert b"set-cookie" not in ask(connection, recorder, plain)
        before = dict(PixelProtocol._encoded)
        answers = {ask(connection, recorder, request(b"/p/shop.gif?c=1")) for _ in range(20)}
        assert len(answers) == 20
        assert all(b"\r\nset-cookie: px_shop=" in answer for answer in answers)
        assert before == PixelProtocol._encoded
        assert b"set-cookie" not in ask(connection, recorder, plain)

    serve(story)


def test_fast_path_hit_not_stored_sets_no_cookie():
    def story(connect, recorder):
        connection = connect()
        failed = ask(connection, recorder, request(b"/p/shop.gif?c=1"), stored=False)
        assert failed.startswith(b"HTTP/1.1 503 ")
        assert b"set-cookie" not in failed
        assert b"set-cookie" in ask(connection, recorder, request(b"/p/shop.gif?c=1"))

    serve(story)


def test_fast_path_answers_go_to_their_connections():
    def story(connect, recorder):
        first, second = connect(), connect()
        first.data_received(request(b"/p/shop.gif?c=1"))
        second.data_received(request(b"/p/shop.gif"))
        recorder.stored()
        recorder.stored()
        assert b"set-cookie" in first.transport.take()
        assert b"set-cookie" not in second.transport.take()

    serve(story)


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_fast_path_bytes_after_the_last_request_are_ignored(method: bytes):
    def story(connect, recorder):
        connection = connect()
        connection.data_received(request(MAIL, b"Connection: close", method=method))
        connection.data_received(b"noise\r\n\r\n")
        recorder.stored()
        received = connection.transport.take()
        assert received.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in received

    serve(story)


def test_fast_path_empty_lines_do_not_add_up():
    def story(connect, recorder):
        connection = connect()
        for _ in range(3):
            connection.data_received(b"\r\n" * (MAX_HEAD_BYTES // 4 - 1))
            assert ask(connection, recorder, request()).startswith(b"HTTP/1.1 200 ")
            assert ask(connection, recorder, request()).startswith(b"HTTP/1.1 200 ")

    serve(story)


def test_fast_path_client_that_does_not_read_is_closed():
    def story(connect, recorder):
        connection = connect()
        ask(connection, recorder, request())
        connection.pause_writing()
        connection.timeout_keep_alive_handler()
        assert connection.timeout_keep_alive_task is not None
        connection.resume_writing()
        connection.data_received(request())
        connection.timeout_keep_alive_handler()
        assert connection.timeout_keep_alive_task is None, "it is not idle"
        recorder.stored()
        assert connection.timeout_keep_alive_task is not None

    serve(story)


def test_fast_path_objects_keep_their_attributes_fast():
    """CPython finds an attribute quickly if an object has slots, or at most 30 attributes without them."""

    def story(connect, recorder):
        connection = connect()
        ask(connection, recorder, request(MAIL, b"User-Agent: A"))
        ask(connection, recorder, b"GET /o/%2D.gif HTTP/1.1\r\nHost: a\r\n\r\n")  # read by the parser
        for used in (connection, connection._fast, connection._admission):
            assert len(getattr(used, "__dict__", ())) <= 30, type(used)

    serve(story)
    recorder = recorder_module.Recorder(RedisSink("redis://127.0.0.1"), 4, 1 << 20)
    assert len(vars(recorder)) <= 30
