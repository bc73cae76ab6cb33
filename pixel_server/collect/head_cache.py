"""Heads of requests, read as they came, without the parser; those of which nothing is one person's are kept.

A browser sends the same headers each time, and most mail is opened through a few clients and proxies. So a
head that came before, byte for byte, is not read again, and of another only the lines that are new are.

What is not plain is left to the parser: no line here is read in another way than there, or at all.
"""

from __future__ import annotations

import re

from pixel_server.collect.request_head import RequestHead

HEADS, LINES = 1024, 4096
"""Heads and lines that are kept, each of at most LONGEST_HEAD and LONGEST_LINE bytes as it came."""
LONGEST_HEAD, LONGEST_LINE = 2048, 512

_header = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([!-~](?:[ -~]*[!-~])?)?").fullmatch
NOT_PLAIN = frozenset((b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"proxy-connection"))
_CONNECTIONS = b"", b"keep-alive", b"close"
_COMMON = frozenset(
    (
        *(b"host", b"user-agent", b"accept", b"accept-encoding", b"accept-language", b"accept-charset"),
        *(b"referer", b"origin", b"connection", b"cache-control", b"pragma", b"priority", b"dnt", b"te"),
        *(b"sec-gpc", b"sec-purpose", b"purpose", b"x-purpose", b"x-moz", b"save-data", b"x-requested-with"),
        *(b"sec-fetch-dest", b"sec-fetch-mode", b"sec-fetch-site", b"sec-fetch-user", b"sec-ch-ua"),
        *(b"sec-ch-ua-mobile", b"sec-ch-ua-platform", b"upgrade-insecure-requests", b"x-forwarded-proto"),
        *(b"x-forwarded-host", b"x-forwarded-port"),
    )
)
"""Headers of which nothing is one person's alone; no other is kept, as a cookie or an address. Of a page's
address (`Referer`) that holds for its path; a query may name who reads it, or let them in."""

_Header = tuple[bytes, bytes]


class HeadCache:
    """Of one process. At most HEADS * (LONGEST_HEAD + 7 KB) + LINES * (2 * LONGEST_LINE + 200) bytes."""

    def __init__(self) -> None:
        self.known: dict[bytes, RequestHead] = {}
        self.lines: dict[bytes, _Header] = {}

    def read(self, rest: bytes) -> RequestHead | None:
        """rest: all of a request behind its first line. None: the parser must say what it is."""
        lines = rest.split(b"\r\n")
        if len(lines) < 3 or lines[0] or lines[-1] or lines[-2]:
            return None
        headers = []
        common = len(rest) <= LONGEST_HEAD
        for line in lines[1:-2]:
            header = self.lines.get(line)
            if header is None:
                header = _plain(line)
                if header is None:
                    return None
                if len(line) <= LONGEST_LINE and _is_common(*header):
                    self._keep(line, header)
                else:
                    common = False
            headers.append(header)
        head = RequestHead(headers)
        if head.headers.get(b"connection", b"").lower() not in _CONNECTIONS:
            return None
        if common:
            if len(self.known) >= HEADS:
                self.known.clear()  # those that come often are soon back
            self.known[rest] = head
        return head

    def _keep(self, line: bytes, header: _Header) -> None:
        if len(self.lines) >= LINES:
            self.lines.clear()
        self.lines[line] = header


def _is_common(name: bytes, value: bytes) -> bool:
    return name in _COMMON and not (name == b"referer" and b"?" in value)


def _plain(line: bytes) -> _Header | None:
    match = _header(line)
    if match is None:
        return None
    name, value = match[1].lower(), match[2] or b""
    return None if name in NOT_PLAIN else (name, value)
