"""What waits in a shard's stream, read for one pass: bounded by its hits, however many lie in an entry."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from pixel_server import hit
from pixel_server.hit import Hit, UnreadableData
from pixel_server.store import keys
from pixel_server.store.protocols import Redis

Entry = tuple[bytes, dict[bytes, bytes]]
"""(id, fields)"""

FIRST, STEP = 8, 128
"""Entries read in one round trip: at first, and at most. A recorder writes a thousand hits in one, or so."""
LONG = 1024
"""Bytes: a pass takes fewer hits if they are longer, so that what it holds in memory is bounded, too."""


AHEAD_MS = 60_000
"""ms that a hit may be ahead of Redis's time when Redis stored it."""


class Decoded(NamedTuple):
    """last: id of the last entry taken, None: not even the first. newer: id of one of a newer format. ahead:
    how many hits came from the future."""

    hits: list[Hit]
    unreadable: list[UnreadableData]
    last: str | None
    newer: str
    ahead: int


def read(
    store: Redis, shard: int, last: str, hits: int, entries: int, first: int = FIRST
) -> tuple[list[Entry], bool]:
    """The entries after this one, and whether it stopped at so many hits (see LONG) or entries.

    first: entries to begin with, as many as there were last time. The hits of the last entry may be above.
    """
    found: list[Entry] = []
    held, step = 0, min(first, STEP)
    while held < hits and len(found) < entries:
        asked = min(step, entries - len(found))
        part = store.xrange(keys.hits(shard), f"({last}", "+", asked)
        for entry in part:
            if held < hits:
                found.append(entry)
                held += sum(map(_count, entry[1].values()))
        if len(part) < asked:
            break
        last = part[-1][0].decode()
        step = min(STEP, 1 + (hits - held) * len(found) // held)
    return found, held >= hits or len(found) >= entries


def _count(batch: bytes) -> int:
    """The hits of a batch, as the head of a msgpack array says; at least 1, also of what is none, and 1 for
    each LONG bytes."""
    head = batch[0] if batch else 0
    hits = int.from_bytes(batch[1:3], "big") if head == 0xDC else head & 0x0F if head >> 4 == 9 else 1
    return max(1, hits, len(batch) // LONG)


def decode(entries: list[Entry], ahead_ms: int = AHEAD_MS) -> Decoded:
    """Reads the hits of these entries.

    A hit cannot be newer than its entry, whose id is Redis's time. A hit that is, by more than `ahead_ms`,
    gets the time of its entry, or all hits of others would be late beside it. The outcome depends neither
    on the time of reading, nor on the clock of the reader.
    """
    ahead = 0
    hits: list[Hit] = []
    unreadable: list[UnreadableData] = []
    last: str | None = None
    for entry, fields in entries:
        for name, data in fields.items():
            if name.isdigit() and int(name) > hit.FORMAT:
                return Decoded(hits, unreadable, last, entry.decode(), ahead)
            if name != b"%d" % hit.FORMAT:
                unreadable.append(UnreadableData(data, f"entry: field {name[:20]!r}"))
                continue
            good, bad = hit.decode_batch(data)
            stored = int(entry.partition(b"-")[0])
            latest = stored + ahead_ms
            for i, one in enumerate(good):
                if one.time > latest:
                    good[i] = msgspec.structs.replace(one, time=stored)
                    ahead += 1
            hits += good
            unreadable += bad
        last = entry.decode()
    return Decoded(hits, unreadable, last, "", ahead)
