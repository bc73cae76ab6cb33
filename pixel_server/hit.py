"""A hit: one recorded request for a pixel, and its stored bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

FORMAT = 1
"""Format of a batch. A stream entry has a single field, whose name is this number."""

EMAIL, WEB = "o", "p"
"""Kinds of hits: of a mail pixel, and of a web pixel."""

MAX_AGENT, MAX_URL, MAX_LANGUAGE, MAX_SIGNAL = 512, 2048, 128, 64
"""Largest number of bytes recorded of each text that a stranger chooses. The rest is cut off."""
PURPOSES = (b"sec-purpose", b"purpose", b"x-purpose", b"x-moz")
"""Headers by which a browser says that it prefetches."""


def cut_text(value: bytes | None, max_bytes: int) -> str:
    """Returns at most `max_bytes` bytes of a stranger's text, and "" for None. Replaces invalid UTF-8."""
    return value[:max_bytes].decode("utf-8", "replace") if value else ""


def purpose(headers: Mapping[bytes, bytes]) -> str:
    """Returns the PURPOSES among these headers, with their values: `"sec-purpose=prefetch;"`.

    headers: values by lower-case name.
    """
    if headers.keys().isdisjoint(PURPOSES):
        return ""
    return "".join(
        f"{name.decode()}={cut_text(headers[name], MAX_SIGNAL)};" for name in PURPOSES if name in headers
    )


class Hit(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One recorded request. It is a fact and never changes.

    time: ms since 1970. kind: EMAIL or WEB. method: GET, HEAD, or POST from `p.js`. flags, token_time (s),
    recipient (8 bytes or b""): as in the token. address: 4 or 16 bytes, or b"". agent, referrer, language,
    gpc, dnt: values of headers. purpose: see the function `purpose`.

    Only views of pages have the following fields. visitor: hash (8 bytes) of the id that the page sent or the
    cookie holds, or b"" without an id. page, page_referrer: URLs. view: 8 bytes that identify a view, if
    `p.js` sent them. spent_ms: in a report of `p.js`, ms for which the view was visible; in a view, -1.
    visits: the cookie's number of visits including this visit, 0 without a cookie. is_new: whether the
    cookie's id was made for this request.

    Append only: stored hits are read by the position of each field. Add a field at the end, with a default.
    """

    time: int
    campaign: str
    kind: str
    method: str
    flags: int = 0
    token_time: int = 0
    recipient: bytes = b""
    visitor: bytes = b""
    address: bytes = b""
    agent: str = ""
    referrer: str = ""
    language: str = ""
    gpc: str = ""
    dnt: str = ""
    purpose: str = ""
    page: str = ""
    page_referrer: str = ""
    view: bytes = b""
    spent_ms: int = -1
    visits: int = 0
    is_new: bool = False


encode = msgspec.msgpack.Encoder().encode
"""Returns the bytes of a hit."""

_decode_hit = msgspec.msgpack.Decoder(Hit).decode
_decode_batch = msgspec.msgpack.Decoder(list[Hit]).decode
_decode_raw = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class UnreadableData(msgspec.Struct, frozen=True):
    """Stored bytes that are not a hit, and the reason."""

    data: bytes
    reason: str


def encode_batch(hits: Sequence[bytes]) -> bytes:
    """Returns the bytes of a batch: a msgpack array of encoded hits. Takes at most 65,535 hits."""
    count = len(hits)
    head = bytes([0x90 | count]) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
    return head + b"".join(hits)


def decode_batch(data: bytes) -> tuple[list[Hit], list[UnreadableData]]:
    """Returns the hits of a stored batch, and its parts that cannot be read."""
    try:
        return _decode_batch(data), []
    except _DECODE_ERRORS:
        pass
    try:
        parts = _decode_raw(data)
    except _DECODE_ERRORS as error:
        return [], [UnreadableData(data, f"batch: {error}")]
    hits, unreadable = [], []
    for part in parts:
        try:
            hits.append(_decode_hit(part))
        except _DECODE_ERRORS as error:
            unreadable.append(UnreadableData(bytes(part), f"hit: {error}"))
    return hits, unreadable
