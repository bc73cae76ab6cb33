"""What is kept of one recipient."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_server.counters.recipient_record import (
    BOTTOM,
    FORMAT,
    HIDDEN,
    NO_RECORD,
    OLD,
    SEEN,
    TOP,
    RecipientRecord,
    ScannerOpens,
    from_open,
    merge,
    pack,
    people_bucket,
    reclassify,
    unpack,
)
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.store.keys import PEOPLE_BUCKETS
from pixel_server.store.shards import shard_of

NOW = 1_790_000_000

flags = st.integers(0, TOP | BOTTOM | HIDDEN | SEEN)
seconds = st.integers(1, 2**32 - 1)
few = st.integers(0, 1000)


@st.composite
def openers(draw: st.DrawFn) -> RecipientRecord:
    first, human, last = sorted(draw(st.tuples(seconds, seconds, seconds)))
    person, prefetch, scanner, unknown = draw(st.tuples(few, few, few, st.integers(1, 1000)))
    opens = person + prefetch + scanner + unknown
    return RecipientRecord(first, last, opens, draw(flags), person, human if person else 0, prefetch, scanner)


people = openers() | flags.map(lambda flags: RecipientRecord(flags=flags))


@given(people)
def test_who_was_packed_is_unpacked(person: RecipientRecord):
    assert unpack(pack(person)) == person


@given(people, people, people)
def test_merging_depends_on_no_order(a: RecipientRecord, b: RecipientRecord, c: RecipientRecord):
    assert merge(a, b) == merge(b, a)
    assert merge(a, merge(b, c)) == merge(merge(a, b), c)
    assert merge(a, NO_RECORD) == a


@pytest.mark.parametrize(
    ("known", "new", "both"),
    [
        (NO_RECORD, RecipientRecord(NOW, NOW, 1, 0), RecipientRecord(NOW, NOW, 1, 0)),
        (
            RecipientRecord(NOW, NOW, 1, 0),
            RecipientRecord(NOW - 5, NOW - 5, 2, TOP),
            RecipientRecord(NOW - 5, NOW, 3, TOP),
        ),
        (
            RecipientRecord(NOW, NOW + 9, 4, TOP),
            RecipientRecord(0, 0, 0, BOTTOM),
            RecipientRecord(NOW, NOW + 9, 4, TOP | BOTTOM),
        ),
    ],
)
def test_both_together(known: RecipientRecord, new: RecipientRecord, both: RecipientRecord):
    assert merge(known, new) == both


def test_the_last_open_of_a_person_is_never_after_the_last_open():
    """A hit without an open may have moved on the minutes that are known of."""
    person = merge(from_open(100, 0, "person"), from_open(130, 0, "person"))
    left = reclassify(person, ScannerOpens(1, 0, frozenset({130}), [], 400))
    assert (left.person, left.last_person, left.last) == (1, 130, 130)
    assert unpack(pack(left)) == left


def test_two_pixels_of_a_mail():
    read = RecipientRecord(NOW, NOW, 1, TOP, 1, NOW)
    assert read.two_pixel == TOP
    assert merge(read, RecipientRecord(flags=BOTTOM)).two_pixel == TOP
    assert merge(RecipientRecord(flags=BOTTOM | SEEN), read).two_pixel == TOP | SEEN
    assert merge(RecipientRecord(flags=BOTTOM | SEEN), RecipientRecord(NOW, NOW, 1, TOP)).two_pixel == 0
    assert RecipientRecord(NOW, NOW, 1, SEEN | BOTTOM, 1, NOW).two_pixel == 0


def test_what_was_packed_before_is_known_by_it():
    """Its recipient is in no count of twins."""
    old = unpack(msgspec.msgpack.encode([2, TOP | BOTTOM | 3 << 4, NOW, 0, 1, 1]))
    assert (old.flags, old.delay) == (TOP | BOTTOM | SEEN | OLD, 3)
    assert unpack(pack(old)).flags == TOP | BOTTOM | SEEN
    assert unpack(msgspec.msgpack.encode([1, TOP, NOW, 0, 1])).flags == TOP | OLD


def test_nobody_is_who_is_not_there():
    assert unpack(None) == NO_RECORD


def test_a_recipient_is_a_few_bytes():
    assert len(pack(RecipientRecord(NOW, NOW + 86_400 * 30, 100, TOP, 100, NOW))) <= 17
    none, all_of_them = (RecipientRecord(NOW, NOW, 1, flags, 1, NOW, 0, 0, 20) for flags in (0, 15))
    assert len(pack(none)) == len(pack(all_of_them))


@pytest.mark.parametrize("rest", [[0, 0, 0, 0], [], [0] * 9, ["of", "another", "shape", None]])
def test_a_newer_format_is_told_apart_whatever_its_shape(rest: list):
    with pytest.raises(NewerFormat, match=f"format {FORMAT + 1}"):
        unpack(msgspec.msgpack.encode([FORMAT + 1, *rest]))


def test_the_buckets_of_one_shard_are_all_used():
    """The bits that choose the shard are not those that choose the people_bucket."""
    keys = [
        (shard * 7).to_bytes(4, "big") + low.to_bytes(4, "little")
        for shard in (1, 2)
        for low in range(65_536)
    ]
    for shard in (1, 2):
        mine = [key for key in keys if shard_of(key, 7 * 3) == shard * 7]
        assert {people_bucket(key) for key in mine} == set(range(PEOPLE_BUCKETS))
