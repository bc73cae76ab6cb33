"""A hit: one recorded request for a pixel, and the bytes it is stored as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

FORMAT = 1
"""Version of a batch's bytes; the name of the stream entry's one field."""

EMAIL, WEB = "o", "p"

MAX_AGENT, MAX_URL, MAX_LANGUAGE, MAX_SIGNAL = 512, 2048, 128, 64
"""Bytes kept of what a stranger chooses; the rest is cut off at the door."""


PURPOSES = (b"sec-purpose", b"purpose", b"x-purpose", b"x-moz")


def text(value: bytes | None, most: int) -> str:
    """At most so many bytes of what a stranger sent, as text."""
    return value[:most].decode("utf-8", "replace") if value else ""


def purpose(headers: Mapping[bytes, bytes]) -> str:
    """What a hit keeps of the headers that say why it was sent. headers: by lower-case name."""
    if headers.keys().isdisjoint(PURPOSES):
        return ""
    return "".join(
        f"{name.decode()}={text(headers[name], MAX_SIGNAL)};" for name in PURPOSES if name in headers
    )


class Hit(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Who, when, from where, with what headers. A fact, never changed.

    time: ms since 1970. kind: EMAIL or WEB. method: GET, HEAD, or POST from `p.js`. flags, token_time (s),
    recipient (8 bytes or none): as the token has them. address: 4 or 16 bytes, or none.

    Of a page: visitor: 8 bytes, the hash of an id that the page gave or a cookie held, none without. view: 8
    bytes that name one view, where `p.js` sent it. spent: ms that this view was visible so far; such a hit is
    a report, and no view; -1: none. visits: how many visits the cookie counted, this one included; 0: there
    is no cookie. is_new: the cookie's id was made with this request.

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
"""Hit -> bytes."""

_decode_hit = msgspec.msgpack.Decoder(Hit).decode
_decode_batch = msgspec.msgpack.Decoder(list[Hit]).decode
_decode_raw = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_BAD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Unreadable(msgspec.Struct, frozen=True):
    """Stored bytes that are no hit, and why."""

    data: bytes
    reason: str


def encode_batch(hits: Sequence[bytes]) -> bytes:
    """Up to 65,535 encoded hits as one value: a msgpack array of them."""
    count = len(hits)
    head = bytes([0x90 | count]) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
    return head + b"".join(hits)


def decode_batch(data: bytes) -> tuple[list[Hit], list[Unreadable]]:
    """The hits of one stored batch, and what of it cannot be read. Nothing is skipped in silence."""
    try:
        return _decode_batch(data), []
    except _BAD:
        pass
    try:
        parts = _decode_raw(data)
    except _BAD as error:
        return [], [Unreadable(data, f"batch: {error}")]
    hits, unreadable = [], []
    for part in parts:
        try:
            hits.append(_decode_hit(part))
        except _BAD as error:
            unreadable.append(Unreadable(bytes(part), f"hit: {error}"))
    return hits, unreadable
