"""What a page says of a hit: in the query of its image, or in the body that `p.js` sends."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from pixel_server import hit
from pixel_server.hit import cut_text

_OURS = (b"u", b"r", b"v", b"c")


class PageParams(NamedTuple):
    """page, referrer: addresses. own: the page's own id of its visitor. agrees: to a cookie. view, spent: see
    `hit.Hit`; here the view is named as the page named it."""

    page: str = ""
    referrer: str = ""
    own: bytes = b""
    agrees: bool = False
    view: bytes = b""
    spent: int = -1


NO_PARAMS = PageParams()


def parse_query(query: bytes) -> PageParams:
    """`u`, `r`, `v` and `c`; the first of each counts."""
    if not query:
        return NO_PARAMS
    found: dict[bytes, bytes] = {}
    for pair in query[:16_384].split(b"&"):
        name, _, value = pair.partition(b"=")
        if name in _OURS:
            found.setdefault(name, unquote_to_bytes(value.replace(b"+", b" ")))
    page, referrer, own, agrees = (found.get(name, b"") for name in _OURS)
    return PageParams(cut_text(page, hit.MAX_URL), cut_text(referrer, hit.MAX_URL), own, agrees == b"1")
