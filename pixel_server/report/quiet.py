"""Who had mail and has not opened any since, over all campaigns: to write to once more, or no more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from pixel_server import keys, lists, people
from pixel_server.report.ranges import show_ms
from pixel_server.report.recipients import AT_ONCE, MOST_AT_ONCE, Row, next_step
from pixel_server.series import DAY
from pixel_server.store import AsyncRedis

FIELDS = ("key", "recipient", "name", "campaigns", "last_open_person")

Hash = dict[bytes, bytes]


class Source(NamedTuple):
    """A campaign that tells recipients apart. sent: when, as far as can be told (s). is_named: names may be
    shown."""

    id: str
    sent: int | None
    is_named: bool


async def rows(
    store: AsyncRedis, sources: Sequence[Source], shards: int, since: int, start: int = 0
) -> AsyncIterator[tuple[int, list[Row]]]:
    """(the place after, rows) of some places at a time, from one on: as `recipients.rows`. since: seconds.

    Had mail: was on the list of a campaign sent since then, or is said to have been sent one since that day.
    """
    end = shards * keys.PEOPLE_BUCKETS
    most = max(1, MOST_AT_ONCE // max(1, len(sources)))
    step = min(AT_ONCE, most)
    while start < end:
        places = range(start, min(start + step, end)) if sources else range(start, end)
        found = await _read(store, sources, places)
        step = next_step(step, sum(len(one) for pair in found for hashes in pair for one in hashes), most)
        part: list[Row] = []
        for place, (listed, opened) in zip(places, found, strict=False):
            part += await _quiet(store, sources, *divmod(place, keys.PEOPLE_BUCKETS), listed, opened, since)
        start = places[-1] + 1
        yield start, part


async def _read(
    store: AsyncRedis, sources: Sequence[Source], places: Sequence[int]
) -> list[tuple[list[Hash], list[Hash]]]:
    """For each place, by campaign: who is listed, and who opened."""
    pipe = store.pipeline(transaction=False)
    for place in places if sources else ():
        shard, bucket = divmod(place, keys.PEOPLE_BUCKETS)
        for kind in (keys.listed, keys.people):
            for source in sources:
                pipe.hgetall(kind(shard, source.id, bucket))
    found = iter(await pipe.execute())
    count = len(sources)
    return [
        ([next(found) for _ in range(count)], [next(found) for _ in range(count)])
        for _ in (places if sources else ())
    ]


async def _quiet(
    store: AsyncRedis,
    sources: Sequence[Source],
    shard: int,
    bucket: int,
    listed: list[Hash],
    opened: list[Hash],
    since: int,
) -> list[Row]:
    """Those of one place who had mail and did not open."""
    mails: dict[bytes, int] = {}
    last: dict[bytes, int] = {}
    for source, members in zip(sources, listed, strict=True):
        is_sent = source.sent is not None and source.sent >= since
        for recipient, value in members.items():
            day = lists.day_of(value)
            if is_sent if day is None else day >= since // DAY:
                mails[recipient] = mails.get(recipient, 0) + 1
    for records in opened:
        for recipient in records.keys() & mails.keys():
            last_person = people.unpack(records[recipient]).last_person
            last[recipient] = max(last_person, last.get(recipient, 0))
    quiet = sorted(recipient for recipient in mails if last.get(recipient, 0) < since)
    names = await _names(store, sources, shard, bucket, quiet)
    return [
        {
            "key": recipient.hex(),
            "recipient": names[recipient].recipient if recipient in names else None,
            "name": names[recipient].name if recipient in names else None,
            "campaigns": mails[recipient],
            "last_open_person": show_ms(last[recipient] * 1000) if last.get(recipient) else None,
        }
        for recipient in quiet
    ]


async def _names(
    store: AsyncRedis, sources: Sequence[Source], shard: int, bucket: int, wanted: Sequence[bytes]
) -> dict[bytes, lists.Row]:
    """Of these, those that any campaign has a name of."""
    found: dict[bytes, lists.Row] = {}
    for source in sources if wanted else ():
        if source.is_named:
            values = await store.hmget(keys.names(shard, source.id, bucket), wanted)
            for recipient, value in zip(wanted, values, strict=True):
                if value is not None:
                    found[recipient] = lists.unpack(value)
    return found
