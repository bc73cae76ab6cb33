"""Reads the heads of requests without the parser, and caches the heads that hold nothing personal.

A browser sends the same headers each time, and most mail is opened through a few clients and proxies. So a
head that came before, byte for byte, is not read again. Lines that came before, in another head, are not read
again either.

A head that is not plain is left to the parser. A plain head is read exactly as the parser would read it.
"""

from __future__ import annotations

import re

from pixel_server.collect.request_head import RequestHead

MAX_HEADS, MAX_LINES = 1024, 4096
"""Maximum numbers of heads and lines in the cache."""
MAX_HEAD_BYTES, MAX_LINE_BYTES = 2048, 512
"""Maximum sizes of a cached head and a cached line, as received."""

_match_header = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([!-~](?:[ -~]*[!-~])?)?").fullmatch
NOT_PLAIN = frozenset((b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"proxy-connection"))
"""Headers that make a head not plain."""
_CONNECTIONS = b"", b"keep-alive", b"close"
"""Values of the header `Connection` in a plain head, b"" if it is absent."""
_IMPERSONAL = frozenset(
    (
        *(b"host", b"user-agent", b"accept", b"accept-encoding", b"accept-language", b"accept-charset"),
        *(b"referer", b"origin", b"connection", b"cache-control", b"pragma", b"priority", b"dnt", b"te"),
        *(b"sec-gpc", b"sec-purpose", b"purpose", b"x-purpose", b"x-moz", b"save-data", b"x-requested-with"),
        *(b"sec-fetch-dest", b"sec-fetch-mode", b"sec-fetch-site", b"sec-fetch-user", b"sec-ch-ua"),
        *(b"sec-ch-ua-mobile", b"sec-ch-ua-platform", b"upgrade-insecure-requests", b"x-forwarded-proto"),
        *(b"x-forwarded-host", b"x-forwarded-port"),
    )
)
"""Headers whose values do not belong to one person. Other headers, such as cookies, are never cached. A
`Referer` with a query is not cached either: it may name the reader or hold an access token."""

_Header = tuple[bytes, bytes]


class HeadCache:
    """The cache of one process.

    heads: the cached heads; the key is the bytes after the request line. lines: the cached headers; the key
    is the header's line.

    The cache takes at most MAX_HEADS * (MAX_HEAD_BYTES + 7 KB) + MAX_LINES * (2 * MAX_LINE_BYTES + 200)
    bytes.
    """

    def __init__(self) -> None:
        self.heads: dict[bytes, RequestHead] = {}
        self.lines: dict[bytes, _Header] = {}

    def read(self, rest: bytes) -> RequestHead | None:
        """Reads the head of a request that is not in `heads`, and caches it if it holds nothing personal.

        Returns None if the parser must read the head. rest: the bytes from the end of the first line on.
        """
        lines = rest.split(b"\r\n")
        if len(lines) < 3 or lines[0] or lines[-1] or lines[-2]:
            return None
        headers = []
        is_impersonal = len(rest) <= MAX_HEAD_BYTES
        for line in lines[1:-2]:
            header = self.lines.get(line)
            if header is None:
                header = _read_line(line)
                if header is None:
                    return None
                if len(line) <= MAX_LINE_BYTES and _is_impersonal(*header):
                    self._keep(line, header)
                else:
                    is_impersonal = False
            headers.append(header)
        head = RequestHead(headers)
        if head.headers.get(b"connection", b"").lower() not in _CONNECTIONS:
            return None
        if is_impersonal:
            if len(self.heads) >= MAX_HEADS:
                self.heads.clear()  # frequent heads are soon cached again
            self.heads[rest] = head
        return head

    def _keep(self, line: bytes, header: _Header) -> None:
        if len(self.lines) >= MAX_LINES:
            self.lines.clear()
        self.lines[line] = header


def _is_impersonal(name: bytes, value: bytes) -> bool:
    return name in _IMPERSONAL and not (name == b"referer" and b"?" in value)


def _read_line(line: bytes) -> _Header | None:
    """Returns the header in a line, None if the parser must read it."""
    match = _match_header(line)
    if match is None:
        return None
    name, value = match[1].lower(), match[2] or b""
    return None if name in NOT_PLAIN else (name, value)
