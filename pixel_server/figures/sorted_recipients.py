"""Sorts, searches and counts the recipients of a campaign.

Redis keeps the recipients of a campaign in no order. So each page of a sorted list, each search and each
count costs one reading of all recipients. Only the rows of a page are kept in memory.
"""

from __future__ import annotations

import heapq
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pixel_server.counters import recipient_record
from pixel_server.counters.recipient_record import RecipientRecord
from pixel_server.figures.recipients import STATES, Hashes, Row, read_hashes, row, states_of
from pixel_server.recipients import lists
from pixel_server.recipients.withdrawn_set import WithdrawnSet
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.shards import shard_of

MAX_RECIPIENTS = 1_000_000
"""Largest number of recipients of a campaign whose list is sorted, searched or counted. A reading of so many
takes some seconds of a processor."""
TEXT_SORTS = ("recipient", "name")
_NUMBER_OF: dict[str, Callable[[RecipientRecord], int]] = {
    "opens": operator.attrgetter("opens"),
    "opens_person": operator.attrgetter("person"),
    "first_open": operator.attrgetter("first"),
    "last_open": operator.attrgetter("last"),
    "first_open_person": operator.attrgetter("first_person"),
    "last_open_person": operator.attrgetter("last_person"),
}
NUMBER_SORTS = tuple(_NUMBER_OF)
SORTS = (*TEXT_SORTS, *NUMBER_SORTS)
"""Fields of a row by which a list can be sorted."""

Rank = tuple[bool, int | str, bytes]
"""Place in a sorted list: whether a value sorts before or after a missing value, the value, the recipient
key. A missing value comes last in both directions."""


class Query(NamedTuple):
    """The rows that a reading returns.

    state: one of `recipients.STATES`. sort: one of SORTS. limit: largest number of rows. after: the rows
    begin after this rank. text: part of the recipient or name, in any case, or "" for all recipients.
    recipient: key of a recipient who is found too, whatever the text.
    """

    state: str = "opened"
    sort: str = "last_open"
    is_descending: bool = True
    limit: int = 100
    after: Rank | None = None
    text: str = ""
    recipient: bytes = b""


class Found(NamedTuple):
    """A recipient who fits a query."""

    rank: Rank
    recipient: bytes
    record: RecipientRecord
    is_listed: bool
    is_withdrawn: bool


class Sorted(NamedTuple):
    """The answer to a query.

    rows: at most `limit` rows. last: rank of the last row if more rows follow, else None. found: number of
    recipients who fit state and text. counts: number of recipients by state, None if it is not known.
    """

    rows: list[Row]
    last: Rank | None
    found: int
    counts: dict[str, int | None]


async def count_recipients(store: AsyncRedis, campaign: str, shards: int) -> int:
    """Returns about how many recipients a campaign has: at least half of them, in one round trip."""
    pipe = store.pipeline(transaction=False)
    for shard in range(shards):
        pipe.hmget(keys.total(shard, campaign), ("listed", "unique_opens"))
    listed, opened = (
        sum(map(int, filter(None, values))) for values in zip(*await pipe.execute(), strict=True)
    )
    return max(listed, opened)


async def read(
    store: AsyncRedis,
    campaign: str,
    shards: int,
    shows_names: bool,
    withdrawn: WithdrawnSet,
    query: Query,
) -> Sorted:
    """Returns the rows of a query, and the counts of all recipients. Reads all recipients.

    shows_names: whether names may be shown. withdrawn: keys of the recipients who withdrew. Raises
    NewerFormat if a newer version wrote a record.
    """
    reading = _Reading(query, withdrawn)
    reads_names = shows_names and (bool(query.text) or query.sort in TEXT_SORTS)
    async for _, hashes in read_hashes(store, campaign, shards, reads_names):
        reading.add(hashes)
    shown = reading.best[: query.limit]
    names = await _read_names(store, campaign, shards, shown) if shows_names else {}
    rows = [row(*item[1:], names) for item in shown]
    last = shown[-1].rank if shown and len(reading.best) > len(shown) else None
    return Sorted(rows, last, reading.found, reading.counts)


async def read_row(
    store: AsyncRedis, campaign: str, shards: int, withdrawn: WithdrawnSet, recipient: bytes
) -> Row | None:
    """Returns the row of a recipient without a name, or None if the campaign does not have the recipient."""
    packed, listed, _ = await _read_one(store, campaign, shards, recipient)
    if packed is None and listed is None:
        return None
    return row(recipient, recipient_record.unpack(packed), listed is not None, recipient in withdrawn)


async def read_rank(
    store: AsyncRedis, campaign: str, shards: int, recipient: bytes, sort: str, is_descending: bool
) -> Rank | None:
    """Returns the rank of a recipient, or None if the campaign does not have the recipient."""
    packed, listed, packed_name = await _read_one(store, campaign, shards, recipient)
    if packed is None and listed is None:
        return None
    return rank(sort, is_descending, recipient, recipient_record.unpack(packed), packed_name)


async def _read_one(
    store: AsyncRedis, campaign: str, shards: int, recipient: bytes
) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Returns (packed record, value of the list, packed name) of a recipient. Each is None if missing."""
    shard, bucket = shard_of(recipient, shards), recipient_record.people_bucket(recipient)
    pipe = store.pipeline(transaction=False)
    for key in (keys.people, keys.listed, keys.names):
        pipe.hget(key(shard, campaign, bucket), recipient)
    packed, listed, packed_name = await pipe.execute()
    return packed, listed, packed_name


def rank(
    sort: str, is_descending: bool, recipient: bytes, record: RecipientRecord, packed_name: bytes | None
) -> Rank:
    """Returns the rank of a recipient. Raises NewerFormat if a newer version wrote the name."""
    if sort in NUMBER_SORTS:
        return rank_of_number(_NUMBER_OF[sort](record), is_descending, recipient)
    entry = lists.unpack(packed_name) if packed_name is not None else None
    text = (entry.recipient if sort == "recipient" else entry.name) if entry else None
    return (not text) != is_descending, (text or "").casefold(), recipient


def rank_of_number(value: int, is_descending: bool, recipient: bytes) -> Rank:
    """Returns the rank of a recipient with this value of one of NUMBER_SORTS. Times are in seconds."""
    return (not value) != is_descending, value, recipient


class _Reading:
    """A reading of all recipients. best: the rows of the page, and one more. found: as in Sorted."""

    def __init__(self, query: Query, withdrawn: WithdrawnSet) -> None:
        self._query = query
        self._withdrawn = withdrawn
        self._text = query.text.casefold()
        self._pick = heapq.nlargest if query.is_descending else heapq.nsmallest
        self._numbers: Counter[tuple[str, ...]] = Counter()
        self._worst: Rank | None = None
        self.best: list[Found] = []
        self.found = 0

    @property
    def counts(self) -> dict[str, int | None]:
        """Returns the number of recipients in each of STATES."""
        return {
            state: sum(number for states, number in self._numbers.items() if state in states)
            for state in STATES
        }

    def add(self, hashes: Hashes) -> None:
        for records, listed, *names in hashes:
            self.best += self._fitting(records, listed, names[0] if names else {})
        self.best = self._pick(self._query.limit + 1, self.best, key=operator.itemgetter(0))
        if len(self.best) > self._query.limit:
            self._worst = self.best[-1].rank

    def _fitting(
        self, records: Mapping[bytes, bytes], listed: Mapping[bytes, bytes], names: Mapping[bytes, bytes]
    ) -> Iterator[Found]:
        """Yields the recipients who fit the query and come after its start. Counts all recipients."""
        query = self._query
        is_after = operator.lt if query.is_descending else operator.gt
        for recipient in records.keys() | listed.keys():
            record = recipient_record.unpack(records.get(recipient))
            is_listed, is_withdrawn = recipient in listed, recipient in self._withdrawn
            states = states_of(record, is_listed, is_withdrawn)
            self._numbers[states] += 1
            if query.state not in states or not self._has_text(recipient, names):
                continue
            self.found += 1
            place = rank(query.sort, query.is_descending, recipient, record, names.get(recipient))
            is_before_end = self._worst is None or is_after(self._worst, place)
            if is_before_end and (query.after is None or is_after(place, query.after)):
                yield Found(place, recipient, record, is_listed, is_withdrawn)

    def _has_text(self, recipient: bytes, names: Mapping[bytes, bytes]) -> bool:
        if not self._text or recipient == self._query.recipient:
            return True
        packed = names.get(recipient)
        entry = lists.unpack(packed) if packed is not None else None
        return entry is not None and any(
            self._text in (text or "").casefold() for text in (entry.recipient, entry.name)
        )


async def _read_names(
    store: AsyncRedis, campaign: str, shards: int, shown: Sequence[Found]
) -> dict[bytes, bytes]:
    """Returns the packed names of those recipients who have one. Makes one round trip."""
    pipe = store.pipeline(transaction=False)
    for item in shown:
        shard, bucket = shard_of(item.recipient, shards), recipient_record.people_bucket(item.recipient)
        pipe.hget(keys.names(shard, campaign, bucket), item.recipient)
    values = await pipe.execute()
    return {item.recipient: value for item, value in zip(shown, values, strict=True) if value is not None}
