"""Batches of the spool that were numbered for another number of shards."""

from __future__ import annotations

import asyncio

import pytest

from pixel_server import hit
from pixel_server.collect.batch import Batch
from pixel_server.collect.spool.resharding import ReshardingSink, split

ID = "018f39b09f000123456789abcdef"


def mail(number: int) -> bytes:
    """Returns a hit whose recipient's shard is `number % shards`."""
    recipient = number.to_bytes(4, "big") + b"rest"
    return hit.encode(hit.Hit(time=1, campaign="spring", kind=hit.EMAIL, method="GET", recipient=recipient))


WEB = hit.encode(hit.Hit(time=1, campaign="site", kind=hit.WEB, method="GET", visitor=b"visitor!"))
NOBODY = hit.encode(hit.Hit(time=1, campaign="spring", kind=hit.EMAIL, method="GET"))


def batch(shard: int, *hits: bytes, sequence: int = 7) -> Batch:
    return Batch(shard, ID, sequence, hit.encode_batch(hits))


@pytest.mark.parametrize(
    "data", [hit.encode_batch([mail(6), mail(2), WEB, NOBODY, b"\xc0"]), b"", b"nonsense", b"\xdc\xff\xff"]
)
def test_split_of_an_unchanged_store_keeps_each_batch(data: bytes):
    kept = Batch(2, ID, 7, data)
    assert split(kept, 4) == [kept]


def test_split_sends_each_recipient_to_its_shard():
    mixed = batch(1, mail(1), WEB, mail(5), mail(9), NOBODY)  # of 4 shards
    parts = {part.shard: part for part in split(mixed, 8)}
    assert parts == {
        1: batch(1, mail(1), WEB, mail(9), NOBODY),
        5: Batch(5, f"{ID}.1", 7, hit.encode_batch([mail(5)])),
    }


def test_split_keeps_a_part_for_the_number_of_the_batch():
    assert batch(1) in split(batch(1, mail(5)), 8)


def test_split_to_fewer_shards_gives_each_part_an_id_of_its_own():
    parts = {part.shard: part for part in split(batch(3, mail(3), mail(7), WEB), 2)}
    assert parts == {1: Batch(1, f"{ID}.3", 7, hit.encode_batch([mail(3), mail(7), WEB]))}


@pytest.mark.parametrize(
    ("seen", "reply"),
    [({1: 6, 5: 0}, 6), ({1: 7, 5: 7}, 7), ({1: 7, 5: 0}, 6), ({1: 6, 5: -9}, -9), ({1: 3, 5: 6}, 6)],
)
def test_sink_reply_to_a_split_batch_shows_no_gap(seen: dict[int, int], reply: int):
    class Seen:
        async def append(self, batches):
            return [seen[part.shard] for part in batches]

    assert asyncio.run(ReshardingSink(Seen(), 8).append([batch(1, mail(1), mail(5))])) == [reply]
