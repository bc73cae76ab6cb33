"""The fast path: pixel requests answered straight from the parser's callbacks, without scope or task.

A uvicorn protocol. What is not a plain pixel request it hands to uvicorn's own, untouched, which runs the app
and its `Pixel`; both go through the same Door and Recorder, and give the same bytes. Plain: GET or HEAD,
HTTP/1.1, no body, no Expect or Upgrade, nothing unanswered before it on its connection.

A request on the fast path stands in uvicorn's place for "the request that is being answered" (`cycle`), so
that pipelined requests, graceful stop and a lost connection are handled by uvicorn as ever.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from pixel_server.collect import answers
from pixel_server.collect.answers import Answer
from pixel_server.collect.door import Door
from pixel_server.collect.pixel import by_name
from pixel_server.collect.recorder import Recorder
from pixel_server.image import GIF
from pixel_server.serving import Protocol

_NOT_PLAIN = (b"content-length", b"transfer-encoding", b"expect", b"upgrade")


class _Nothing:
    """Stands for the event that a request's body has arrived: nobody waits for it."""

    def set(self) -> None:
        pass


class _Cycle:
    """A request on the fast path, as uvicorn's protocol sees it. One a connection, used again and again."""

    __slots__ = ("disconnected", "keep_alive", "message_event", "more_body", "response_complete")

    def __init__(self) -> None:
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True
        self.more_body = False
        self.message_event = _Nothing()


class PixelProtocol(Protocol):
    """The server's protocol with the fast path in front. Its parts come with the lifespan's state."""

    _heads: dict[Answer, bytes] = {}  # noqa: RUF012 - shared on purpose: the heads of this second
    _heads_for: list[Any] | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._door: Door = self.app_state["door"]
        self._recorder: Recorder = self.app_state["recorder"]
        self._prefix: bytes = self.app_state["prefix"]
        self._fast = _Cycle()
        self._is_head = False

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._is_free() and self._answer_pixel():
            return
        headers, url = self.headers, self.url
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if self.cycle is self._fast:  # type: ignore[comparison-overlap]
            self._head = 0
        else:
            super().on_message_complete()

    def _is_free(self) -> bool:
        """Whether the next answer may be written at once, and uvicorn has no reason to refuse it."""
        return (
            (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
            and (self.limit_concurrency is None or len(self.connections) < self.limit_concurrency)
        )

    def _answer_pixel(self) -> bool:
        """Answers a plain pixel request, now or when its hit is stored. False: it is none."""
        url = self.url.removeprefix(self._prefix) if self._prefix else self.url
        if url[:3] not in (b"/o/", b"/p/") or b"#" in url or not url.isascii():
            return False
        method = self.parser.get_method()
        if method not in (b"GET", b"HEAD") or self.parser.get_http_version() != "1.1":
            return False
        headers = by_name(self.headers)
        if not headers.keys().isdisjoint(_NOT_PLAIN):
            return False
        path, _, query = url.partition(b"?")
        peer = self.client[0] if self.client else None
        answer = self._door.check(method.decode(), path, query, headers, peer)
        self._is_head = method == b"HEAD"
        self._fast.response_complete = False
        self._fast.disconnected = False
        self._fast.keep_alive = self.parser.should_keep_alive()
        self.cycle = self._fast  # type: ignore[assignment]
        if isinstance(answer, Answer):
            self._write(answer)
        elif not self._recorder.record(answer.shard, answer.data, self._answered):
            self._write(answers.FULL)
        return True

    def _answered(self, stored: bool) -> None:
        self._write(answers.RECORDED if stored else answers.NOT_STORED)

    def _write(self, answer: Answer) -> None:
        fast = self._fast
        fast.response_complete = True
        if fast.disconnected or self.transport.is_closing():
            return
        head = self._head_of(answer)
        if not fast.keep_alive:
            head = head[:-2] + b"connection: close\r\n\r\n"
        self.transport.write(head if self._is_head else head + GIF)
        if not fast.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _head_of(self, answer: Answer) -> bytes:
        """Status line and headers; uvicorn's default headers change once a second, by being another list."""
        kind = PixelProtocol
        if kind._heads_for is not self.server_state.default_headers:
            kind._heads_for = self.server_state.default_headers
            kind._heads = {}
        head = kind._heads.get(answer)
        if head is None:
            lines = [*self.server_state.default_headers, *answer.headers]
            head = STATUS_LINE[answer.status] + b"".join(b"%b: %b\r\n" % line for line in lines) + b"\r\n"
            kind._heads[answer] = head
        return head
