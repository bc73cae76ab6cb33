"""The head cache reads a head as the parser reads it, or leaves it to the parser."""

from __future__ import annotations

import tracemalloc

import pytest
from httptools import HttpParserError, HttpRequestParser
from hypothesis import example, given
from hypothesis import strategies as st

from pixel_server.collect.head_cache import (
    _IMPERSONAL,
    MAX_HEAD_BYTES,
    MAX_HEADS,
    MAX_LINE_BYTES,
    MAX_LINES,
    HeadCache,
)
from pixel_server.collect.request_head import RequestHead

LINE = b"GET /p/site.gif HTTP/1.1"
END = b"\r\n\r\n"


class Parsed:
    """The request that the parser reads from one read."""

    def __init__(self, sent: bytes) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.ends = 0
        self.body = b""
        self.keep_alive = True
        self._parser = HttpRequestParser(self)
        self._parser.feed_data(sent)
        self.version = self._parser.get_http_version()
        self.upgrades = self._parser.should_upgrade()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ends += 1
        self.keep_alive = self._parser.should_keep_alive()  # the parser forgets it after the end


names = st.sampled_from(
    [
        *(b"Host", b"User-Agent", b"accept-language", b"COOKIE", b"Connection", b"Proxy-Connection"),
        *(b"Content-Length", b"Transfer-Encoding", b"Upgrade", b"Expect", b"X-Forwarded-For", b"Sec-GPC"),
        *(b"X~1", b"X Y", b"", b" Host", b"Host ", b"H\xf6st", b"X\0"),
    ]
)
values = st.sampled_from(
    [
        *(b"", b" ", b"a", b" a", b"  a", b"\ta", b"a ", b" a\t", b"a b", b"a\tb", b"a, b", b"a:b", b"\xfc"),
        *(b" keep-alive", b" Close", b" close, x", b" upgrade", b" 0", b" 5", b" chunked", b" 100-continue"),
        *(b"a\rb", b"a\nb", b"a\0b", b"a\x7fb", b"a\x1bb", b"a\r\n b", b"a\r\n"),
    ]
)
lines = st.lists(st.builds(lambda name, value: name + b":" + value, names, values), max_size=6)
ends = st.sampled_from([END] * 6 + [b"\r\n", b"\n\n", b"\r\n\n", END + b"x", END + LINE + END])


@given(lines, ends)
@example([b"Host: a", b""], END)
@example([b"Host: a", b"", b"X: b"], END)
@example([b"Connection: Close"], END)
@example([b"Connection: keep-alive", b"Connection: close"], END)
def test_head_cache_any_head_is_read_as_by_the_parser(lines: list[bytes], end: bytes):
    rest = b"".join(b"\r\n" + line for line in lines) + end
    cache = HeadCache()
    for _ in range(2):  # first as a new head, then with known lines
        head = cache.read(rest)
        if head is None:
            return
        parsed = Parsed(LINE + rest)
        assert head.headers == RequestHead(parsed.headers).headers
        assert head.is_last == (not parsed.keep_alive)
        assert (parsed.ends, parsed.body, parsed.upgrades) == (1, b"", False)


@pytest.mark.parametrize(
    "rest",
    [
        b"\r\nHost: a\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nX-Forwarded-For: 192.0.2.1" + END,
        b"\r\nhost:a\r\nCookie: a=b; c=d\r\nConnection: keep-alive\r\nAccept:" + END,
        b"\r\nHost: a\r\nConnection: close" + END,
        END,
    ],
)
def test_head_cache_head_of_a_browser_or_proxy_is_read(rest: bytes):
    head, parsed = HeadCache().read(rest), Parsed(LINE + rest)
    assert head is not None
    assert head.headers == RequestHead(parsed.headers).headers
    assert head.is_last == (not parsed.keep_alive)


@pytest.mark.parametrize(
    "header",
    [
        *(b"Cookie: a=b", b"X-Forwarded-For: 192.0.2.1", b"CF-Connecting-IP: 192.0.2.1", b"Authorization: x"),
        b"Referer: https://shop.example/reset?for=ada",
    ],
)
def test_head_cache_personal_header_is_not_cached(header: bytes):
    cache = HeadCache()
    rest = b"\r\nHost: a\r\n" + header + END
    assert cache.read(rest) is not None
    assert cache.heads == {}
    assert list(cache.lines) == [b"Host: a"]


def test_head_cache_many_heads_stay_within_the_bounds():
    cache = HeadCache()
    for number in range(3 * MAX_LINES):
        cache.read(b"\r\nUser-Agent: %d%b" % (number, END))
        assert len(cache.heads) <= MAX_HEADS
        assert len(cache.lines) <= MAX_LINES
    cache = HeadCache()
    assert cache.read(b"\r\nReferer: " + b"a" * MAX_LINE_BYTES + END) is not None
    assert cache.read(b"".join(b"\r\nAccept: %d" % i for i in range(MAX_HEAD_BYTES)) + END) is not None
    assert cache.heads == {}
    assert max(map(len, cache.lines)) <= MAX_LINE_BYTES


def test_head_cache_memory_is_within_the_stated_bound():
    names = sorted(_IMPERSONAL - {b"connection"})
    cache = HeadCache()
    tracemalloc.start()
    for number in range(MAX_HEADS):
        sent = b"".join(b"\r\n%b:%06d%b" % (name, number, b"x" * 40) for name in names) + END
        assert len(sent) <= MAX_HEAD_BYTES
        cache.read(sent)
    assert len(cache.heads) == MAX_HEADS
    cache.lines.clear()  # lines and heads share their strings
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert MAX_HEAD_BYTES < held / MAX_HEADS < MAX_HEAD_BYTES + 7 * 1024


def test_head_cache_known_head_is_not_read_again():
    cache = HeadCache()
    rest = b"\r\nHost: a" + END
    assert cache.read(rest) is cache.heads[rest]


def test_head_cache_bad_line_is_left_to_the_parser():
    rest = b"\r\nX Y: a" + END
    assert HeadCache().read(rest) is None
    with pytest.raises(HttpParserError):
        Parsed(LINE + rest)
