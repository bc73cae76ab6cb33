"""Visits that are under way: kept in Redis as long as the next hit may belong to them.

A hash a shard: under visitor and campaign, msgpack of [format, visit], or of [format, visitor] where the same
one was seen under another hash (after midnight, or before a cookie was taken). Beside it their last times, in
a sorted set, and how many each campaign has. A visit goes when it is KEPT behind the shard's newest hit, and
not by the clock: a roll-up that comes late finds what it would have found in time. Where no hit comes any
more, retention takes all after a day.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from pixel_server.counters.series import refuse_newer
from pixel_server.store import keys
from pixel_server.store.checkpoint import Command
from pixel_server.store.protocols import Redis

FORMAT = 1
PAUSE = 30 * 60_000
"""ms without a hit that end a visit."""
LONGEST = 24 * 3_600_000
"""ms after which one begins anew, whatever comes: a page that reloads itself."""
KEPT = 2 * PAUSE
"""A hit that is PAUSE behind the newest may still belong to a visit that ended PAUSE before it."""
MOST = 32_000
"""A shard. A campaign may hold as many as are left to the others: so one alone takes half, two take a third
each, and none can take all."""
MOST_SEEN = 24
"""Views of a visit that are known again by their ids, and whose time may still be reported."""
MOST_ALIASES = 8
LARGEST = 4000
"""Bytes of Redis that a visit takes at most, with names as long as may be, all its views and aliases."""

_CHUNK = 1000


class Seen(msgspec.Struct, array_like=True, gc=False):
    """A view. at: ms. time: bin of the time on its page that is counted, 0: none. is_reported: by `p.js`.

    Append only: stored visits are read by the position of each field. Add a field at the end, with a default.
    """

    view: bytes
    at: int
    time: int = 0
    is_reported: bool = False


class Visit(msgspec.Struct, array_like=True):
    """start, last: ms; it is counted under its start. days: views by local day. time: bin that is counted.

    entry, exit: pages. exit_at: when that page was viewed, ms. source: see `dimensions`. aliases: other
    hashes of the visitor. is_told: it is counted as new or returning.

    Append only: stored visits are read by the position of each field. Add a field at the end, with a default.
    """

    start: int
    last: int
    visitor: bytes
    entry: str
    exit: str
    exit_at: int
    source: tuple[str, str, str, str]
    days: dict[str, int]
    views: int = 0
    time: int = 0
    seen: list[Seen] = []
    aliases: list[bytes] = []
    is_told: bool = False


Entry = Visit | bytes
"""A visit, or the field that it is kept under."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, Entry]).decode


def field(visitor: bytes, campaign: bytes) -> bytes:
    """visitor: 8 bytes."""
    return visitor + campaign


def campaign_of(name: bytes) -> bytes:
    """The campaign of a field."""
    return name[8:]


def read(store: Redis, shard: int, fields: Iterable[bytes]) -> dict[bytes, Entry]:
    """What is kept under these, and what that points to. NewerFormat: a newer version wrote some."""
    found: dict[bytes, Entry] = {}
    wanted = list(dict.fromkeys(fields))
    asked: set[bytes] = set()
    while wanted:
        asked.update(wanted)
        pipe = store.pipeline(transaction=False)
        for i in range(0, len(wanted), _CHUNK):
            pipe.hmget(keys.visits(shard), wanted[i : i + _CHUNK])
        values = [value for part in pipe.execute() for value in part]
        for name, value in zip(wanted, values, strict=True):
            if value is not None:
                refuse_newer(value, FORMAT, "visit")
                found[name] = _decode(value)[1]
        pointed = {entry for entry in found.values() if isinstance(entry, bytes)}
        wanted = list(pointed - asked)
    return found


def counts(store: Redis, shard: int, fields: Iterable[bytes]) -> Counter[bytes]:
    """How many visits the campaigns of these have under way."""
    campaigns = list({campaign_of(name) for name in fields})
    values = store.hmget(keys.visiting(shard), campaigns) if campaigns else []
    return Counter({campaign: int(n or 0) for campaign, n in zip(campaigns, values, strict=True)})


def pack(entry: Entry) -> bytes:
    return _encode((FORMAT, entry))


def write(
    shard: int, kept: dict[bytes, Entry], gone: Iterable[bytes], more: Mapping[bytes, int]
) -> list[Command]:
    """The commands that keep these, and take away those. more: visits of each campaign, than there were."""
    commands: list[Command] = [
        ("HINCRBY", keys.visiting(shard), campaign, str(n)) for campaign, n in more.items() if n
    ]
    pairs = [(name, pack(entry)) for name, entry in kept.items()]
    for i in range(0, len(pairs), _CHUNK):
        flat = [part for pair in pairs[i : i + _CHUNK] for part in pair]
        commands.append(("HSET", keys.visits(shard), *flat))
    lasts = [(str(entry.last), name) for name, entry in kept.items() if isinstance(entry, Visit)]
    for i in range(0, len(lasts), _CHUNK):
        flat_lasts = [part for pair in lasts[i : i + _CHUNK] for part in pair]
        commands.append(("ZADD", keys.lasts(shard), *flat_lasts))
    left = list(gone)
    pointing = [name for name, entry in kept.items() if isinstance(entry, bytes)]
    commands += _remove("HDEL", keys.visits(shard), left)
    commands += _remove("ZREM", keys.lasts(shard), left + pointing)
    return commands


def _remove(command: str, key: str, names: list[bytes]) -> Iterator[Command]:
    for i in range(0, len(names), _CHUNK):
        yield (command, key, *names[i : i + _CHUNK])
