"""Lists the recipients who got mail in a span of time and opened none of it, over all campaigns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from pixel_server.counters import recipient_record
from pixel_server.figures.recipients import FIRST_PLACES, MAX_PLACES, Parts, Row, next_step, place_count
from pixel_server.recipients import lists, withdrawals
from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import DAY, iso_ms

FIELDS = ("key", "recipient", "name", "campaigns", "last_open_person")

MakeKey = Callable[[int, str, int], str]
"""Function that returns the key of a campaign's hash. Its parameters are shard, campaign and bucket."""


class Source(NamedTuple):
    """A campaign that tells recipients apart.

    sent_at: time of sending, seconds, or None if not known. shows_names: whether names may be shown.
    """

    id: str
    sent_at: int | None
    shows_names: bool


class Span(NamedTuple):
    """The span in which a recipient got mail and opened none: from `since` to `now`, seconds."""

    since: int
    now: int


class Inactive(NamedTuple):
    """An inactive recipient. mails: number of campaigns that sent the recipient a mail in the span.
    last_open: time (s since 1970) of the last open by a person, or 0 if no open was by a person.
    """

    place: int
    recipient: bytes
    mails: int
    last_open: int


async def rows(
    store: AsyncRedis,
    secrets: Secrets,
    sources: Sequence[Source],
    shards: int,
    span: Span,
    start: int = 0,
) -> Parts:
    """Yields the inactive recipients from a place on (see `figures.recipients`).

    A recipient got mail of a campaign if the list gives a day in the span for this recipient. If the list
    gives no day, the campaign's time of sending decides. Leaves out recipients who withdrew, because their
    opens are dropped.
    """
    end = place_count(shards)
    max_places = max(1, MAX_PLACES // max(1, len(sources)))
    step = min(FIRST_PLACES, max_places)
    while start < end:
        places = range(start, min(start + step, end)) if sources else range(start, end)
        mails, rows_read = await _read_mails(store, sources, places, span)
        last_opens = await _read_last_opens(store, sources, mails)
        step = next_step(step, rows_read, max_places)
        inactive = [
            Inactive(place, recipient, counts[recipient], last_open)
            for place, counts in mails.items()
            for recipient in sorted(counts)
            if (last_open := last_opens.get(recipient, 0)) < span.since
        ]
        withdrawn = await withdrawals.withdrawn_now(store, secrets, (item.recipient for item in inactive))
        inactive = [item for item in inactive if item.recipient not in withdrawn]
        names = await _read_names(store, sources, inactive)
        start = places[-1] + 1
        yield start, [_row(item, names.get(item.recipient)) for item in inactive]


async def _sources_with(
    store: AsyncRedis, key: MakeKey, sources: Sequence[Source], places: Iterable[int]
) -> list[Source]:
    """Returns the campaigns that have a hash at one of these places. Most campaigns have none there."""
    buckets_of: dict[int, list[int]] = {}
    for place in places:
        shard, bucket = divmod(place, keys.PEOPLE_BUCKETS)
        buckets_of.setdefault(shard, []).append(bucket)
    if not buckets_of:
        return []
    pipe = store.pipeline(transaction=False)
    for source in sources:
        for shard, buckets in buckets_of.items():
            pipe.exists(*(key(shard, source.id, bucket) for bucket in buckets))
    counts = iter(await pipe.execute())
    return [source for source in sources if sum(next(counts) for _ in buckets_of)]


async def _read_mails(
    store: AsyncRedis, sources: Sequence[Source], places: Sequence[int], span: Span
) -> tuple[dict[int, dict[bytes, int]], int]:
    """Returns ({place: {recipient: mails in the span}}, the number of rows read)."""
    used = await _sources_with(store, keys.listed, sources, places)
    if not used:
        return {}, 0
    pipe = store.pipeline(transaction=False)
    for place in places:
        shard, bucket = divmod(place, keys.PEOPLE_BUCKETS)
        for source in used:
            pipe.hgetall(keys.listed(shard, source.id, bucket))
    hashes = iter(await pipe.execute())
    since, now = span
    mails: dict[int, dict[bytes, int]] = {}
    rows_read = 0
    for place in places:
        counts: dict[bytes, int] = {}
        for source in used:
            is_sent_in_span = source.sent_at is not None and since <= source.sent_at <= now
            entries = next(hashes)
            rows_read += len(entries)
            for recipient, value in entries.items():
                day = lists.mail_day(value)
                if is_sent_in_span if day is None else since // DAY <= day <= now // DAY:
                    counts[recipient] = counts.get(recipient, 0) + 1
        if counts:
            mails[place] = counts
    return mails, rows_read


async def _read_last_opens(
    store: AsyncRedis, sources: Sequence[Source], mails: Mapping[int, Mapping[bytes, int]]
) -> dict[bytes, int]:
    """Returns the time (s) of the last open by a person, for each recipient who has such an open."""
    used = await _sources_with(store, keys.people, sources, mails)
    pipe = store.pipeline(transaction=False)
    reads = [(place, source, list(counts)) for place, counts in mails.items() for source in used]
    for place, source, recipients in reads:
        shard, bucket = divmod(place, keys.PEOPLE_BUCKETS)
        pipe.hmget(keys.people(shard, source.id, bucket), recipients)
    last_opens: dict[bytes, int] = {}
    for (_, _, recipients), values in zip(reads, await pipe.execute(), strict=True):
        for recipient, value in zip(recipients, values, strict=True):
            if at := recipient_record.unpack(value).last_person:
                last_opens[recipient] = max(at, last_opens.get(recipient, 0))
    return last_opens


async def _read_names(
    store: AsyncRedis, sources: Sequence[Source], inactive: Sequence[Inactive]
) -> dict[bytes, lists.ListEntry]:
    """Returns the list entries of these recipients that have a name in one of the campaigns."""
    by_place: dict[int, list[bytes]] = {}
    for item in inactive:
        by_place.setdefault(item.place, []).append(item.recipient)
    reads = [
        (place, source, recipients)
        for place, recipients in by_place.items()
        for source in sources
        if source.shows_names
    ]
    pipe = store.pipeline(transaction=False)
    for place, source, recipients in reads:
        shard, bucket = divmod(place, keys.PEOPLE_BUCKETS)
        pipe.hmget(keys.names(shard, source.id, bucket), recipients)
    names: dict[bytes, lists.ListEntry] = {}
    for (_, _, recipients), values in zip(reads, await pipe.execute(), strict=True):
        for recipient, value in zip(recipients, values, strict=True):
            if value is not None:
                names[recipient] = lists.unpack(value)
    return names


def _row(inactive: Inactive, entry: lists.ListEntry | None) -> Row:
    return {
        "key": inactive.recipient.hex(),
        "recipient": entry.recipient if entry else None,
        "name": entry.name if entry else None,
        "campaigns": inactive.mails,
        "last_open_person": iso_ms(inactive.last_open * 1000) if inactive.last_open else None,
    }
