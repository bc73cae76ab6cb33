"""Who a campaign's recipients are, by what they did: read a few hashes at a time, however many there are."""

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
from pixel_server.times import iso_ms

STATES = ("opened", "person", "machine_only", "unopened")
"""opened: with any open. person: with one by a person or a proxy. machine_only: each open a prefetch's or a
scanner's. unopened: on the list, and without an open; without those who withdrew, whose opens are dropped."""

FIELDS = (
    *("key", "recipient", "name", "listed"),
    *("opens", "opens_person", "first_open", "last_open", "last_open_person"),
)
AT_ONCE, MOST_AT_ONCE = 64, 1024
"""Places read in one round trip, at first: some 4,000 recipients of a million; and where there are fewer."""
RUN = 4
"""Places of one shard of which it is asked at once whether there is anything."""
ROWS = 4000
"""Recipients that a round trip aims at: pixels of the same process wait for these, some 10 ms."""

Row = dict[str, Any]

_encode = msgspec.json.Encoder().encode


async def rows(
    store: AsyncRedis,
    secrets: Secrets,
    campaign: str,
    shards: int,
    state: str,
    is_named: bool,
    start: int = 0,
    at_once: int = AT_ONCE,
) -> AsyncIterator[tuple[int, list[Row]]]:
    """(the place after, rows) of some hashes at a time, from a place on. is_named: names may be shown.

    at_once: places read first; few give few rows.

    A place is a number below shards * PEOPLE_BUCKETS. NewerFormat: a newer version wrote some.
    """
    kinds = (keys.people, keys.listed, keys.names) if is_named else (keys.people, keys.listed)
    end = shards * keys.PEOPLE_BUCKETS
    step = at_once
    while start < end:
        places: Sequence[int] = range(start, min(start + step, end))
        start = places[-1] + 1
        if step > AT_ONCE:  # few are anywhere: most places are empty
            places = await _used(store, campaign, places)
        pipe = store.pipeline(transaction=False)
        for place in places:
            shard, bucket = divmod(place, keys.PEOPLE_BUCKETS)
            for key in kinds:
                pipe.hgetall(key(shard, campaign, bucket))
        found = await pipe.execute()
        step = next_step(step, sum(map(len, found)))
        part: dict[bytes, Row] = {}
        for opened, listed, *named in zip(*(found[i :: len(kinds)] for i in range(len(kinds))), strict=True):
            for recipient in sorted(opened.keys() | listed.keys()):
                person = recipient_record.unpack(opened.get(recipient))
                if _is(state, person, recipient in listed):
                    part[recipient] = _row(recipient, person, recipient in listed, *named)
        if state == "unopened":
            for recipient in await withdrawals.withdrawn_now(store, secrets, part):
                del part[recipient]
        yield start, list(part.values())


async def _used(store: AsyncRedis, campaign: str, places: Sequence[int]) -> list[int]:
    """Those of these places that may hold a recipient."""
    runs = [list(run) for _, run in groupby(places, lambda place: place // RUN)]
    pipe = store.pipeline(transaction=False)
    for run in runs:
        asked = [divmod(place, keys.PEOPLE_BUCKETS) for place in run]
        kinds = (keys.people, keys.listed)
        pipe.exists(*(key(shard, campaign, bucket) for shard, bucket in asked for key in kinds))
    return [place for run, found in zip(runs, await pipe.execute(), strict=True) if found for place in run]


def next_step(step: int, read: int, most: int = MOST_AT_ONCE) -> int:
    """How many places to read next, when so many gave so many rows."""
    if read > 2 * ROWS:
        return max(1, step // 2)
    return min(2 * step, most) if read < ROWS // 2 else step


def _is(state: str, person: RecipientRecord, is_listed: bool) -> bool:
    if state == "unopened":
        return is_listed and not person.opens
    if state == "person":
        return person.person > 0
    if state == "machine_only":
        return person.opens > 0 and person.prefetch + person.scanner == person.opens
    return person.opens > 0


def _row(
    recipient: bytes,
    person: RecipientRecord,
    is_listed: bool,
    named: Mapping[bytes, bytes] = MappingProxyType({}),
) -> Row:
    value = named.get(recipient)
    known = lists.unpack(value) if value is not None else None
    return {
        "key": recipient.hex(),
        "recipient": known.recipient if known else None,
        "name": known.name if known else None,
        "listed": is_listed,
        "opens": person.opens,
        "opens_person": person.person,
        "first_open": iso_ms(person.first * 1000) if person.opens else None,
        "last_open": iso_ms(person.last * 1000) if person.opens else None,
        "last_open_person": iso_ms(person.last_person * 1000) if person.person else None,
    }


async def ndjson(parts: AsyncIterator[tuple[int, list[Row]]]) -> AsyncIterator[bytes]:
    async for _, part in parts:
        yield b"".join(_encode(row) + b"\n" for row in part)


async def as_csv(
    parts: AsyncIterator[tuple[int, list[Row]]], columns: Sequence[str] = FIELDS
) -> AsyncIterator[bytes]:
    yield csv_export.lines([columns])
    async for _, part in parts:
        yield csv_export.lines([row[field] for field in columns] for row in part)
