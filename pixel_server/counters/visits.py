"""Visits that are under way. Redis holds a visit as long as another hit may belong to the visit.

Each shard has three keys:

- A Redis hash. A field names visitor and campaign, see `field`. A value is msgpack of [format, visit]. Hits
  of the same visitor may have another visitor hash after midnight, or before the visitor accepts a cookie.
  The field of that other visitor hash holds an alias: msgpack of [format, field of the visit].
- A sorted set of the fields of visits, by the time of their last hit.
- A Redis hash with the number of visits under way of each campaign.

A visit is removed when its last hit is KEPT_MS before the newest hit of the shard. The clock does not matter:
a roll-up that runs late has the same visits as a roll-up on time. If no hit comes for a day, retention
removes all visits of the shard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from pixel_server.counters.stored_format import refuse_newer
from pixel_server.counters.web_breakdown import NONE, Source
from pixel_server.store import keys
from pixel_server.store.checkpoint import Command
from pixel_server.store.protocols import Pipeline
from pixel_server.store.readers import Reader

FORMAT = 1
PAUSE_MS = 30 * 60_000
"""Milliseconds without a hit that end a visit."""
MAX_VISIT_MS = 24 * 3_600_000
"""Milliseconds after which a visit ends even without a pause, as on a page that reloads itself."""
KEPT_MS = 2 * PAUSE_MS
"""Milliseconds for which a visit is kept after its last hit. A hit that is PAUSE_MS behind the newest hit may
still belong to a visit whose last hit was PAUSE_MS earlier."""
MAX_VISITS = 32_000
"""Largest number of visits under way in a shard. A campaign begins a visit only if it has fewer visits under
way than the shard can still add. So one campaign alone can have half of MAX_VISITS, two campaigns a third
each, and no campaign can have all."""
MAX_RECENT_VIEWS = 24
"""Largest number of views kept in a visit, so that a report of time on a page finds its view by id."""
MAX_ALIASES = 8
MAX_BYTES = 4500
"""Largest number of bytes of Redis that a visit takes, with the longest names, all views and all aliases."""

_FIELDS_PER_COMMAND = 1000


class RecentView(msgspec.Struct, array_like=True, gc=False):
    """A view of a visit. view: id of the view. at: ms since 1970. time_bin: bin (`histogram.span_bin`) in
    which the time on the page is counted, or 0. is_reported: whether `p.js` has reported that time.

    Append only: stored visits are read by the position of each field. Add a field at the end, with a default.
    """

    view: bytes
    at: int
    time_bin: int = 0
    is_reported: bool = False


class Visit(msgspec.Struct, array_like=True):
    """A visit. A visit is counted in the bucket and the day of its start.

    start, last: ms since 1970 of the first and the last hit. entry, exit: pages. exit_at: ms since 1970 at
    which the exit page was viewed. source, more_source: the first four and the last two fields of
    `web_breakdown.Source`. days: views by local day (`"20250610"`). length_bin: bin (`histogram.span_bin`) in
    which the visit's length is counted, or 0. recent_views: its last views. aliases: fields of its aliases.
    is_new_or_returning_counted: whether the visit has been counted as new or returning. number: its number in
    the sample (`visit_sample`), b"" if an earlier version began the visit.

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
    length_bin: int = 0
    recent_views: list[RecentView] = []
    aliases: list[bytes] = []
    is_new_or_returning_counted: bool = False
    more_source: tuple[str, str] = (NONE, NONE)
    number: bytes = b""

    @property
    def whole_source(self) -> Source:
        return Source(*self.source, *self.more_source)


Entry = Visit | bytes
"""A visit, or an alias: the field that holds the visit."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, Entry]).decode


def field(visitor: bytes, campaign: bytes) -> bytes:
    """Returns the field of a visitor's visit: `b"8 bytes!spring"`. visitor: 8 bytes."""
    return visitor + campaign


def campaign_of(field: bytes) -> bytes:
    """Returns the campaign in a field."""
    return field[8:]


def read_entries(pipe: Pipeline, shard: int, fields: Iterable[bytes]) -> Reader[dict[bytes, Entry]]:
    """Returns the entries of these fields, and the visits to which aliases among them lead.

    Leaves out a field without an entry. Raises NewerFormat.
    """
    entries: dict[bytes, Entry] = {}
    to_read = list(dict.fromkeys(fields))
    requested: set[bytes] = set()
    while to_read:
        requested.update(to_read)
        for i in range(0, len(to_read), _FIELDS_PER_COMMAND):
            pipe.hmget(keys.visits(shard), to_read[i : i + _FIELDS_PER_COMMAND])
        replies = yield
        values = [value for reply in replies for value in reply]
        for field_name, value in zip(to_read, values, strict=True):
            if value is not None:
                refuse_newer(value, FORMAT, "visit")
                entries[field_name] = _decode(value)[1]
        targets = {entry for entry in entries.values() if isinstance(entry, bytes)}
        to_read = list(targets - requested)
    return entries


def count_by_campaign(pipe: Pipeline, shard: int, fields: Iterable[bytes]) -> Reader[Counter[bytes]]:
    """Returns the number of visits under way, for each campaign that these fields name."""
    campaigns = list({campaign_of(field_name) for field_name in fields})
    if not campaigns:
        return Counter()
    pipe.hmget(keys.visiting(shard), campaigns)
    (values,) = yield
    return Counter({campaign: int(n or 0) for campaign, n in zip(campaigns, values, strict=True)})


def pack(entry: Entry) -> bytes:
    """Returns the stored bytes of a visit or an alias."""
    return _encode((FORMAT, entry))


def store_commands(
    shard: int, changed: dict[bytes, Entry], removed: Iterable[bytes], count_changes: Mapping[bytes, int]
) -> list[Command]:
    """Returns the commands that store changed entries and remove others.

    removed: fields. count_changes: change of the number of visits, by campaign.
    """
    commands: list[Command] = [
        ("HINCRBY", keys.visiting(shard), campaign, str(n)) for campaign, n in count_changes.items() if n
    ]
    pairs = [(field_name, pack(entry)) for field_name, entry in changed.items()]
    for i in range(0, len(pairs), _FIELDS_PER_COMMAND):
        flat = [part for pair in pairs[i : i + _FIELDS_PER_COMMAND] for part in pair]
        commands.append(("HSET", keys.visits(shard), *flat))
    last_hits = [
        (str(entry.last), field_name) for field_name, entry in changed.items() if isinstance(entry, Visit)
    ]
    for i in range(0, len(last_hits), _FIELDS_PER_COMMAND):
        flat_last_hits = [part for pair in last_hits[i : i + _FIELDS_PER_COMMAND] for part in pair]
        commands.append(("ZADD", keys.visit_times(shard), *flat_last_hits))
    without_entry = list(removed)
    aliases = [field_name for field_name, entry in changed.items() if isinstance(entry, bytes)]
    commands += _remove("HDEL", keys.visits(shard), without_entry)
    commands += _remove("ZREM", keys.visit_times(shard), without_entry + aliases)
    return commands


def _remove(command: str, key: str, fields: list[bytes]) -> Iterator[Command]:
    for i in range(0, len(fields), _FIELDS_PER_COMMAND):
        yield (command, key, *fields[i : i + _FIELDS_PER_COMMAND])
