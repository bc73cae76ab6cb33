"""The fast path: answers pixel requests without an ASGI scope or a task.

This is a uvicorn protocol. A plain pixel request is a GET or HEAD with HTTP/1.1, without body, Expect or
Upgrade, and without an unanswered request before it on its connection. Other requests go unchanged to
uvicorn's own protocol, which runs the app and its `PixelEndpoint`. Both ways use the same Admission and
Recorder, and give the same bytes.

If a read is exactly one GET with plain headers, the parser is not called at all; see `head_cache`. Other
plain requests are answered from the parser's callbacks.

While a request is on the fast path, it is the connection's `cycle`, which is uvicorn's name for the request
being answered. So uvicorn handles pipelined requests, graceful stop and lost connections as always.
"""

from __future__ import annotations

import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from pixel_server.collect import responses
from pixel_server.collect.admission import OPEN_PREFIX, PAGE_PREFIX, SUFFIX, Accepted, Admission
from pixel_server.collect.handover_protocol import HandoverProtocol
from pixel_server.collect.head_cache import NOT_PLAIN, HeadCache
from pixel_server.collect.image import GIF
from pixel_server.collect.lanes import Lanes
from pixel_server.collect.recorder import Recorder
from pixel_server.collect.request_head import RequestHead
from pixel_server.collect.responses import Answer
from pixel_server.tokens import decode_unreserved

_VERSION = b" HTTP/1.1"
_TAIL = SUFFIX + _VERSION
_TAIL_LENGTH = len(_TAIL)
MAX_PLAIN_URL_BYTES = 4096
"""Longest URL in bytes that is read here. The parser reads longer URLs, and may refuse them as too long."""

_plain_url = re.compile(rb"/[op]/[\w.~!$&'()*+,;=:@%/?-]*").fullmatch


class _IgnoredEvent:
    """Stands for the event that uvicorn sets when a request's body arrives. Nothing waits for it here."""

    def set(self) -> None:
        pass


class _FastCycle:
    """A request on the fast path, with the attributes that uvicorn reads.

    Each connection reuses one object.
    """

    __slots__ = ("disconnected", "keep_alive", "message_event", "more_body", "response_complete")

    def __init__(self) -> None:
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True
        self.more_body = False
        self.message_event = _IgnoredEvent()


class PixelProtocol(HandoverProtocol):
    """The server's protocol with the fast path in front.

    Admission, recorder and prefix come with the lifespan's state. `_pixel_starts` are the beginnings of pixel
    requests: `GET /o/`, which is also `_open_start`, and `GET /p/`. The token of a `GET /o/` begins at
    `_token_at`.
    """

    # All connections of the process share these.
    _head_cache = HeadCache()
    _encoded: dict[Answer, bytes] = {}  # noqa: RUF012 - shared on purpose
    """Whole answers to GET requests, with the Date header of this second."""
    _default_headers: list[Any] | None = None
    """uvicorn's headers in `_encoded`. uvicorn makes a new list each second."""

    __slots__ = (
        "_admission",
        "_answer_if_stored",
        "_answered_at",
        "_fast",
        "_get_start",
        "_is_head",
        "_open_start",
        "_pixel_starts",
        "_prefix",
        "_recorder",
        "_token_at",
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._admission: Admission = self.app_state["admission"]
        self._recorder: Recorder | Lanes = self.app_state["recorder"]
        self._prefix: bytes = self.app_state["prefix"]
        self._get_start = b"GET " + self._prefix
        self._open_start = self._get_start + OPEN_PREFIX
        self._token_at = len(self._open_start)
        self._pixel_starts = self._open_start, self._get_start + PAGE_PREFIX
        self._fast = _FastCycle()
        self._is_head = False
        self._answered_at = 0.0
        self._answer_if_stored = responses.RECORDED

    def data_received(self, data: bytes) -> None:
        """Answers a read that is exactly one plain GET of a pixel. Passes other reads on."""
        cycle = self.cycle
        if (  # `_is_free` is written out, to save a call for each hit
            self._is_between_requests
            and (cycle is None or cycle.response_complete)
            and not self.flow.write_paused
            and data.startswith(self._pixel_starts)
        ):
            line = data.find(b"\r\n")
            rest = data[line:]
            head = self._head_cache.heads.get(rest) or self._head_cache.read(rest)
            if head is not None and data.endswith(_TAIL, 0, line) and data.startswith(self._open_start):
                answer = self._admission.admit_open(
                    "GET", data[self._token_at : line - _TAIL_LENGTH], head, self._peer
                )
                if answer is not responses.BAD_TOKEN:  # the URL may have a query: the parser reads it
                    self._is_head = False
                    self._answer(answer, not head.is_last)
                    return
            elif head is not None and data.endswith(_VERSION, 0, line):
                url = data[len(self._get_start) : line - len(_VERSION)]
                if len(url) <= MAX_PLAIN_URL_BYTES and _plain_url(url) is not None:
                    path, _, query = url.partition(b"?")
                    self._is_head = False
                    answer = self._admission.admit("GET", decode_unreserved(path), query, head, self._peer)
                    self._answer(answer, not head.is_last)
                    return
        if self.cycle is self._fast and not self._fast.keep_alive:  # type: ignore[comparison-overlap]
            return  # bytes after `Connection: close` are ignored, as the parser ignores them
        if self.channel is not None and (self._is_between_requests or self._undecided) and self._is_free():
            kept = self._decide(data)
            self._is_between_requests = kept is not None
            if kept is None:
                return
            data = kept
        self._read(data)
        if self._head_bytes:
            self._is_between_requests = False  # the parser holds an unfinished head

    def on_message_begin(self) -> None:
        self._is_between_requests = self._head_is_whole = False
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_is_whole:
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
        self._is_between_requests = True
        if self.cycle is self._fast:  # type: ignore[comparison-overlap]
            self._head_bytes = 0
        else:
            super().on_message_complete()

    def timeout_keep_alive_handler(self) -> None:
        """Closes an idle connection.

        Waits longer if a request came meanwhile: to save time, requests do not set the timer again.
        """
        if self.cycle is self._fast and not self._fast.response_complete:  # type: ignore[comparison-overlap]
            self.timeout_keep_alive_task = None  # the answer sets the timer again
            return
        left_seconds = self._answered_at + self.timeout_keep_alive - self.loop.time()
        if left_seconds > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left_seconds, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def _is_free(self) -> bool:
        """Returns whether an answer may be written at once. This server sets no `limit_concurrency`."""
        return (self.cycle is None or self.cycle.response_complete) and not self.flow.write_paused

    def _answer_pixel(self) -> bool:
        """Answers a plain pixel request, now or when its hit is stored.

        Returns False if the request is not a plain pixel request.
        """
        url = self.url.removeprefix(self._prefix) if self._prefix else self.url
        if url[:3] not in (OPEN_PREFIX, PAGE_PREFIX) or b"#" in url or not url.isascii():
            return False
        method = self.parser.get_method()
        if method not in (b"GET", b"HEAD") or self.parser.get_http_version() != "1.1":
            return False
        head = RequestHead(self.headers)
        if not head.headers.keys().isdisjoint(NOT_PLAIN):
            return False
        path, _, query = url.partition(b"?")
        answer = self._admission.admit(method.decode(), decode_unreserved(path), query, head, self._peer)
        self._is_head = method == b"HEAD"
        self._answer(answer, self.parser.should_keep_alive())
        return True

    def _answer(self, answer: Answer | Accepted, keep_alive: bool) -> None:
        """Answers at once, or when the hit is stored."""
        fast = self._fast
        fast.response_complete = False
        fast.keep_alive = keep_alive
        self.cycle = fast  # type: ignore[assignment]
        if isinstance(answer, Answer):
            self._admission.answers[answer] += 1
            self._write(answer)
            return
        self._answer_if_stored = answer.answer
        if not self._recorder.record(answer.shard, answer.data, self._answered):
            self._write(responses.FULL)

    def _answered(self, stored: bool) -> None:
        self._write(self._answer_if_stored if stored else responses.NOT_STORED)

    def _write(self, answer: Answer) -> None:
        """Writes an answer. Takes its bytes from the cache of this second if they are there."""
        fast, transport = self._fast, self.transport
        fast.response_complete = True
        if fast.disconnected or transport.is_closing():
            return
        shared = PixelProtocol
        if shared._default_headers is not self.server_state.default_headers:
            shared._default_headers = self.server_state.default_headers
            shared._encoded = {}
        encoded = shared._encoded.get(answer) or self._encode(answer)
        if self._is_head:
            encoded = encoded[: -len(GIF)]
        if not fast.keep_alive:
            head, end, body = encoded.partition(b"\r\n\r\n")
            transport.write(head + b"\r\nconnection: close" + end + body)
            transport.close()
            self.on_response_complete()
            return
        transport.write(encoded)
        if self.pipeline or self.flow.read_paused or self.timeout_keep_alive_task is None:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
        self._answered_at = self.loop.time()

    def _encode(self, answer: Answer) -> bytes:
        """Returns the bytes of an answer to a GET request."""
        lines = [*self.server_state.default_headers, *answer.headers]
        head = STATUS_LINE[answer.status] + b"".join(b"%b: %b\r\n" % line for line in lines)
        encoded = head + b"\r\n" + GIF
        if not answer.is_single_use:
            PixelProtocol._encoded[answer] = encoded
        return encoded
