"""The packed record of one recipient."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_server.counters.recipient_record import (
    BEFORE_SEEN,
    BOTTOM,
    FORMAT,
    HIDES_READING,
    NO_RECORD,
    SEEN,
    TOP,
    RecipientRecord,
    ScannerOpens,
    decode,
    from_open,
    last_opens,
    merge,
    opens,
    pack,
    people_bucket,
    reclassify,
    unpack,
)
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.store.keys import PEOPLE_BUCKETS
from pixel_server.store.shards import shard_of

NOW = 1_790_000_000

flags = st.integers(0, TOP | BOTTOM | HIDES_READING | SEEN)
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
def test_pack_any_record_unpacks_to_the_same(person: RecipientRecord):
    assert unpack(pack(person)) == person


@given(st.lists(people))
def test_opens_and_last_agree_with_unpack(records: list[RecipientRecord]):
    stored = decode([pack(record) for record in records])
    assert opens(stored, by_person=True) == [record.person for record in records]
    assert opens(stored, by_person=False) == [record.opens for record in records]
    assert last_opens(stored, by_person=False) == [record.last for record in records]
    by_person = zip(records, last_opens(stored, by_person=True), strict=True)
    assert all(last == record.last_person for record, last in by_person if record.person)


@given(people, people, people)
def test_merge_records_in_any_order_gives_the_same(
    a: RecipientRecord, b: RecipientRecord, c: RecipientRecord
):
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
def test_merge_two_records_adds_opens_and_keeps_first_and_last(
    known: RecipientRecord, new: RecipientRecord, both: RecipientRecord
):
    assert merge(known, new) == both


def test_reclassify_known_minutes_after_the_last_open_keeps_the_order_of_opens():
    """A later hit that is not an open may have moved the known minutes behind the last open."""
    person = merge(from_open(100, 0, "person"), from_open(130, 0, "person"))
    record = reclassify(person, ScannerOpens(1, 0, frozenset({130}), [], 400))
    assert (record.person, record.last_person, record.last) == (1, 130, 130)
    assert unpack(pack(record)) == record


def test_two_pixel_record_has_its_flags_only_after_a_persons_open():
    read = RecipientRecord(NOW, NOW, 1, TOP, 1, NOW)
    assert read.two_pixel == TOP
    assert merge(read, RecipientRecord(flags=BOTTOM)).two_pixel == TOP
    assert merge(RecipientRecord(flags=BOTTOM | SEEN), read).two_pixel == TOP | SEEN
    assert merge(RecipientRecord(flags=BOTTOM | SEEN), RecipientRecord(NOW, NOW, 1, TOP)).two_pixel == 0
    assert RecipientRecord(NOW, NOW, 1, SEEN | BOTTOM, 1, NOW).two_pixel == 0


def test_unpack_older_format_sets_the_flag_before_seen():
    """A record with this flag is not yet counted among the mails with two pixels."""
    old = unpack(msgspec.msgpack.encode([2, TOP | BOTTOM | 3 << 4, NOW, 0, 1, 1]))
    assert (old.flags, old.delay) == (TOP | BOTTOM | SEEN | BEFORE_SEEN, 3)
    assert unpack(pack(old)).flags == TOP | BOTTOM | SEEN
    assert unpack(msgspec.msgpack.encode([1, TOP, NOW, 0, 1])).flags == TOP | BEFORE_SEEN


def test_unpack_missing_value_returns_no_record():
    assert unpack(None) == NO_RECORD


def test_pack_record_takes_few_bytes():
    assert len(pack(RecipientRecord(NOW, NOW + 86_400 * 30, 100, TOP, 100, NOW))) <= 17
    none, all_of_them = (RecipientRecord(NOW, NOW, 1, flags, 1, NOW, 0, 0, 20) for flags in (0, 15))
    assert len(pack(none)) == len(pack(all_of_them))


@pytest.mark.parametrize("rest", [[0, 0, 0, 0], [], [0] * 9, ["of", "another", "shape", None]])
def test_unpack_newer_format_of_any_shape_raises(rest: list):
    with pytest.raises(NewerFormat, match=f"format {FORMAT + 1}"):
        unpack(msgspec.msgpack.encode([FORMAT + 1, *rest]))


def test_decode_one_newer_record_raises():
    with pytest.raises(NewerFormat):
        decode([pack(RecipientRecord(1, 1, 1)), b"\x92\x63\xa1x"])


def test_people_bucket_keys_of_one_shard_use_all_buckets():
    """Other bits of the key choose the shard than choose the bucket."""
    keys = [
        (shard * 7).to_bytes(4, "big") + low.to_bytes(4, "little")
        for shard in (1, 2)
        for low in range(65_536)
    ]
    for shard in (1, 2):
        mine = [key for key in keys if shard_of(key, 7 * 3) == shard * 7]
        assert {people_bucket(key) for key in mine} == set(range(PEOPLE_BUCKETS))
