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
    NOBODY,
    OLD,
    SEEN,
    TOP,
    Person,
    Taken,
    bucket,
    merge,
    opened,
    pack,
    take,
    unpack,
)
from pixel_server.counters.series import NewerFormat
from pixel_server.store import shards
from pixel_server.store.keys import PEOPLE_BUCKETS

NOW = 1_790_000_000

flags = st.integers(0, TOP | BOTTOM | HIDDEN | SEEN)
seconds = st.integers(1, 2**32 - 1)
few = st.integers(0, 1000)


@st.composite
def openers(draw: st.DrawFn) -> Person:
    first, human, last = sorted(draw(st.tuples(seconds, seconds, seconds)))
    person, prefetch, scanner, unknown = draw(st.tuples(few, few, few, st.integers(1, 1000)))
    opens = person + prefetch + scanner + unknown
    return Person(first, last, opens, draw(flags), person, human if person else 0, prefetch, scanner)


people = openers() | flags.map(lambda flags: Person(flags=flags))


@given(people)
def test_who_was_packed_is_unpacked(person: Person):
    assert unpack(pack(person)) == person


@given(people, people, people)
def test_merging_depends_on_no_order(a: Person, b: Person, c: Person):
    assert merge(a, b) == merge(b, a)
    assert merge(a, merge(b, c)) == merge(merge(a, b), c)
    assert merge(a, NOBODY) == a


@pytest.mark.parametrize(
    ("known", "new", "both"),
    [
        (NOBODY, Person(NOW, NOW, 1, 0), Person(NOW, NOW, 1, 0)),
        (Person(NOW, NOW, 1, 0), Person(NOW - 5, NOW - 5, 2, TOP), Person(NOW - 5, NOW, 3, TOP)),
        (Person(NOW, NOW + 9, 4, TOP), Person(0, 0, 0, BOTTOM), Person(NOW, NOW + 9, 4, TOP | BOTTOM)),
    ],
)
def test_both_together(known: Person, new: Person, both: Person):
    assert merge(known, new) == both


def test_the_last_open_of_a_person_is_never_after_the_last_open():
    """A hit without an open may have moved on the minutes that are known of."""
    person = merge(opened(100, 0, "person"), opened(130, 0, "person"))
    left = take(person, Taken(1, 0, frozenset({130}), [], 400))
    assert (left.person, left.last_person, left.last) == (1, 130, 130)
    assert unpack(pack(left)) == left


def test_two_pixels_of_a_mail():
    read = Person(NOW, NOW, 1, TOP, 1, NOW)
    assert read.twins == TOP
    assert merge(read, Person(flags=BOTTOM)).twins == TOP
    assert merge(Person(flags=BOTTOM | SEEN), read).twins == TOP | SEEN
    assert merge(Person(flags=BOTTOM | SEEN), Person(NOW, NOW, 1, TOP)).twins == 0
    assert Person(NOW, NOW, 1, SEEN | BOTTOM, 1, NOW).twins == 0


def test_what_was_packed_before_is_known_by_it():
    """Its recipient is in no count of twins."""
    old = unpack(msgspec.msgpack.encode([2, TOP | BOTTOM | 3 << 4, NOW, 0, 1, 1]))
    assert (old.flags, old.delay) == (TOP | BOTTOM | SEEN | OLD, 3)
    assert unpack(pack(old)).flags == TOP | BOTTOM | SEEN
    assert unpack(msgspec.msgpack.encode([1, TOP, NOW, 0, 1])).flags == TOP | OLD


def test_nobody_is_who_is_not_there():
    assert unpack(None) == NOBODY


def test_a_recipient_is_a_few_bytes():
    assert len(pack(Person(NOW, NOW + 86_400 * 30, 100, TOP, 100, NOW))) <= 17
    none, all_of_them = (Person(NOW, NOW, 1, flags, 1, NOW, 0, 0, 20) for flags in (0, 15))
    assert len(pack(none)) == len(pack(all_of_them))


@pytest.mark.parametrize("rest", [[0, 0, 0, 0], [], [0] * 9, ["of", "another", "shape", None]])
def test_a_newer_format_is_told_apart_whatever_its_shape(rest: list):
    with pytest.raises(NewerFormat, match=f"format {FORMAT + 1}"):
        unpack(msgspec.msgpack.encode([FORMAT + 1, *rest]))


def test_the_buckets_of_one_shard_are_all_used():
    """The bits that choose the shard are not those that choose the bucket."""
    keys = [
        (shard * 7).to_bytes(4, "big") + low.to_bytes(4, "little")
        for shard in (1, 2)
        for low in range(65_536)
    ]
    for shard in (1, 2):
        mine = [key for key in keys if shards.of_key(key, 7 * 3) == shard * 7]
        assert {bucket(key) for key in mine} == set(range(PEOPLE_BUCKETS))
