"""The parameters that a page sends with a hit: in the query of its image, or in the body of a beacon."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from pixel_server import hit
from pixel_server.hit import cut_text

_NAMES = (b"u", b"r", b"v", b"c")
"""Names in a query: page, referrer, the page's own visitor id, consent to a cookie."""
_MAX_QUERY_BYTES = 16_384


class PageParams(NamedTuple):
    """Parameters that a page sends with a hit. page, referrer: URLs. own_id: the page's id of its visitor.

    agrees: whether the visitor agrees to a cookie. view: the page's id of this view, b"" if it gave none.
    spent_ms: ms for which the view was visible so far, if the hit reports them; -1 if the hit is a view.
    """

    page: str = ""
    referrer: str = ""
    own_id: bytes = b""
    agrees: bool = False
    view: bytes = b""
    spent_ms: int = -1


NO_PARAMS = PageParams()


def parse_query(query: bytes) -> PageParams:
    """Returns the parameters `u`, `r`, `v` and `c` of a query.

    If a name is repeated, its first value counts.
    """
    if not query:
        return NO_PARAMS
    values: dict[bytes, bytes] = {}
    for pair in query[:_MAX_QUERY_BYTES].split(b"&"):
        name, _, value = pair.partition(b"=")
        if name in _NAMES:
            values.setdefault(name, unquote_to_bytes(value.replace(b"+", b" ")))
    page, referrer, own_id, agrees = (values.get(name, b"") for name in _NAMES)
    return PageParams(cut_text(page, hit.MAX_URL), cut_text(referrer, hit.MAX_URL), own_id, agrees == b"1")
