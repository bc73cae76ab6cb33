"""All campaigns sorted by name, time or a figure, and the search for campaigns that match a query.

To sort by figures, the figures of all campaigns are read and kept in this process: one list, of about half a
kilobyte a campaign. A list older than FRESH_SECONDS is still used while a new list is read. A list older than
MAX_AGE_SECONDS is not used. Each call adds created campaigns to the list, renews
changed campaigns, and removes deleted campaigns.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import redis

from pixel_server.campaigns import change_log, storage
from pixel_server.campaigns.campaign import Campaign, Kind
from pixel_server.campaigns.tags import has_tag, key
from pixel_server.consent import Consent
from pixel_server.figures import totals
from pixel_server.store.key import Tag
from pixel_server.store.protocols import AsyncRedis

SORTS = ("name", "created", "sent_at", "sent", "last_hit", "rate", "uniques", "views")
"""Fields of an entry to sort by. A `-` before the name reverses the order."""
FRESH_SECONDS, MAX_AGE_SECONDS = 3.0, 60.0
"""Seconds after which an order is read again in the background, and after which it is no longer used."""
MAX_CACHED_NAMES = 8192
"""Number of names whose sort value is kept, because to make 5,000 takes 17 ms. Each has half a kilobyte."""
BATCH = 250
"""Number of campaigns read by one command, and handled in one turn of the event loop: 5 ms of Python."""

SENDING_SECONDS = 0.001
"""Seconds in which the event loop sends the commands of a batch. Redis then works on them for about 7 ms."""


class Entry(NamedTuple):
    """The fields by which a campaign is found and sorted. name: in lower case. Times are s since 1970.

    sent_at: time of sending, or of creation if the time of sending is not set. It is None for a draft, which
    has neither a time of sending nor a hit. rate: the estimated open rate, or without an estimate its lower
    bound. uniques: see `totals.UNIQUES`. views: None for mail.
    """

    id: str
    kind: Kind
    name: str
    created: int
    last_hit: int | None
    rate: float | None
    uniques: int | None
    sent_at: int | None
    sent: int | None
    views: int | None
    tags: tuple[str, ...]


class Order(NamedTuple):
    """All campaigns, the newest first. as_of: time at which their figures were read, s since 1970.

    version: see `change_log.read_version`. made_at: time of `as_of` by the monotonic clock, s.
    """

    entries: list[Entry]
    as_of: float
    version: bytes
    made_at: float


@dataclass(slots=True)
class _Cache:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    order: Order | None = None
    renewal: asyncio.Task[None] | None = None


_caches: WeakKeyDictionary[AsyncRedis, _Cache] = WeakKeyDictionary()


async def read(store: AsyncRedis, tags: Sequence[Tag], consent: Consent, now: float) -> Order:
    """Returns the order. Its figures are at most MAX_AGE_SECONDS old. tags: see `sources`. now: seconds."""
    cache = _caches.setdefault(store, _Cache())
    async with cache.lock:  # other callers wait for the order that is being read
        order = cache.order
        if order is not None:
            is_old = time.monotonic() - order.made_at > MAX_AGE_SECONDS
            order = None if is_old else await _apply_changes(store, tags, consent, order)
        cache.order = order = order or await _read(store, tags, consent, now)
    is_renewing = cache.renewal is not None and not cache.renewal.done()
    if time.monotonic() - order.made_at > FRESH_SECONDS and not is_renewing:
        cache.renewal = asyncio.create_task(_renew(cache, store, tags, consent, now))
    return order


async def _renew(cache: _Cache, store: AsyncRedis, tags: Sequence[Tag], consent: Consent, now: float) -> None:
    with contextlib.suppress(redis.RedisError, OSError):  # a caller after MAX_AGE_SECONDS sees the error
        cache.order = await _read(store, tags, consent, now)


async def _read(store: AsyncRedis, tags: Sequence[Tag], consent: Consent, now: float) -> Order:
    made_at, version = time.monotonic(), await change_log.read_version(store)
    return Order(await _read_entries(store, tags, consent), now, version, made_at)


async def _apply_changes(
    store: AsyncRedis, tags: Sequence[Tag], consent: Consent, order: Order
) -> Order | None:
    """Returns the order with the changes since `order.version`, or None if the change log lacks some."""
    changes = await change_log.read(store, order.version)
    if changes is None:
        return None
    changed, version = changes
    if not changed:
        return order
    pipe = store.pipeline(transaction=False)
    for campaign_id in changed:
        storage.queue_record(pipe, campaign_id)
    records = map(storage.unpack_record, await pipe.execute(), changed)
    campaigns = [record for record in records if record is not None]
    entries = [entry for entry in order.entries if entry.id not in changed]
    if campaigns:
        totals.queue_many(pipe, campaigns, tags)
        entries += _entries(campaigns, await pipe.execute(), consent)
    return order._replace(entries=_newest_first(entries), version=version)


def _newest_first(entries: list[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: (-entry.created, entry.id))


async def _read_entries(store: AsyncRedis, tags: Sequence[Tag], consent: Consent) -> list[Entry]:
    """Reads all campaigns in batches. While Redis reads a batch, the batch before is made into entries, and
    the records of the batch after are decoded.
    """
    entries: list[Entry] = []
    last: tuple[list[Campaign], list[bytes]] = [], []
    campaigns: list[Campaign] = []
    page = await _read_page(store)
    while campaigns or storage.has_campaigns(page):
        pipe = store.pipeline(transaction=False)
        totals.queue_many(pipe, campaigns, tags)
        after = storage.next_cursor(page, BATCH)
        storage.queue_page(pipe, after or "~", BATCH)  # "~" sorts after all ids: an empty page
        reading = asyncio.ensure_future(pipe.execute())
        await asyncio.sleep(SENDING_SECONDS)
        entries += _entries(*last, consent)
        next_campaigns, _ = storage.unpack_page(page, BATCH)
        *answers, page = await reading
        last, campaigns = (campaigns, answers), next_campaigns
    entries += _entries(*last, consent)
    return _newest_first(entries)


async def _read_page(store: AsyncRedis) -> Any:
    """Returns the first page of campaigns, packed."""
    pipe = store.pipeline(transaction=False)
    storage.queue_page(pipe, None, BATCH)
    (page,) = await pipe.execute()
    return page


def _entries(campaigns: list[Campaign], answers: list[bytes], consent: Consent) -> list[Entry]:
    """Returns the entries of campaigns. answers: see `totals.unpack_many`."""
    sums = totals.unpack_many(answers, campaigns)
    return [_entry(campaign, sums[campaign.id], consent) for campaign in campaigns]


def _entry(campaign: Campaign, sums: totals.Sums, consent: Consent) -> Entry:
    are_people_told_apart = totals.tells_people_apart(campaign, consent)
    figures, rate, _ = totals.figures_and_rate(campaign, sums, are_people_told_apart)
    share = None if rate is None else rate["low"] if rate["estimate"] is None else rate["estimate"]
    uniques = figures[totals.UNIQUES[campaign.kind]]
    name = campaign.name.casefold()
    is_draft = campaign.sent_at is None and sums.last_hit is None
    sent_at = None if is_draft else campaign.sent_at or campaign.created
    sent = totals.mails(campaign, sums).sent
    times_and_figures = (campaign.created, sums.last_hit, share, uniques, sent_at, sent, figures.get("views"))
    return Entry(campaign.id, campaign.kind, name, *times_and_figures, campaign.tags)


def find(
    order: Order, query: str, sort: str, kind: Kind | None = None, tag: str | None = None
) -> list[Entry]:
    """Returns the campaigns whose id or name contains the query, sorted.

    sort: one of SORTS, perhaps with a `-` before it. Campaigns without a value come last. Of campaigns with
    the same value, the newest comes first. kind, tag: of the campaigns to return, None for all.
    """
    text = query.strip().casefold()
    matches = [entry for entry in order.entries if text in entry.id or text in entry.name]
    if kind is not None:
        matches = [entry for entry in matches if entry.kind == kind]
    if tag is not None:
        matches = [entry for entry in matches if has_tag(entry.tags, tag)]
    sort_value = _sort_value(sort.removeprefix("-"))
    with_value = [entry for entry in matches if sort_value(entry) is not None]
    without_value = [entry for entry in matches if sort_value(entry) is None]
    return [*sorted(with_value, key=sort_value, reverse=sort.startswith("-")), *without_value]


def _sort_value(name: str) -> Callable[[Entry], Any]:
    """Returns the function that returns an entry's value to sort by."""
    if name == "name":
        return lambda entry: natural_key(entry.name)
    return attrgetter(name)


@lru_cache(MAX_CACHED_NAMES)
def natural_key(name: str) -> tuple[str | int, ...]:
    """Returns the value that sorts names by the numbers in them: `mail 2` comes before `mail 10`.

    Letters with a mark come behind the same letter without it: `a`, `ä`, `b`. Does not depend on a locale.
    """
    parts: list[str | int] = [*_split_at_numbers(unicodedata.normalize("NFKD", name))]
    parts[1::2] = [int(number) for number in parts[1::2]]
    return tuple(parts)


_split_at_numbers = re.compile("([0-9]+)").split


def most_used_tags(order: Order, limit: int) -> list[tuple[str, int]]:
    """Returns the tags with the number of their campaigns, the most used tags first."""
    spellings: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for entry in order.entries:
        for tag in entry.tags:
            tag_key = key(tag)
            spellings.setdefault(tag_key, tag)
            counts[tag_key] += 1
    most_used = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]
    return [(spellings[tag_key], count) for tag_key, count in most_used]
