"""What is kept of one recipient of one campaign: a few packed bytes under the recipient key.

msgpack of [format, flags, first open, seconds from first to last open, opens; then, without zeros at the
end: opens of a person, seconds from the first open to the first of these, opens by prefetch, by a scanner];
times in seconds since 1970. Recipients lie in small hashes (`keys.people`), by three hex digits of their key.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from pixel_server.keys import PEOPLE_BUCKETS
from pixel_server.series import refuse_newer
from pixel_server.verdicts import ELIGIBLE, Class

FORMAT = 1
TOP, BOTTOM, HIDDEN = 1, 2, 4
"""Flags: which part of the mail was loaded, beside the single pixel; the client loads all by machine."""

PERSON, PREFETCH, SCANNER, UNKNOWN, HIDES = 1, 2, 4, 8, 16

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[int]).decode
_decode_day = msgspec.msgpack.Decoder(tuple[int, int]).decode


class Person(NamedTuple):
    """first, last, first_person: seconds, 0 without such an open. opens: all; person, prefetch, scanner: of
    them, those with such a verdict, a proxy's among a person's. What is left is unknown."""

    first: int = 0
    last: int = 0
    opens: int = 0
    flags: int = 0
    person: int = 0
    first_person: int = 0
    prefetch: int = 0
    scanner: int = 0

    @property
    def classes(self) -> int:
        """Which verdicts there were, as bits: PERSON, PREFETCH, SCANNER, UNKNOWN, and HIDES; 0: no open."""
        _, _, opens, flags, person, _, prefetch, scanner = self
        if not opens:
            return 0
        found = PERSON if person else 0
        if opens != person:
            found |= (PREFETCH if prefetch else 0) | (SCANNER if scanner else 0)
            if opens > person + prefetch + scanner:
                found |= UNKNOWN
        return found | HIDES if flags & HIDDEN else found


NOBODY = Person()


def opened(at: int, flags: int, verdict: Class) -> Person:
    """One open at this time, seconds."""
    if verdict in ELIGIBLE:
        return Person(at, at, 1, flags, 1, at)
    return Person(at, at, 1, flags, 0, 0, int(verdict == "prefetch"), int(verdict == "scanner"))


def merge(a: Person, b: Person) -> Person:
    """Both together. Does not depend on which was first."""
    if not a.opens or not b.opens:
        known, other = (a, b) if a.opens else (b, a)
        return known._replace(flags=a.flags | b.flags) if other.flags & ~known.flags else known
    first_a, last_a, opens_a, flags_a, person_a, human_a, prefetch_a, scanner_a = a
    first_b, last_b, opens_b, flags_b, person_b, human_b, prefetch_b, scanner_b = b
    human = min(human_a, human_b) if person_a and person_b else human_a or human_b
    return Person(
        first_a if first_a < first_b else first_b,
        last_a if last_a > last_b else last_b,
        opens_a + opens_b,
        flags_a | flags_b,
        person_a + person_b,
        human,
        prefetch_a + prefetch_b,
        scanner_a + scanner_b,
    )


def pack(person: Person) -> bytes:
    first, last, opens, flags, persons, first_person, prefetch, scanner = person
    rest: tuple[int, ...]
    if prefetch or scanner:
        rest = (persons, first_person - first if persons else 0, prefetch, scanner)
    elif first_person > first:
        rest = (persons, first_person - first)
    else:
        rest = (persons,) if persons else ()
    return _encode((FORMAT, flags, first, last - first, opens, *rest))


def unpack(value: bytes | None) -> Person:
    if value is None:
        return NOBODY
    refuse_newer(value, FORMAT, "recipient")
    _, flags, first, span, opens, *rest = _decode(value)
    person, later, prefetch, scanner = (*rest, 0, 0, 0, 0)[:4]
    return Person(
        first, first + span, opens, flags, person, first + later if person else 0, prefetch, scanner
    )


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
