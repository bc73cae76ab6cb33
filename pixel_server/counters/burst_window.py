"""Traces of the hits of the last minutes, by which a burst is seen: kept in Redis, read and written.

A hash a shard and minute of hit time: under recipient key and campaign, msgpack of [format, traces]. It goes
once it is KEPT minutes behind the shard's newest hit, and not by the clock: a roll-up that comes late finds
what it would have found in time. Where none is counted any more, retention takes it after a day, also if hits
wait. Of an address
only a keyed hash of 4 bytes is in it, which differs from recipient to recipient.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from pixel_server.counters.series import refuse_newer
from pixel_server.store import keys
from pixel_server.store.checkpoint import Command
from pixel_server.store.protocols import Redis

FORMAT = 1
MINUTE = 60_000
"""ms"""
KEPT = 5
SCANNER, PERSON, UNKNOWN, APART = 0, 1, 2, 3
"""What a hit is counted as. APART: of a person, and no part of any burst. Stored in traces: append only."""

_CHUNK = 1000


class Trace(msgspec.Struct, array_like=True, gc=False):
    """at: ms within its minute. address: a hash. rule, labels, delay: what it is counted under. Of an APART
    one only time and delay are kept.

    Append only: stored traces are read by the position of each field. Add a field at the end, with a default.
    """

    at: int
    address: int
    kind: int
    rule: str
    is_open: bool
    delay: int
    labels: tuple[str, ...]


Traces = dict[bytes, dict[int, list[Trace]]]
"""By recipient key and campaign (`field`), then by minute."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, list[Trace]]).decode


def field(recipient: bytes, campaign: str) -> bytes:
    return recipient + campaign.encode()


def minutes(newest: int) -> range:
    """Those that are kept, when this (ms) is the time of a shard's newest hit."""
    last = newest // MINUTE
    return range(last - KEPT, last + 1)


def forget(shard: int, newest: int) -> list[Command]:
    """Returns the commands that forget a shard's newest hit (ms), and all that is kept beside it."""
    held = [keys.evidence(shard, minute) for minute in minutes(newest)]
    held += [keys.visits(shard), keys.lasts(shard), keys.visiting(shard)]
    return [*(("UNLINK", name) for name in held), ("HDEL", keys.checkpoint(shard), "newest")]


def read(store: Redis, shard: int, wanted: dict[int, set[bytes]], found: Traces) -> None:
    """Adds what is kept to `found`. wanted: fields, by minute. NewerFormat: a newer version wrote some."""
    pipe = store.pipeline(transaction=False)
    asked: list[tuple[int, list[bytes]]] = []
    for minute, fields in sorted(wanted.items()):
        names = list(fields)
        for i in range(0, len(names), _CHUNK):
            asked.append((minute, names[i : i + _CHUNK]))
            pipe.hmget(keys.evidence(shard, minute), asked[-1][1])
    for (minute, names), values in zip(asked, pipe.execute(), strict=True):
        for name, value in zip(names, values, strict=True):
            if value is not None:
                refuse_newer(value, FORMAT, "evidence")
                found.setdefault(name, {})[minute] = _decode(value)[1]


def write(shard: int, traces: Traces, changed: Iterable[tuple[int, bytes]]) -> Iterator[Command]:
    """The commands that keep these."""
    by_minute: dict[int, list[bytes]] = {}
    for minute, name in changed:
        by_minute.setdefault(minute, []).extend((name, _encode((FORMAT, traces[name][minute]))))
    for minute, pairs in by_minute.items():
        for i in range(0, len(pairs), _CHUNK):
            yield ("HSET", keys.evidence(shard, minute), *pairs[i : i + _CHUNK])
