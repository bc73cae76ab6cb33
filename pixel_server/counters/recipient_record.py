"""The record of one recipient in one campaign: a few packed bytes under the recipient key.

A stored record is msgpack of a list of numbers:

    format
    flags + 16 * delay
    first open, seconds since 1970
    seconds from the first open to the last open
    opens
    opens of a person
    seconds from the first open to the first open of a person
    opens by prefetch
    opens by a scanner
    seconds from the last open of a person to the last open

The first five numbers are always stored. After them, zeros at the end are left out. For example, `[3, 320,
1790000000, 0, 1, 1]` is a single open, by a person, with a delay in bin 20. Format 1 lacks the delay and the
last number, format 2 lacks the flag SEEN. Append only: a stored record is read by these positions, so a new
number goes to the end.

Records lie in small Redis hashes (`keys.people`). Bytes 5 and 6 of the recipient key choose the hash, see
`people_bucket`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from pixel_server.counters.stored_format import refuse_newer
from pixel_server.store.keys import PEOPLE_BUCKETS
from pixel_server.verdicts import ELIGIBLE, Class

FORMAT, DAY_FORMAT = 3, 1
TOP, BOTTOM, HIDES_READING, SEEN = 1, 2, 4, 8
"""Flags. TOP, BOTTOM: the top or the bottom pixel of a mail with two pixels was loaded. HIDES_READING: the
client loads images by machine, whether the mail is read or not. SEEN: a person or a proxy loaded the bottom
pixel. Stored records hold these values, so a flag keeps its value for ever. The next flag needs a new format,
because the bits above hold the delay."""
BEFORE_SEEN = 16
"""Flag of a record that was stored before the flag SEEN existed. This flag itself is never stored."""

PERSON, PREFETCH, SCANNER, UNKNOWN, HIDES = 1, 2, 4, 8, 16
"""Bits of `RecipientRecord.classes`."""

_encode = msgspec.msgpack.Encoder().encode
_decode_day = msgspec.msgpack.Decoder(tuple[int, int]).decode


class RecipientRecord(msgspec.Struct, frozen=True, gc=False):
    """The record of one recipient's opens.

    first, last, first_person, last_person: seconds since 1970, or 0 without such an open. opens: all opens.
    person, prefetch, scanner: number of opens with such a verdict. An open through a proxy counts as a
    person's. The rest of `opens` is of unknown verdict. delay: bin of the time to the first open of a person
    (`histogram`), 0 if not known.
    """

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
        """The verdicts of the opens as bits: PERSON, PREFETCH, SCANNER, UNKNOWN, HIDES. 0 if not opened."""
        opens, person = self.opens, self.person
        if not opens:
            return 0
        bits = PERSON if person else 0
        if opens != person:
            bits |= (PREFETCH if self.prefetch else 0) | (SCANNER if self.scanner else 0)
            if opens > person + self.prefetch + self.scanner:
                bits |= UNKNOWN
        return bits | HIDES if self.flags & HIDES_READING else bits

    @property
    def two_pixel(self) -> int:
        """Flags of a mail with two pixels that a person opened, and 0 for every other mail.

        The flags are TOP | SEEN if a person or a proxy also loaded the bottom pixel, and TOP if not.
        """
        return self.flags & (TOP | SEEN) if self.person and self.flags & TOP else 0


NO_RECORD = RecipientRecord()
"""Record of a recipient without opens."""


class Stored(msgspec.Struct, array_like=True, gc=False):
    """The numbers of a stored record, in the order that the top of this file describes."""

    format: int
    flags: int
    first: int
    span: int
    opens: int
    person: int = 0
    to_first_person: int = 0
    prefetch: int = 0
    scanner: int = 0
    from_last_person: int = 0


_decode = msgspec.msgpack.Decoder(Stored).decode
_format = itemgetter(1)


class ScannerOpens(NamedTuple):
    """Opens of one recipient that turned out to be a scanner's.

    person, unknown: number of these opens that were counted as a person's, and as unknown. person_times:
    times of the opens that were counted as a person's, in seconds since 1970. remaining: (seconds since 1970,
    delay bin) of each open that has a stored trace (`burst_window`) and still counts as a person's.
    known_from: seconds since 1970; only traces of opens from this time on are stored.
    """

    person: int
    unknown: int
    person_times: frozenset[int]
    remaining: list[tuple[int, int]]
    known_from: int


def from_open(at: int, flags: int, verdict: Class, delay: int = 0) -> RecipientRecord:
    """Returns the record of a single open. at: seconds since 1970. delay: bin of the time to open."""
    if verdict in ELIGIBLE:
        return RecipientRecord(at, at, 1, flags, 1, at, 0, 0, delay, at)
    return RecipientRecord(at, at, 1, flags, 0, 0, int(verdict == "prefetch"), int(verdict == "scanner"))


def merge(a: RecipientRecord, b: RecipientRecord) -> RecipientRecord:
    """Returns the record of the opens of both records. The order of the two records does not matter."""
    if not a.opens or not b.opens:
        opened, other = (a, b) if a.opens else (b, a)
        return replace(opened, flags=a.flags | b.flags) if other.flags & ~opened.flags else opened
    earliest = a
    if not a.person or (b.person and (b.first_person, -b.delay) < (a.first_person, -a.delay)):
        earliest = b
    return RecipientRecord(
        min(a.first, b.first),
        max(a.last, b.last),
        a.opens + b.opens,
        a.flags | b.flags,
        a.person + b.person,
        earliest.first_person,
        a.prefetch + b.prefetch,
        a.scanner + b.scanner,
        earliest.delay,
        max(a.last_person, b.last_person),
    )


def reclassify(record: RecipientRecord, opens: ScannerOpens) -> RecipientRecord:
    """Returns the record with these opens counted as a scanner's.

    Only the opens of the last minutes are known one by one. If the first open is reclassified, it was in
    these minutes, so every later open is known. If the last open is reclassified, an older open whose time is
    not known may become the last open. Its time is then taken as `known_from`.
    """
    person = record.person - opens.person
    result = replace(record, person=person, scanner=record.scanner + opens.person + opens.unknown)
    if person <= 0:
        return replace(result, person=0, first_person=0, delay=0, last_person=0)
    if result.first_person in opens.person_times:
        first, delay = min(opens.remaining, key=_by_time, default=(result.last, 0))
        result = replace(result, first_person=first, delay=delay)
    if result.last_person in opens.person_times:
        last = max((at for at, _ in opens.remaining), default=0)
        if len(opens.remaining) < person:
            last = min(max(last, opens.known_from), result.last)
        result = replace(result, last_person=max(last, result.first_person))
    return result


def _by_time(at_and_delay: tuple[int, int]) -> tuple[int, int]:
    """Returns a sort key: by time, and in the same second the open with the greater delay first."""
    return at_and_delay[0], -at_and_delay[1]


def pack(record: RecipientRecord) -> bytes:
    """Returns the stored bytes, in the form that the top of this file describes."""
    first, last, opens, persons = record.first, record.last, record.opens, record.person
    flags = record.flags & 15 | record.delay << 4
    if persons == opens and record.first_person == first:
        return _encode((FORMAT, flags, first, last - first, opens, persons)[: 6 if persons else 5])
    if not persons:
        rest = [0, 0, record.prefetch, record.scanner]
    else:
        to_first_person, from_last_person = record.first_person - first, last - record.last_person
        rest = [persons, to_first_person, record.prefetch, record.scanner, from_last_person]
    while rest and not rest[-1]:
        rest.pop()
    return _encode((FORMAT, flags, first, last - first, opens, *rest))


def unpack(value: bytes | None) -> RecipientRecord:
    """Returns the record of stored bytes, and NO_RECORD for None. Raises NewerFormat."""
    if value is None:
        return NO_RECORD
    refuse_newer(value, FORMAT, "recipient")
    stored = _decode(value)
    flags, delay = stored.flags, 0
    if stored.format > 1:
        flags, delay = flags & 15, flags >> 4
    if stored.format < 3:
        flags |= BEFORE_SEEN | SEEN if flags & BOTTOM else BEFORE_SEEN
    first, last, opens, person = stored.first, stored.first + stored.span, stored.opens, stored.person
    if not person:
        return RecipientRecord(first, last, opens, flags, 0, 0, stored.prefetch, stored.scanner)
    first_person, last_person = first + stored.to_first_person, last - stored.from_last_person
    return RecipientRecord(
        *(first, last, opens, flags, person, first_person, stored.prefetch, stored.scanner, delay),
        last_person,
    )


def decode(values: Sequence[bytes]) -> list[Stored]:
    """Returns the numbers of stored records, in half the time of `unpack`. Raises NewerFormat."""
    if values:
        refuse_newer(max(values, key=_format), FORMAT, "recipient")
    return list(map(_decode, values))


def opens(records: Iterable[Stored], *, by_person: bool) -> list[int]:
    """Returns the opens of each record. by_person: whether only the opens of a person count."""
    return [record.person for record in records] if by_person else [record.opens for record in records]


def last_opens(records: Iterable[Stored], *, by_person: bool) -> list[int]:
    """Returns the time of each record's last open (s since 1970).

    by_person: returns the last open of a person. It is undefined for a record without such an open.
    """
    if by_person:
        return [record.first + record.span - record.from_last_person for record in records]
    return [record.first + record.span for record in records]


def pack_day(day: int) -> bytes:
    """Returns the stored bytes of the day of a last open, msgpack of `[1, 20781]`. day: days since 1970."""
    return _encode((DAY_FORMAT, day))


def unpack_day(value: bytes) -> int:
    """Returns the day, in days since 1970, from the bytes of `pack_day`. Raises NewerFormat."""
    refuse_newer(value, DAY_FORMAT, "day of the last open")
    _, day = _decode_day(value)
    return day


def people_bucket(recipient: bytes) -> int:
    """Returns the number of the hash that holds this recipient key, among the campaign's hashes in a shard.

    Other bits of the key choose the shard, so each shard uses all hash numbers.
    """
    return int.from_bytes(recipient[4:6], "big") % PEOPLE_BUCKETS
