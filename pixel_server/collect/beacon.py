"""Beacons, which `p.js` sends with POST: reads the body within bounds, and checks the page's origin."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated

import msgspec
from starlette.types import Receive

from pixel_server import hit
from pixel_server.campaigns.origins import is_listed
from pixel_server.collect import responses
from pixel_server.collect.page_params import PageParams
from pixel_server.collect.responses import Answer
from pixel_server.hit import cut_text
from pixel_server.times import DAY_MS

MAX_BODY_BYTES = 4096
BODY_TIMEOUT_SECONDS = 10.0
"""Seconds that a body may take to arrive."""
_TYPES = (b"text/plain", b"application/json")
"""`sendBeacon` sends text as text/plain. Other types would need a CORS preflight first."""
_is_origin = re.compile(rb"https?://[!-~]{1,300}|null").fullmatch
"""`null` is the origin of sandboxed frames."""


class _Body(msgspec.Struct):
    """The body of a beacon. i: the page's id of this view. u, r, v: as in a pixel's query (`page_params`).

    c: 1 if the visitor agrees to a cookie. t: ms that the view was visible so far, None in the first beacon.
    """

    i: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{1,32}\Z")]
    u: str = ""
    r: str = ""
    v: str = ""
    c: float = 0
    t: Annotated[float, msgspec.Meta(ge=0)] | None = None


_decode = msgspec.json.Decoder(_Body).decode


async def read_body(headers: dict[bytes, bytes], receive: Receive) -> PageParams | Answer | None:
    """Reads a body. Returns the parameters in it, or the answer that refuses it.

    Returns None if the client has gone.
    """
    if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() not in _TYPES:
        return responses.BAD_BODY
    length = headers.get(b"content-length", b"").lstrip(b"0")
    if length.isdigit() and (len(length) > len(str(MAX_BODY_BYTES)) or int(length) > MAX_BODY_BYTES):
        return responses.LONG_BODY
    body, more = b"", True
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > MAX_BODY_BYTES:
                    return responses.LONG_BODY
    except TimeoutError:
        return responses.SLOW_BODY
    return parse(body) or responses.BAD_BODY


def parse(body: bytes) -> PageParams | None:
    """Returns the parameters in a body, None if `p.js` does not send such a body."""
    try:
        fields = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return PageParams(
        cut_text(fields.u.encode(), hit.MAX_URL),
        cut_text(fields.r.encode(), hit.MAX_URL),
        fields.v.encode(),
        fields.c == 1,
        fields.i.encode(),
        -1 if fields.t is None else int(min(fields.t, DAY_MS)),
    )


def is_allowed_origin(origin: bytes | None, origins: tuple[str, ...]) -> bool:
    """Returns whether a page of this origin may send beacons.

    origin: the header `Origin`, as sent. origins: the campaign's allow list, () for all origins.
    """
    return not origins or (origin is not None and is_listed(origin.decode("latin-1"), origins))


def for_origin(answer: Answer, origin: bytes | None) -> Answer:
    """Returns the answer with CORS headers: a page of this origin may send cookies and read the answer.

    A refused page may read it too. If it could not, `p.js` would send the same again.
    """
    return responses.to_origin(answer, origin if origin and _is_origin(origin) else None)
