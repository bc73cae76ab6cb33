"""Each kind of key has a rule, by which `pixel-server copy` treats it."""

from __future__ import annotations

from typing import get_args

from pixel_server.copying import merge
from pixel_server.copying.rules import Rule, rule
from pixel_server.counters import series
from pixel_server.store import keys


def test_every_kind_has_a_rule():
    assert {rule(pattern) for pattern in keys.TABLE} <= set(get_args(Rule))


def test_counts_are_summed_and_times_are_not():
    stored = {b"hits": b"3", b"last_hit": b"50", b"v1 from": b"10", b"v1 to": b"20"}
    more = {b"hits": b"4", b"opens": b"1", b"last_hit": b"40", b"v1 from": b"5", b"v1 to": b"30"}
    assert merge.counts(stored, more) == {
        **{b"hits": 7, b"opens": 1, b"last_hit": 50},
        **{b"v1 from": 5, b"v1 to": 30},
    }


def test_packed_sums_of_shards_add_up():
    one, two = series.pack({1: [1, 2], 3: [0, 0, 9]}), series.pack({1: [5], 2: [7]})
    assert series.unpack(merge.cells(merge.cells(None, one), two)) == {1: [6, 2], 2: [7], 3: [0, 0, 9]}
