"""Lists the recipients of a campaign who are in a given state, such as `opened`. Reads some hashes at a time.

A place is the number of a Redis hash of recipients: shard * PEOPLE_BUCKETS + bucket. Lists use a place as
their cursor.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import msgspec

from pixel_server.counters import recipient_record
from pixel_server.counters.recipient_record import RecipientRecord
from pixel_server.figures import csv_export
from pixel_server.recipients import lists, withdrawals
from pixel_server.secret import Secrets
from pixel_server.store import keys, raw_replies
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import ScriptCall, script_call
from pixel_server.store.shards import shard_of
from pixel_server.times import iso_ms

STATES = ("opened", "person", "machine_only", "unknown", "unopened", "withdrawn", "all")
"""States of a recipient. opened: with any open. person: with an open by a person or a proxy. machine_only:
every open was a prefetch's or a scanner's. unknown: opened, but neither of these two. unopened: on the list
without an open; leaves out recipients who withdrew, because their opens are dropped. withdrawn: withdrew,
with or without an open before. all: every recipient on the list or with a record."""

FIELDS = (
    *("key", "recipient", "name", "listed"),
    *("opens", "opens_person", "first_open", "last_open", "last_open_person", "withdrawn"),
    "first_open_person",
)
FIRST_PLACES, MAX_PLACES = 64, 1024
"""Number of places read in the first round trip (about 4,000 of a million recipients), and largest number
read in one round trip."""
TARGET_ROWS = 4000
"""Number of recipients that a round trip should read. Handling their records delays pixel requests to this
process by about 10 ms."""

Row = dict[str, Any]
Parts = AsyncIterator[tuple[int, list[Row]]]
"""Parts of a list: (place after the part, rows of the part)."""
AsCsv = Callable[[Parts], AsyncIterator[bytes]]
"""A function such as `as_csv`, for one kind of list."""
Hashes = list[Sequence[Mapping[bytes, bytes]]]
"""The hashes of some places, one item a place: packed records, the list and, if requested, packed names. All
are by recipient key."""

_encode = msgspec.json.Encoder().encode


def place(recipient: bytes, shards: int) -> int:
    """Returns the place of a recipient key."""
    return shard_of(recipient, shards) * keys.PEOPLE_BUCKETS + recipient_record.people_bucket(recipient)


def place_count(shards: int) -> int:
    """Returns the number of places."""
    return shards * keys.PEOPLE_BUCKETS


async def rows(
    store: AsyncRedis,
    secrets: Secrets,
    campaign: str,
    shards: int,
    state: str,
    shows_names: bool,
    start: int = 0,
    first_places: int = FIRST_PLACES,
) -> Parts:
    """Yields the recipients in a state, from a place on.

    state: one of STATES. shows_names: whether names may be shown. first_places: number of places read first.
    Raises NewerFormat if a newer version wrote a record.
    """
    async for place_after, hashes in read_hashes(store, campaign, shards, shows_names, start, first_places):
        found = [
            (recipient, recipient_record.unpack(records.get(recipient)), recipient in listed, names)
            for records, listed, *names in hashes
            for recipient in sorted(records.keys() | listed.keys())
        ]
        if state not in ("unopened", "withdrawn"):  # the other states need no check of recipients left out
            found = [item for item in found if has_state(state, item[1], item[2])]
        withdrawn = await withdrawals.withdrawn_now(store, secrets, (recipient for recipient, *_ in found))
        yield (
            place_after,
            [
                row(recipient, record, is_listed, recipient in withdrawn, *names)
                for recipient, record, is_listed, names in found
                if has_state(state, record, is_listed, recipient in withdrawn)
            ],
        )


async def read_hashes(
    store: AsyncRedis,
    campaign: str,
    shards: int,
    with_names: bool,
    start: int = 0,
    first_places: int = FIRST_PLACES,
) -> AsyncIterator[tuple[int, Hashes]]:
    """Yields (place after the part, hashes of the part), from a place on.

    with_names: whether names are read. first_places: number of places read first.
    """
    kinds = (keys.people, keys.listed, keys.names) if with_names else (keys.people, keys.listed)
    end = place_count(shards)
    step = first_places
    while start < end:
        places: Sequence[int] = range(start, min(start + step, end))
        start = places[-1] + 1
        if step > FIRST_PLACES:  # few recipients were found, so most places are empty
            places = [place for place, _ in await used_places(store, [campaign], places)]
        pipe = store.pipeline(transaction=False)
        for place in places:
            shard, bucket = divmod(place, keys.PEOPLE_BUCKETS)
            for key in kinds:
                pipe.hgetall(key(shard, campaign, bucket))
        hashes = await pipe.execute()
        step = next_step(step, sum(map(len, hashes)))
        yield start, list(zip(*(hashes[i :: len(kinds)] for i in range(len(kinds))), strict=True))


async def read_some(
    store: AsyncRedis, campaign: str, shards: int, recipients: Sequence[bytes]
) -> list[RecipientRecord]:
    """Returns the record of each of some recipients. Makes one round trip.

    Raises NewerFormat if a newer version wrote a record.
    """
    pipe = store.pipeline(transaction=False)
    for recipient in recipients:
        shard, bucket = shard_of(recipient, shards), recipient_record.people_bucket(recipient)
        pipe.hget(keys.people(shard, campaign, bucket), recipient)
    return [recipient_record.unpack(value) for value in await pipe.execute()]


async def used_places(
    store: AsyncRedis, campaigns: Sequence[str], places: Sequence[int]
) -> list[tuple[int, str]]:
    """Returns (place, campaign) of each place that holds a recipient of the campaign, sorted.

    places: neighbouring places. Makes one round trip. It costs Redis about 1 us for each place and campaign.
    """
    parts = []
    for shard, group in groupby(places, lambda place: place // keys.PEOPLE_BUCKETS):
        buckets = [place % keys.PEOPLE_BUCKETS for place in group]
        parts += [(shard, campaign, buckets) for campaign in campaigns]
    calls = [
        _used_buckets_call(shard, campaign, first=buckets[0], last=buckets[-1])
        for shard, campaign, buckets in parts
    ]
    replies = await raw_replies.read(store, [("EVAL", *call) for call in calls])
    return sorted(
        (shard * keys.PEOPLE_BUCKETS + bucket, campaign)
        for (shard, campaign, _), used in zip(parts, replies, strict=True)
        for bucket in used
    )


_USED_BUCKETS = """
-- KEYS: none. ARGV: first and last bucket, the names of two kinds of hash without the bucket. Returns the
-- buckets for which one of the two hashes exists.
local used = {}
for bucket = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  local ending = string.format('%03x', bucket)
  if redis.call('EXISTS', ARGV[3] .. ending, ARGV[4] .. ending) > 0 then used[#used + 1] = bucket end
end
return used
"""


def _used_buckets_call(shard: int, campaign: str, *, first: int, last: int) -> ScriptCall:
    prefixes = (keys.listed.prefix(shard, campaign), keys.people.prefix(shard, campaign))
    return script_call(_USED_BUCKETS, keys=(), arguments=(first, last, *prefixes), undeclared=shard)


def next_step(step: int, rows_read: int, max_places: int = MAX_PLACES) -> int:
    """Returns the number of places to read next, after `step` places held `rows_read` rows."""
    if rows_read > 2 * TARGET_ROWS:
        return max(1, step // 2)
    return min(2 * step, max_places) if rows_read < TARGET_ROWS // 2 else step


def has_state(state: str, record: RecipientRecord, is_listed: bool, is_withdrawn: bool = False) -> bool:
    """Returns whether a recipient is in one of STATES."""
    return state in states_of(record, is_listed, is_withdrawn)


def states_of(record: RecipientRecord, is_listed: bool, is_withdrawn: bool) -> tuple[str, ...]:
    """Returns all STATES of a recipient: `("all", "opened", "person")`."""
    states: tuple[str, ...] = ("all",)
    if record.opens:
        states = ("all", "opened")
        if record.person:
            states = ("all", "opened", "person")
        elif record.prefetch + record.scanner == record.opens:
            states = ("all", "opened", "machine_only")
        else:
            states = ("all", "opened", "unknown")
    elif is_listed and not is_withdrawn:
        states = ("all", "unopened")
    return (*states, "withdrawn") if is_withdrawn else states


def row(
    recipient: bytes,
    record: RecipientRecord,
    is_listed: bool,
    is_withdrawn: bool,
    names: Mapping[bytes, bytes] = MappingProxyType({}),
) -> Row:
    """Returns the row of a recipient. names: packed names by recipient key.

    Raises NewerFormat if a newer version wrote the name.
    """
    packed = names.get(recipient)
    entry = lists.unpack(packed) if packed is not None else None
    return {
        "key": recipient.hex(),
        "recipient": entry.recipient if entry else None,
        "name": entry.name if entry else None,
        "listed": is_listed,
        "opens": record.opens,
        "opens_person": record.person,
        "first_open": iso_ms(record.first * 1000) if record.opens else None,
        "last_open": iso_ms(record.last * 1000) if record.opens else None,
        "last_open_person": iso_ms(record.last_person * 1000) if record.person else None,
        "withdrawn": is_withdrawn,
        "first_open_person": iso_ms(record.first_person * 1000) if record.person else None,
    }


async def ndjson(parts: Parts) -> AsyncIterator[bytes]:
    """Yields the rows as JSON, one a line."""
    async for _, rows in parts:
        yield b"".join(_encode(row) + b"\n" for row in rows)


async def as_csv(parts: Parts, columns: Sequence[str] = FIELDS) -> AsyncIterator[bytes]:
    """Yields the rows as CSV below a header."""
    yield csv_export.lines([columns])
    async for _, rows in parts:
        yield csv_export.lines(map(itemgetter(*columns), rows))
