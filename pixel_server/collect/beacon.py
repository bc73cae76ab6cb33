"""What `p.js` sends with POST: its body, read within bounds, and the origin of the page it comes from."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated

import msgspec
from starlette.types import Receive

from pixel_server import hit
from pixel_server.collect import responses
from pixel_server.collect.page_params import PageParams
from pixel_server.collect.responses import Answer
from pixel_server.hit import cut_text
from pixel_server.times import DAY_MS

MOST = 4096
"""Bytes of a body."""
WITHIN = 10.0
"""Seconds that a body may take to arrive."""
_TYPES = (b"text/plain", b"application/json")
"""`sendBeacon` sends text as text/plain: of another type it would first have to ask (a CORS preflight)."""
_is_origin = re.compile(rb"https?://[!-~]{1,300}").fullmatch


class _Body(msgspec.Struct):
    """i: names the view. u, r, v: as in a pixel's query. c: the page says yes to a cookie. t: ms that the
    view was visible so far."""

    i: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{1,32}\Z")]
    u: str = ""
    r: str = ""
    v: str = ""
    c: float = 0
    t: Annotated[float, msgspec.Meta(ge=0)] | None = None


_decode = msgspec.json.Decoder(_Body).decode


async def read(headers: dict[bytes, bytes], receive: Receive) -> PageParams | Answer | None:
    """What it says, or how it is refused; None: the client has gone."""
    if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() not in _TYPES:
        return responses.BAD_BODY
    length = headers.get(b"content-length", b"").lstrip(b"0")
    if length.isdigit() and (len(length) > len(str(MOST)) or int(length) > MOST):
        return responses.LONG_BODY
    body, more = b"", True
    try:
        async with asyncio.timeout(WITHIN):
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > MOST:
                    return responses.LONG_BODY
    except TimeoutError:
        return responses.SLOW_BODY
    return parse(body) or responses.BAD_BODY


def parse(body: bytes) -> PageParams | None:
    """None: it is not what `p.js` sends."""
    try:
        found = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return PageParams(
        cut_text(found.u.encode(), hit.MAX_URL),
        cut_text(found.r.encode(), hit.MAX_URL),
        found.v.encode(),
        found.c == 1,
        found.i.encode(),
        -1 if found.t is None else int(min(found.t, DAY_MS)),
    )


def is_welcome(origin: bytes | None, origins: tuple[str, ...]) -> bool:
    """Whether a page of this origin (`Origin`, as sent) may send. origins: of the campaign, () for all."""
    return not origins or (origin is not None and origin.decode("latin-1") in origins)


def answer(found: Answer, origin: bytes | None) -> Answer:
    """As it is to be read by a page of this origin."""
    named = origin if found.status != responses.BAD_ORIGIN.status and origin and _is_origin(origin) else None
    return responses.to_origin(found, named)
