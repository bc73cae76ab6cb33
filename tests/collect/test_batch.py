"""Batches: the number of their hits."""

from __future__ import annotations

from pixel_server.collect.batch import Batch
from pixel_server.hit import encode_batch


def test_batch_hits_are_counted_by_its_head():
    for hits in (0, 1, 15, 16, 1000):
        assert Batch(0, "", 1, encode_batch([b"\xc0"] * hits)).hits == hits
