"""Lists the recipients of a campaign who are in a given state, such as `opened`. Reads some hashes at a time.

A place is the number of a Redis hash of recipients: shard * PEOPLE_BUCKETS + bucket. Lists use a place as
their cursor.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any

import msgspec

from pixel_server.counters import recipient_record
from pixel_server.counters.recipient_record import RecipientRecord
from pixel_server.figures import csv_export
from pixel_server.recipients import lists, withdrawals
from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.shards import shard_of
from pixel_server.times import iso_ms

STATES = ("opened", "person", "machine_only", "unopened")
"""States of a recipient. opened: with any open. person: with an open by a person or a proxy. machine_only:
every open was a prefetch's or a scanner's. unopened: on the list without an open; leaves out recipients who
withdrew, because their opens are dropped."""

FIELDS = (
    *("key", "recipient", "name", "listed"),
    *("opens", "opens_person", "first_open", "last_open", "last_open_person"),
)
FIRST_PLACES, MAX_PLACES = 64, 1024
"""Number of places read in the first round trip (about 4,000 of a million recipients), and largest number
read in one round trip."""
PLACES_IN_CHECK = 4
"""Number of neighbouring places that one EXISTS command checks."""
TARGET_ROWS = 4000
"""Number of recipients that a round trip should read. Handling their records delays pixel requests to this
process by about 10 ms."""

Row = dict[str, Any]
Parts = AsyncIterator[tuple[int, list[Row]]]
"""Parts of a list: (place after the part, rows of the part)."""

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
    kinds = (keys.people, keys.listed, keys.names) if shows_names else (keys.people, keys.listed)
    end = place_count(shards)
    step = first_places
    while start < end:
        places: Sequence[int] = range(start, min(start + step, end))
        start = places[-1] + 1
        if step > FIRST_PLACES:  # few recipients were found, so most places are empty
            places = await _used_places(store, campaign, places)
        pipe = store.pipeline(transaction=False)
        for place in places:
            shard, bucket = divmod(place, keys.PEOPLE_BUCKETS)
            for key in kinds:
                pipe.hgetall(key(shard, campaign, bucket))
        hashes = await pipe.execute()
        step = next_step(step, sum(map(len, hashes)))
        part: dict[bytes, Row] = {}
        for records, listed, *names in zip(
            *(hashes[i :: len(kinds)] for i in range(len(kinds))), strict=True
        ):
            for recipient in sorted(records.keys() | listed.keys()):
                record = recipient_record.unpack(records.get(recipient))
                if has_state(state, record, recipient in listed):
                    part[recipient] = _row(recipient, record, recipient in listed, *names)
        if state == "unopened":
            for recipient in await withdrawals.withdrawn_now(store, secrets, part):
                del part[recipient]
        yield start, list(part.values())


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


async def _used_places(store: AsyncRedis, campaign: str, places: Sequence[int]) -> list[int]:
    """Returns the places that may hold a recipient."""
    groups = [list(group) for _, group in groupby(places, lambda place: place // PLACES_IN_CHECK)]
    pipe = store.pipeline(transaction=False)
    for group in groups:
        hashes = [divmod(place, keys.PEOPLE_BUCKETS) for place in group]
        kinds = (keys.people, keys.listed)
        pipe.exists(*(key(shard, campaign, bucket) for shard, bucket in hashes for key in kinds))
    counts = await pipe.execute()
    return [place for group, count in zip(groups, counts, strict=True) if count for place in group]


def next_step(step: int, rows_read: int, max_places: int = MAX_PLACES) -> int:
    """Returns the number of places to read next, after `step` places held `rows_read` rows."""
    if rows_read > 2 * TARGET_ROWS:
        return max(1, step // 2)
    return min(2 * step, max_places) if rows_read < TARGET_ROWS // 2 else step


def has_state(state: str, record: RecipientRecord, is_listed: bool) -> bool:
    """Returns whether a recipient is in one of STATES. Ignores withdrawals."""
    if state == "unopened":
        return is_listed and not record.opens
    if state == "person":
        return record.person > 0
    if state == "machine_only":
        return record.opens > 0 and record.prefetch + record.scanner == record.opens
    return record.opens > 0


def _row(
    recipient: bytes,
    record: RecipientRecord,
    is_listed: bool,
    names: Mapping[bytes, bytes] = MappingProxyType({}),
) -> Row:
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
    }


async def ndjson(parts: Parts) -> AsyncIterator[bytes]:
    """Yields the rows as JSON, one a line."""
    async for _, rows in parts:
        yield b"".join(_encode(row) + b"\n" for row in rows)


async def as_csv(parts: Parts, columns: Sequence[str] = FIELDS) -> AsyncIterator[bytes]:
    """Yields the rows as CSV below a header."""
    yield csv_export.lines([columns])
    async for _, rows in parts:
        yield csv_export.lines([row[field] for field in columns] for row in rows)
