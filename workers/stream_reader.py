"""Reads the stream entries of one pass, and decodes their hits. A pass is bounded by the number of hits."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from pixel_server.hit import FORMAT, Hit, UnreadableData, decode_batch
from pixel_server.store import keys
from pixel_server.store.protocols import Redis

Entry = tuple[bytes, dict[bytes, bytes]]
"""(id, fields) of a stream entry: `(b"1749546000000-0", {b"1": batch})`. A field's name is its format."""

FIRST_ENTRIES, MAX_ENTRIES = 8, 128
"""Entries read in the first round trip, and largest number of entries read in one round trip. A recorder
writes up to some thousand hits in one entry."""
LONG_HIT_BYTES = 1024
"""Bytes of a batch that count as at least one hit. So the memory of a pass is bounded, too."""
MAX_AHEAD_MS = 60_000
"""Milliseconds that a hit's time may be ahead of Redis's time when Redis stored the hit."""
_ARRAY_16 = 0xDC
"""First byte of a msgpack array whose length follows in 2 bytes."""


class Decoded(NamedTuple):
    """The hits of some entries.

    unreadable: hits that cannot be decoded. last_entry: id of the last entry decoded, or None if the first
    entry has a newer format. newer_entry: id of the first entry of a newer format, or "" without such an
    entry. ahead: number of hits whose time was ahead of Redis's time.
    """

    hits: list[Hit]
    unreadable: list[UnreadableData]
    last_entry: str | None
    newer_entry: str
    ahead: int


def read_entries(
    store: Redis, shard: int, after: str, max_hits: int, max_entries: int, first_count: int = FIRST_ENTRIES
) -> tuple[list[Entry], bool]:
    """Returns the entries after an id, and whether the reading stopped at `max_hits` or `max_entries`.

    The last entry may go beyond `max_hits`. first_count: entries to read in the first round trip, best as
    many as the last pass read.
    """
    entries: list[Entry] = []
    hits, step = 0, min(first_count, MAX_ENTRIES)
    while hits < max_hits and len(entries) < max_entries:
        count = min(step, max_entries - len(entries))
        reply = store.xrange(keys.hits(shard), f"({after}", "+", count)
        for entry in reply:
            if hits < max_hits:
                entries.append(entry)
                hits += sum(map(_estimate_hits, entry[1].values()))
        if len(reply) < count:
            break
        after = reply[-1][0].decode()
        step = min(MAX_ENTRIES, 1 + (max_hits - hits) * len(entries) // hits)
    return entries, hits >= max_hits or len(entries) >= max_entries


def _estimate_hits(batch: bytes) -> int:
    """Returns the number of hits that the first bytes of a batch, a msgpack array, name.

    Long hits count as more (LONG_HIT_BYTES). A value that is not a batch counts as one hit.
    """
    head = batch[0] if batch else 0
    hits = int.from_bytes(batch[1:3], "big") if head == _ARRAY_16 else head & 0x0F if head >> 4 == 9 else 1
    return max(1, hits, len(batch) // LONG_HIT_BYTES)


def decode_entries(entries: list[Entry], max_ahead_ms: int = MAX_AHEAD_MS) -> Decoded:
    """Returns the hits of these entries, up to the first entry of a newer format.

    A hit cannot be newer than its entry, whose id is Redis's time. A hit that is newer by more than
    `max_ahead_ms` gets the time of its entry. Otherwise all other hits would be late beside this hit. The
    result depends neither on the time of reading nor on the reader's clock.
    """
    ahead = 0
    hits: list[Hit] = []
    unreadable: list[UnreadableData] = []
    last_entry: str | None = None
    for entry, fields in entries:
        for name, data in fields.items():
            if name.isdigit() and int(name) > FORMAT:
                return Decoded(hits, unreadable, last_entry, entry.decode(), ahead)
            if name != b"%d" % FORMAT:
                unreadable.append(UnreadableData(data, f"entry: field {name[:20]!r}"))
                continue
            batch, unreadable_hits = decode_batch(data)
            stored_ms = int(entry.partition(b"-")[0])
            latest_ms = stored_ms + max_ahead_ms
            for i, hit in enumerate(batch):
                if hit.time > latest_ms:
                    batch[i] = msgspec.structs.replace(hit, time=stored_ms)
                    ahead += 1
            hits += batch
            unreadable += unreadable_hits
        last_entry = entry.decode()
    return Decoded(hits, unreadable, last_entry, "", ahead)
