"""Who had mail and has not opened any since, over all campaigns: to write to once more, or no more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from pixel_server.counters import recipient_record
from pixel_server.figures.recipients import AT_ONCE, MOST_AT_ONCE, Row, next_step
from pixel_server.recipients import lists, withdrawals
from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import DAY, iso_ms

FIELDS = ("key", "recipient", "name", "campaigns", "last_open_person")

Key = Callable[[int, str, int], str]
"""The name of a campaign's hash: of a shard, a campaign and a bucket."""


class Source(NamedTuple):
    """A campaign that tells recipients apart. sent: when, as far as can be told (s). is_named: names may be
    shown."""

    id: str
    sent: int | None
    is_named: bool


class Span(NamedTuple):
    """Seconds: from when on somebody is quiet, and now."""

    since: int
    now: int


async def rows(
    store: AsyncRedis,
    secrets: Secrets,
    sources: Sequence[Source],
    shards: int,
    span: Span,
    start: int = 0,
) -> AsyncIterator[tuple[int, list[Row]]]:
    """(the place after, rows) of some places at a time, from one on: as `recipients.rows`.

    Had mail: was on the list of a campaign sent in this time, or is said to have been sent one in its days.
    Who withdrew is left out: nobody would know of an open.
    """
    end = shards * keys.PEOPLE_BUCKETS
    most = max(1, MOST_AT_ONCE // max(1, len(sources)))
    step = min(AT_ONCE, most)
    while start < end:
        places = range(start, min(start + step, end)) if sources else range(start, end)
        mailed, read = await _mailed(store, sources, places, span)
        opened = await _last_opens(store, sources, mailed)
        step = next_step(step, read, most)
        quiet = [
            (place, recipient, mails[recipient], last)
            for place, mails in mailed.items()
            for recipient in sorted(mails)
            if (last := opened.get(recipient, 0)) < span.since
        ]
        gone = await withdrawals.withdrawn_now(store, secrets, (one[1] for one in quiet))
        quiet = [one for one in quiet if one[1] not in gone]
        names = await _names(store, sources, quiet)
        start = places[-1] + 1
        yield start, [_row(recipient, mails, last, names) for _, recipient, mails, last in quiet]


async def _holding(
    store: AsyncRedis, key: Key, sources: Sequence[Source], places: Iterable[int]
) -> list[Source]:
    """Those that hold something at any of these places: of many campaigns, most hold nothing."""
    shards: dict[int, list[int]] = {}
    for place in places:
        shard, bucket = divmod(place, keys.PEOPLE_BUCKETS)
        shards.setdefault(shard, []).append(bucket)
    pipe = store.pipeline(transaction=False)
    for source in sources if shards else ():
        for shard, buckets in shards.items():
            pipe.exists(*(key(shard, source.id, bucket) for bucket in buckets))
    found = iter(await pipe.execute())
    return [source for source in sources if sum(next(found) for _ in shards)] if shards else []


async def _mailed(
    store: AsyncRedis, sources: Sequence[Source], places: Sequence[int], span: Span
) -> tuple[dict[int, dict[bytes, int]], int]:
    """(by place, who had mail in this time, and how many; how many were looked at)."""
    used = await _holding(store, keys.listed, sources, places)
    pipe = store.pipeline(transaction=False)
    for place in places if used else ():
        shard, bucket = divmod(place, keys.PEOPLE_BUCKETS)
        for source in used:
            pipe.hgetall(keys.listed(shard, source.id, bucket))
    found = iter(await pipe.execute())
    since, now = span
    mailed: dict[int, dict[bytes, int]] = {}
    read = 0
    for place in places if used else ():
        mails: dict[bytes, int] = {}
        for source in used:
            is_sent = source.sent is not None and since <= source.sent <= now
            members = next(found)
            read += len(members)
            for recipient, value in members.items():
                day = lists.mail_day(value)
                if is_sent if day is None else since // DAY <= day <= now // DAY:
                    mails[recipient] = mails.get(recipient, 0) + 1
        if mails:
            mailed[place] = mails
    return mailed, read


async def _last_opens(
    store: AsyncRedis, sources: Sequence[Source], mailed: Mapping[int, Mapping[bytes, int]]
) -> dict[bytes, int]:
    """When a person last opened any mail of theirs (s), of those who did."""
    used = await _holding(store, keys.people, sources, mailed)
    pipe = store.pipeline(transaction=False)
    asked = [(place, source, list(mails)) for place, mails in mailed.items() for source in used]
    for place, source, recipients in asked:
        shard, bucket = divmod(place, keys.PEOPLE_BUCKETS)
        pipe.hmget(keys.people(shard, source.id, bucket), recipients)
    last: dict[bytes, int] = {}
    for (_, _, recipients), values in zip(asked, await pipe.execute(), strict=True):
        for recipient, value in zip(recipients, values, strict=True):
            if at := recipient_record.unpack(value).last_person:
                last[recipient] = max(at, last.get(recipient, 0))
    return last


async def _names(
    store: AsyncRedis, sources: Sequence[Source], quiet: Sequence[tuple[int, bytes, int, int]]
) -> dict[bytes, lists.ListEntry]:
    """Of these, those that any campaign has a name of."""
    wanted: dict[int, list[bytes]] = {}
    for place, recipient, _, _ in quiet:
        wanted.setdefault(place, []).append(recipient)
    pipe = store.pipeline(transaction=False)
    asked = [recipients for recipients in wanted.values() for source in sources if source.is_named]
    for place, recipients in wanted.items():
        shard, bucket = divmod(place, keys.PEOPLE_BUCKETS)
        for source in sources:
            if source.is_named:
                pipe.hmget(keys.names(shard, source.id, bucket), recipients)
    found: dict[bytes, lists.ListEntry] = {}
    for recipients, values in zip(asked, await pipe.execute(), strict=True):
        for recipient, value in zip(recipients, values, strict=True):
            if value is not None:
                found[recipient] = lists.unpack(value)
    return found


def _row(recipient: bytes, mails: int, last: int, names: dict[bytes, lists.ListEntry]) -> Row:
    known = names.get(recipient)
    return {
        "key": recipient.hex(),
        "recipient": known.recipient if known else None,
        "name": known.name if known else None,
        "campaigns": mails,
        "last_open_person": iso_ms(last * 1000) if last else None,
    }
