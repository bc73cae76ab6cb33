"""A hit: one recorded request for a pixel, and the bytes that it is stored as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

FORMAT = 1
"""Version of a batch's bytes. It is the name of the single field of a stream entry."""

EMAIL, WEB = "o", "p"
"""Kinds of hits: an open of a mail, and a view of a web page."""

MAX_AGENT, MAX_URL, MAX_LANGUAGE, MAX_SIGNAL = 512, 2048, 128, 64
"""Largest number of bytes that are recorded of a text that strangers choose. The rest is cut off."""
PURPOSES = (b"sec-purpose", b"purpose", b"x-purpose", b"x-moz")


def cut_text(value: bytes | None, max_bytes: int) -> str:
    """Returns the first bytes of a stranger's text, and "" for None. Invalid UTF-8 is replaced."""
    return value[:max_bytes].decode("utf-8", "replace") if value else ""


def purpose(headers: Mapping[bytes, bytes]) -> str:
    """Returns the headers that say why a request was sent: `"sec-purpose=prefetch;"`.

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
    recipient (8 bytes or b""): as in the token. address: 4 or 16 bytes, or b"".

    The other fields belong to views of pages. visitor: 8 bytes, a hash of the id that the page sent or the
    cookie holds; b"" without such an id. view: 8 bytes that identify a view, if `p.js` sent them. spent: ms
    for which the view was visible so far, if the hit is a report of `p.js`; -1 if it is a view. visits: the
    number of visits in the cookie, this visit included; 0 without a cookie. is_new: the cookie's id was made
    for this request.

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
    spent: int = -1
    visits: int = 0
    is_new: bool = False


encode = msgspec.msgpack.Encoder().encode
"""Returns the bytes of a hit."""

_decode_hit = msgspec.msgpack.Decoder(Hit).decode
_decode_batch = msgspec.msgpack.Decoder(list[Hit]).decode
_decode_raw = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_BAD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class UnreadableData(msgspec.Struct, frozen=True):
    """Stored bytes that are not a hit, and the reason."""

    data: bytes
    reason: str


def encode_batch(hits: Sequence[bytes]) -> bytes:
    """Returns the bytes of a batch: a msgpack array of encoded hits, at most 65,535."""
    count = len(hits)
    head = bytes([0x90 | count]) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
    return head + b"".join(hits)


def decode_batch(data: bytes) -> tuple[list[Hit], list[UnreadableData]]:
    """Returns the hits of a stored batch, and the parts that cannot be read. Leaves out nothing."""
    try:
        return _decode_batch(data), []
    except _BAD:
        pass
    try:
        parts = _decode_raw(data)
    except _BAD as error:
        return [], [UnreadableData(data, f"batch: {error}")]
    hits, unreadable = [], []
    for part in parts:
        try:
            hits.append(_decode_hit(part))
        except _BAD as error:
            unreadable.append(UnreadableData(bytes(part), f"hit: {error}"))
    return hits, unreadable
