"""Who had mail and has not opened any since, over all campaigns: to write to once more, or no more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from pixel_server import keys, lists, people
from pixel_server.report.ranges import show_ms
from pixel_server.report.recipients import AT_ONCE, Row
from pixel_server.series import DAY
from pixel_server.store import AsyncRedis

FIELDS = ("key", "recipient", "name", "campaigns", "last_open_person")


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
    step = max(1, AT_ONCE // (2 * len(sources) or 1))
    for first in range(start, end, step):
        places = range(first, min(first + step, end))
        part: list[Row] = []
        for place in places:
            part += await _place(store, sources, *divmod(place, keys.PEOPLE_BUCKETS), since)
        yield places[-1] + 1, part


async def _place(
    store: AsyncRedis, sources: Sequence[Source], shard: int, bucket: int, since: int
) -> list[Row]:
    mails: dict[bytes, int] = {}
    last: dict[bytes, int] = {}
    for i in range(0, len(sources), AT_ONCE):
        some = sources[i : i + AT_ONCE]
        pipe = store.pipeline(transaction=False)
        for source in some:
            pipe.hgetall(keys.listed(shard, source.id, bucket))
            pipe.hgetall(keys.people(shard, source.id, bucket))
        found = await pipe.execute()
        for source, listed, opened in zip(some, found[::2], found[1::2], strict=True):
            is_sent = source.sent is not None and source.sent >= since
            for recipient, value in listed.items():
                day = lists.day_of(value)
                if is_sent if day is None else day >= since // DAY:
                    mails[recipient] = mails.get(recipient, 0) + 1
            for recipient, value in opened.items():
                person = people.unpack(value)
                last[recipient] = max(person.last_person, last.get(recipient, 0))
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
