"""The stream entries of one pass."""

from __future__ import annotations

import pytest

from pixel_server import hit
from pixel_server.hit import Hit
from pixel_server.store import keys
from workers.stream_reader import FIRST_ENTRIES, decode_entries, read_entries


def batch(hits):
    """Returns the fields of a stream entry with so many hits."""
    return {"1": hit.encode_batch([hit.encode(Hit(n, "none", hit.EMAIL, "GET")) for n in range(hits)])}


@pytest.mark.parametrize(
    ("sizes", "count", "is_limited"),
    [
        ([], 0, False),
        ([8] * 30, 13, True),
        ([60, 60, 60], 2, True),
        ([500], 1, True),
        ([16, 15, 0, 1], 4, False),
        ([99], 1, False),
    ],
)
@pytest.mark.parametrize("first", [1, FIRST_ENTRIES, 12, 1000])
def test_read_entries_limit_of_100_hits_stops_at_the_entry_that_reaches_it(
    client, sizes, count, is_limited, first
):
    for size in sizes:
        client.xadd(keys.hits(0), batch(size))
    entries, stopped = read_entries(client, 0, "0-0", 100, 50, first)
    assert (len(entries), stopped) == (count, is_limited)
    assert len(decode_entries(entries).hits) == sum(sizes[:count])


def test_read_entries_long_hits_are_fewer(client):
    client.xadd(keys.hits(0), {"1": hit.encode_batch([bytes([0xC5, 78, 30]) + bytes(19_998)] * 4)})
    client.xadd(keys.hits(0), batch(1))
    client.xadd(keys.hits(0), batch(1))
    entries, stopped = read_entries(client, 0, "0-0", 79, 50)
    assert (len(entries), stopped) == (2, True)


def test_read_entries_value_that_is_not_a_batch_is_read(client):
    for n in range(20):
        client.xadd(keys.hits(0), {"1": b"\xdc" if n % 2 else b"", "x": b"y"})
    entries, stopped = read_entries(client, 0, "0-0", 8, 50)
    assert (len(entries), stopped) == (4, True)
    assert len(decode_entries(entries).unreadable) == 8
