"""What is kept of one recipient of one campaign: a few packed bytes under the recipient key.

msgpack of [format, flags + 16 * delay, first open, seconds from first to last open, opens; then, without
zeros at the end: opens of a person, seconds from the first open to the first of these, opens by prefetch, by
a scanner, seconds from the last open of a person to the last open]; times in seconds since 1970. Format 1 had
neither delay nor the last of these, format 2 not the flag SEEN. Append only: a stored recipient is read by
these positions, so a new value goes to the end of the list. Recipients lie in small hashes (`keys.people`),
by three hex digits of their key.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from pixel_server.counters.series import refuse_newer
from pixel_server.store.keys import PEOPLE_BUCKETS
from pixel_server.verdicts import ELIGIBLE, Class

FORMAT, DAY_FORMAT = 3, 1
TOP, BOTTOM, HIDDEN, SEEN = 1, 2, 4, 8
"""Flags: which part of the mail was loaded, beside the single pixel; the client loads all by machine; the
lower part was loaded for what looked like a person or a proxy, as long as no other hits said otherwise.
Stored: append only, and the next flag needs a new format, as the bits above hold the delay."""
OLD = 16
"""Of what was packed before there was SEEN; never packed."""

PERSON, PREFETCH, SCANNER, UNKNOWN, HIDES = 1, 2, 4, 8, 16

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[int]).decode
_decode_day = msgspec.msgpack.Decoder(tuple[int, int]).decode


class Person(msgspec.Struct, frozen=True, gc=False):
    """first, last, first_person, last_person: seconds, 0 without such an open. opens: all; person, prefetch,
    scanner: of them, those with such a verdict, a proxy's among a person's. What is left is unknown.
    delay: bin of the time to the first open of a person (`breakdown`), 0 if it is not known."""

    first: int = 0
    last: int = 0
    opens: int = 0
    flags: int = 0
    person: int = 0
    first_person: int = 0
    prefetch: int = 0
    scanner: int = 0
    delay: int = 0
    last_person: int = 0

    @property
    def classes(self) -> int:
        """Which verdicts there were, as bits: PERSON, PREFETCH, SCANNER, UNKNOWN, and HIDES; 0: no open."""
        opens, person = self.opens, self.person
        if not opens:
            return 0
        found = PERSON if person else 0
        if opens != person:
            found |= (PREFETCH if self.prefetch else 0) | (SCANNER if self.scanner else 0)
            if opens > person + self.prefetch + self.scanner:
                found |= UNKNOWN
        return found | HIDES if self.flags & HIDDEN else found

    @property
    def twins(self) -> int:
        """Of a mail with two pixels: TOP if a person opened it, SEEN if the lower one came too. Else 0."""
        return self.flags & (TOP | SEEN) if self.person and self.flags & TOP else 0


NOBODY = Person()


class Taken(NamedTuple):
    """Opens that turned out to be a scanner's. person, unknown: how many had counted as these. at: when those
    of a person were (s). left: (s, delay) of a person's other opens that are known of. before: those that
    are not known of were all before this (s)."""

    person: int
    unknown: int
    at: frozenset[int]
    left: list[tuple[int, int]]
    before: int


def opened(at: int, flags: int, verdict: Class, delay: int = 0) -> Person:
    """One open at this time, seconds."""
    if verdict in ELIGIBLE:
        return Person(at, at, 1, flags, 1, at, 0, 0, delay, at)
    return Person(at, at, 1, flags, 0, 0, int(verdict == "prefetch"), int(verdict == "scanner"))


def merge(a: Person, b: Person) -> Person:
    """Both together. Does not depend on which was first."""
    if not a.opens or not b.opens:
        known, other = (a, b) if a.opens else (b, a)
        return replace(known, flags=a.flags | b.flags) if other.flags & ~known.flags else known
    first = a
    if not a.person or (b.person and (b.first_person, -b.delay) < (a.first_person, -a.delay)):
        first = b
    return Person(
        min(a.first, b.first),
        max(a.last, b.last),
        a.opens + b.opens,
        a.flags | b.flags,
        a.person + b.person,
        first.first_person,
        a.prefetch + b.prefetch,
        a.scanner + b.scanner,
        first.delay,
        max(a.last_person, b.last_person),
    )


def take(person: Person, taken: Taken) -> Person:
    """Without what was no person's after all.

    Which opens of a person are left is known of the last minutes alone. A first one that is no more was among
    them, so all that follow are. Where the last one is no more and not all that are left are known of, one
    that is not may be later than those: then the end of the time before those minutes stands for it.
    """
    left = person.person - taken.person
    found = replace(person, person=left, scanner=person.scanner + taken.person + taken.unknown)
    if left <= 0:
        return replace(found, person=0, first_person=0, delay=0, last_person=0)
    if found.first_person in taken.at:
        first, delay = min(taken.left, key=_earliest, default=(found.last, 0))
        found = replace(found, first_person=first, delay=delay)
    if found.last_person in taken.at:
        last = max((at for at, _ in taken.left), default=0)
        if len(taken.left) < left:
            last = min(max(last, taken.before), found.last)
        found = replace(found, last_person=max(last, found.first_person))
    return found


def _earliest(one: tuple[int, int]) -> tuple[int, int]:
    return one[0], -one[1]


def pack(person: Person) -> bytes:
    first, last, opens, persons = person.first, person.last, person.opens, person.person
    flags = person.flags & 15 | person.delay << 4
    if persons == opens and person.first_person == first:
        return _encode((FORMAT, flags, first, last - first, opens, persons)[: 6 if persons else 5])
    if not persons:
        rest = [0, 0, person.prefetch, person.scanner]
    else:
        later, behind = person.first_person - first, last - person.last_person
        rest = [persons, later, person.prefetch, person.scanner, behind]
    while rest and not rest[-1]:
        rest.pop()
    return _encode((FORMAT, flags, first, last - first, opens, *rest))


def unpack(value: bytes | None) -> Person:
    if value is None:
        return NOBODY
    refuse_newer(value, FORMAT, "recipient")
    form, flags, first, span, opens, *rest = _decode(value)
    person, later, prefetch, scanner, behind = (*rest, 0, 0, 0, 0, 0)[:5]
    delay = 0
    if form > 1:
        flags, delay = flags & 15, flags >> 4
    if form < 3:
        flags |= OLD | SEEN if flags & BOTTOM else OLD
    last = first + span
    if not person:
        return Person(first, last, opens, flags, 0, 0, prefetch, scanner)
    return Person(first, last, opens, flags, person, first + later, prefetch, scanner, delay, last - behind)


def pack_day(day: int) -> bytes:
    """Of mode `last`: the day of the last open, in days since 1970."""
    return _encode((DAY_FORMAT, day))


def unpack_day(value: bytes) -> int:
    refuse_newer(value, DAY_FORMAT, "day of the last open")
    _, day = _decode_day(value)
    return day


def bucket(recipient: bytes) -> int:
    """Which of a campaign's hashes a recipient lies in. Other bits than those that choose the shard."""
    return int.from_bytes(recipient[4:6], "big") % PEOPLE_BUCKETS
