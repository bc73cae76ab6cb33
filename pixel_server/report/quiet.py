"""Who had mail and has not opened any since, over all campaigns: to write to once more, or no more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from pixel_server import keys, lists, people, withdrawals
from pixel_server.report.ranges import show_ms
from pixel_server.report.recipients import AT_ONCE, MOST_AT_ONCE, Row, next_step
from pixel_server.secret import Secrets
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
        found = await _read(store, sources, places)
        step = next_step(step, sum(len(one) for pair in found for hashes in pair for one in hashes), most)
        quiet: list[tuple[int, bytes, int, int]] = []
        for place, (listed, opened) in zip(places, found, strict=False):
            quiet += ((place, *one) for one in _quiet(sources, listed, opened, span))
        gone = await withdrawals.held(store, secrets, (one[1] for one in quiet))
        quiet = [one for one in quiet if one[1] not in gone]
        names = await _names(store, sources, quiet)
        start = places[-1] + 1
        yield start, [_row(recipient, mails, last, names) for _, recipient, mails, last in quiet]


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


def _quiet(
    sources: Sequence[Source], listed: list[Hash], opened: list[Hash], span: Span
) -> list[tuple[bytes, int, int]]:
    """(recipient key, mails, last open by a person (s) or 0) of those of one place who had mail and did not
    open."""
    since, now = span
    mails: dict[bytes, int] = {}
    last: dict[bytes, int] = {}
    for source, members in zip(sources, listed, strict=True):
        is_sent = source.sent is not None and since <= source.sent <= now
        for recipient, value in members.items():
            day = lists.day_of(value)
            if is_sent if day is None else since // DAY <= day <= now // DAY:
                mails[recipient] = mails.get(recipient, 0) + 1
    for records in opened:
        for recipient in records.keys() & mails.keys():
            last_person = people.unpack(records[recipient]).last_person
            last[recipient] = max(last_person, last.get(recipient, 0))
    return [(who, mails[who], last.get(who, 0)) for who in sorted(mails) if last.get(who, 0) < since]


async def _names(
    store: AsyncRedis, sources: Sequence[Source], quiet: Sequence[tuple[int, bytes, int, int]]
) -> dict[bytes, lists.Row]:
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
    found: dict[bytes, lists.Row] = {}
    for recipients, values in zip(asked, await pipe.execute(), strict=True):
        for recipient, value in zip(recipients, values, strict=True):
            if value is not None:
                found[recipient] = lists.unpack(value)
    return found


def _row(recipient: bytes, mails: int, last: int, names: dict[bytes, lists.Row]) -> Row:
    known = names.get(recipient)
    return {
        "key": recipient.hex(),
        "recipient": known.recipient if known else None,
        "name": known.name if known else None,
        "campaigns": mails,
        "last_open_person": show_ms(last * 1000) if last else None,
    }
