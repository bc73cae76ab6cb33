"""The stream entries of one pass."""

from __future__ import annotations

import pytest

from pixel_server import hit
from pixel_server.hit import Hit
from pixel_server.store import keys
from pixel_server.store.checkpoint import Checkpoint, Generation
from workers import stream_reader
from workers.stream_reader import decode_entries, read_pass


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
@pytest.mark.parametrize("read_bytes", [1, 4000, 1 << 20])
def test_read_pass_limit_of_100_hits_stops_at_the_entry_that_reaches_it(
    client, monkeypatch, sizes, count, is_limited, read_bytes
):
    """A round trip may read fewer entries than the pass, so that a pass takes several."""
    monkeypatch.setattr(
        stream_reader, "_READ", stream_reader._READ.replace(f"{stream_reader.READ_BYTES}", f"{read_bytes}")
    )
    for size in sizes:
        client.xadd(keys.hits(0), batch(size))
    _, entries, stopped = read_pass(client, 0, 100, 50)
    assert (len(entries), stopped) == (count, is_limited)
    assert len(decode_entries(entries).hits) == sum(sizes[:count])


def test_read_pass_long_hits_are_fewer(client):
    client.xadd(keys.hits(0), {"1": hit.encode_batch([bytes([0xC5, 78, 30]) + bytes(19_998)] * 4)})
    client.xadd(keys.hits(0), batch(1))
    client.xadd(keys.hits(0), batch(1))
    _, entries, stopped = read_pass(client, 0, 79, 50)
    assert (len(entries), stopped) == (2, True)


def test_read_pass_value_that_is_not_a_batch_is_read(client):
    for n in range(20):
        client.xadd(keys.hits(0), {"1": b"\xdc" if n % 2 else b"", "x": b"y"})
    _, entries, stopped = read_pass(client, 0, 8, 50)
    assert (len(entries), stopped) == (4, True)
    assert len(decode_entries(entries).unreadable) == 8


def test_read_pass_entries_before_the_checkpoint_are_left_out(client):
    client.hset(keys.checkpoint(0), mapping={"n": 7, "mark": "abc", "id": "5-1", "newest": 9})
    for entry in ("5-0", "5-1", "5-2", "6-0"):
        client.xadd(keys.hits(0), batch(1), id=entry)
    checkpoint, entries, _ = read_pass(client, 0, 100, 50)
    assert checkpoint == Checkpoint(Generation(7, "abc"), "5-1", 9)
    assert [entry for entry, _ in entries] == [b"5-2", b"6-0"]


def test_read_pass_store_changed_between_round_trips_leaves_the_later_entries_out(client, monkeypatch):
    """If the pass counted entries of both states, it would count the lost entry twice when it comes again."""
    monkeypatch.setattr(
        stream_reader, "_READ", stream_reader._READ.replace(f"{stream_reader.READ_BYTES}", "1")
    )
    evaluate = client.eval

    def read_with(change):
        client.delete(keys.hits(0), keys.checkpoint(0))
        for entry in range(1, 21):
            client.xadd(keys.hits(0), batch(1), id=f"{entry}-0")
        changes = [lambda: None, change]

        def change_and_evaluate(*arguments):
            changes.pop(0)()
            return evaluate(*arguments)

        monkeypatch.setattr(client, "eval", change_and_evaluate)
        return [entry for entry, _ in read_pass(client, 0, 100, 50)[1]]

    first = [b"%d-0" % entry for entry in range(1, stream_reader.FIRST_ENTRIES + 1)]
    last = f"{stream_reader.FIRST_ENTRIES}-0"
    assert read_with(lambda: client.xdel(keys.hits(0), last)) == first
    assert read_with(lambda: client.hset(keys.checkpoint(0), mapping={"n": 1, "mark": "abc"})) == first
