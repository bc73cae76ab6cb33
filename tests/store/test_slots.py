"""The slots of keys, and the map of slots to nodes."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from pixel_server.store import keys
from pixel_server.store.slots import (
    SLOTS,
    SlotMap,
    SlotRange,
    parse_ranges,
    slot_of,
    slot_of_shard,
)

A, B, C = (("10.0.0.1", port) for port in (7001, 7002, 7003))
ASKED = ("here", 7001)


@pytest.mark.parametrize(
    ("key", "slot"),
    [  # as Valkey 9.1 answers to CLUSTER KEYSLOT
        ("123456789", 12739),
        ("{}none", 8758),
        ("a{b}{c}", 3300),
        ("px:{all}:store", 3894),
        ("", 0),
    ],
)
def test_slot_of_key_is_the_slot_of_its_tag(key: str, slot: int):
    assert slot_of(key) == slot_of(key.encode()) == slot


def test_slot_of_shard_is_the_slot_of_each_of_its_keys():
    for shard in (0, 7, 255):
        assert slot_of_shard(shard) == slot_of(keys.hits(shard)) == slot_of(keys.none(shard))


def test_slot_map_nodes_disagree_takes_the_highest_epoch():
    cut_off = [SlotRange(0, SLOTS - 1, A, (B,), 1)]
    after_failover = [SlotRange(0, SLOTS - 1, B, (), 7)]
    for views in (cut_off + after_failover, after_failover + cut_off):
        slot_map = SlotMap(views)
        assert slot_map.primaries == (B,)
        assert slot_map.replicas(5) == ()


@st.composite
def views(draw: st.DrawFn) -> list[SlotRange]:
    ranges = []
    for epoch in draw(st.permutations(range(draw(st.integers(1, 8))))):
        first, last = sorted((draw(st.integers(0, SLOTS - 1)), draw(st.integers(0, SLOTS - 1))))
        ranges.append(SlotRange(first, last, draw(st.sampled_from((A, B, C))), (), epoch))
    return ranges


@hypothesis.given(views(), st.integers(0, SLOTS - 1))
@hypothesis.settings(max_examples=50)
def test_slot_map_each_slot_has_the_holder_of_the_highest_epoch(ranges: list[SlotRange], slot: int):
    holders = [slots for slots in ranges if slots.first <= slot <= slots.last]
    expected = max(holders, key=lambda slots: slots.epoch).primary if holders else None
    assert SlotMap(ranges).primary(slot) == expected


def test_slot_map_slot_moved_changes_this_slot_only():
    slot_map = SlotMap([SlotRange(0, 99, A, (C,), 1), SlotRange(100, SLOTS - 1, B, (), 2)])
    slot_map.note_moved(7, B)
    assert [slot_map.primary(slot) for slot in (6, 7, 8)] == [A, B, A]
    assert slot_map.primaries == (A, B)
    assert slot_map.all_replicas == (C,)
    assert slot_map.is_whole


def test_slot_map_two_nodes_is_equal_whatever_the_epochs():
    one_node = SlotMap([SlotRange(0, 99, A, (), 1), SlotRange(100, 199, A, (), 1)])
    assert one_node == SlotMap([SlotRange(0, 199, A, (), 5)])
    assert one_node != SlotMap([SlotRange(0, 199, A, (B,), 5)])
    assert not one_node.is_whole


def test_parse_ranges_takes_epochs_of_nodes_and_hosts_of_slots():
    slots = [
        [0, 99, [b"name.example", 7001, b"id1", []], [b"10.0.0.2", 7002, b"id2", [b"hostname", b"x"]]],
        [100, SLOTS - 1, [None, 7003, b"id3", []], [b"", 7004, b"id4", []], [b"?", 7005, b"id5", []]],
    ]
    nodes = (
        b"id1 10.0.0.1:7001@17001,name.example master - 0 1790000000000 3 connected 0-99\n"
        b"id2 10.0.0.2:7002@17002 slave id1 0 1790000000000 3 connected\n"
        b"id3 :7003@17003 myself,master - 0 0 12 connected 100-16383 [5->-id1]\n"
    )
    assert parse_ranges(slots, nodes, ASKED) == [
        SlotRange(0, 99, ("name.example", 7001), (("10.0.0.2", 7002),), 3),
        SlotRange(100, SLOTS - 1, ("here", 7003), (("here", 7004), ("here", 7005)), 12),
    ]
