"""What is kept of one recipient of one campaign: a few packed bytes under the recipient key.

msgpack of [format, flags, first open, seconds from first to last open, opens]; times in seconds since
1970. Recipients lie in small hashes (`keys.people`), by three hex digits of their key.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from pixel_server.keys import PEOPLE_BUCKETS
from pixel_server.series import refuse_newer

FORMAT = 1
TOP, BOTTOM = 1, 2
"""Flags: which part of the mail was loaded, beside the single pixel."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, int, int, int, int]).decode
_decode_day = msgspec.msgpack.Decoder(tuple[int, int]).decode


class Person(NamedTuple):
    """first, last: seconds, 0 without an open."""

    first: int
    last: int
    opens: int
    flags: int


NOBODY = Person(0, 0, 0, 0)


def merge(a: Person, b: Person) -> Person:
    """Both together. Does not depend on which was first."""
    if not a.opens or not b.opens:
        known = a if a.opens else b
        return Person(known.first, known.last, known.opens, a.flags | b.flags)
    return Person(min(a.first, b.first), max(a.last, b.last), a.opens + b.opens, a.flags | b.flags)


def pack(person: Person) -> bytes:
    return _encode((FORMAT, person.flags, person.first, person.last - person.first, person.opens))


def unpack(value: bytes | None) -> Person:
    if value is None:
        return NOBODY
    refuse_newer(value, FORMAT, "recipient")
    _, flags, first, span, opens = _decode(value)
    return Person(first, first + span, opens, flags)


def pack_day(day: int) -> bytes:
    """Of mode `last`: the day of the last open, in days since 1970."""
    return _encode((FORMAT, day))


def unpack_day(value: bytes) -> int:
    refuse_newer(value, FORMAT, "day of the last open")
    _, day = _decode_day(value)
    return day


def bucket(recipient: bytes) -> int:
    """Which of a campaign's hashes a recipient lies in. Other bits than those that choose the shard."""
    return int.from_bytes(recipient[4:6], "big") % PEOPLE_BUCKETS
