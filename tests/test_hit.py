"""Hits as stored bytes: no hit is lost, no bytes are left out, and no bytes raise an exception."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_server.hit import EMAIL, WEB, Hit, decode_batch, encode, encode_batch

HIT = Hit(1_790_000_000_123, "spring", EMAIL, "GET", 3, 1_790_000_000, b"8 bytes!", agent="Mail/1.0")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
hits = st.builds(
    Hit,
    time=st.integers(0, 2**53),
    campaign=texts,
    kind=st.sampled_from([EMAIL, WEB]),
    method=st.sampled_from(["GET", "HEAD", "POST"]),
    flags=st.integers(0, 255),
    token_time=st.integers(0, 2**32 - 1),
    recipient=st.binary(max_size=8),
    visitor=st.binary(max_size=8),
    address=st.binary(max_size=16),
    **dict.fromkeys(Hit.__struct_fields__[9:17], texts),
    view=st.binary(max_size=8),
    spent_ms=st.integers(-1, 2**32),
    visits=st.integers(0, 2**16),
    is_new=st.booleans(),
)


@given(st.lists(hits, max_size=20))
def test_decode_batch_encoded_hits_returns_the_same_hits(batch: list[Hit]):
    assert decode_batch(encode_batch([encode(hit) for hit in batch])) == (batch, [])


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 1000, 65_535])
def test_encode_batch_any_length_is_a_msgpack_array(count: int):
    data = encode_batch([encode(HIT)] * count)
    assert len(msgspec.msgpack.decode(data)) == count
    assert decode_batch(data) == ([HIT] * count, [])


def test_encode_hit_fields_keep_their_positions():
    assert msgspec.msgpack.decode(encode(HIT))[:7] == [
        1_790_000_000_123,
        "spring",
        "o",
        "GET",
        3,
        1_790_000_000,
        b"8 bytes!",
    ]


def test_decode_batch_hits_of_older_and_newer_versions_are_read():
    whole = msgspec.msgpack.decode(encode(HIT))
    older, newer = msgspec.msgpack.encode(whole[:10]), msgspec.msgpack.encode([*whole, "more"])
    assert decode_batch(encode_batch([older, newer])) == ([HIT, HIT], [])


@pytest.mark.parametrize(
    "bad",
    [
        msgspec.msgpack.encode("no hit"),
        msgspec.msgpack.encode([1, "spring"]),
        msgspec.msgpack.encode(["late", "spring", "o", "GET"]),
        msgspec.msgpack.encode([1, b"bytes", "o", "GET"]),
        b"\x94\x01\xa1\xff\xa1o\xa3GET",
    ],
    ids=["no array", "too short", "a time that is text", "a campaign of bytes", "no UTF-8"],
)
def test_decode_batch_bad_hit_is_returned_apart_from_the_good_hits(bad: bytes):
    good = encode(HIT)
    read, unreadable = decode_batch(encode_batch([good, bad, good]))
    assert read == [HIT, HIT]
    assert [part.data for part in unreadable] == [bad]
    assert unreadable[0].reason.startswith("hit: ")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x91",
        b"\xdc\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xc1",
        encode(HIT)[:-1],
        encode_batch([encode(HIT)]) + b"\x00",
        b"\x91" * 5000 + b"\x90",
    ],
    ids=["empty", "cut", "cut array", "long and cut", "no msgpack", "a hit, cut", "more behind", "deep"],
)
def test_decode_batch_bytes_that_are_no_batch_are_returned_whole(data: bytes):
    read, [unreadable] = decode_batch(data)
    assert read == []
    assert unreadable.data == data
    assert unreadable.reason.startswith("batch: ")


@given(st.binary(max_size=200) | st.integers(1, 3000).map(lambda depth: b"\x91" * depth))
def test_decode_batch_any_bytes_are_hits_or_unreadable(data: bytes):
    read, unreadable = decode_batch(data)
    assert read or unreadable or data in (b"\x90", b"\xdc\0\0", b"\xdd\0\0\0\0")
    assert all(part.reason for part in unreadable)
