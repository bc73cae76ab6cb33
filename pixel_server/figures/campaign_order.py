"""All campaigns in an order, by name or by figures, and those of them that match a query.

To sort by figures, the figures of all campaigns are read and kept in this process: one list, of about half a
kilobyte a campaign. A list older than FRESH_SECONDS is still used while it is read anew; a list older than
MAX_AGE_SECONDS is not. A campaign that was created, changed or deleted is in its place at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple
from weakref import WeakKeyDictionary

import redis

from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import Campaign, Kind
from pixel_server.consent import Consent
from pixel_server.figures import totals
from pixel_server.store.protocols import AsyncRedis

SORTS = ("name", "created", "last_hit", "rate", "uniques")
"""Each with a `-` before it is the other way round. `rate`: the estimate, where there is none the least."""
FRESH_SECONDS, MAX_AGE_SECONDS = 3.0, 60.0
STEP = 250
"""Campaigns between two turns of the event loop, and in one command: 2 ms of Redis a shard, 5 ms here."""


class Place(NamedTuple):
    """What a campaign is found and sorted by. name: in lower case. last_hit, created: seconds."""

    id: str
    kind: Kind
    name: str
    created: int
    last_hit: int | None
    rate: float | None
    uniques: int | None


class Order(NamedTuple):
    """places: the newest campaign first. as_of: when their figures were read, seconds. version: see
    `campaigns.version`. made: of the monotonic clock."""

    places: list[Place]
    as_of: float
    version: bytes
    made: float


@dataclass(slots=True)
class _Held:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    order: Order | None = None
    renewal: asyncio.Task[None] | None = None


_held: WeakKeyDictionary[AsyncRedis, _Held] = WeakKeyDictionary()


async def read(store: AsyncRedis, shards: int, consent: Consent, now: float) -> Order:
    """The order as it is, or was at most MAX_AGE_SECONDS seconds ago."""
    held = _held.setdefault(store, _Held())
    async with held.lock:  # who comes while it is read waits for that, and does not read it too
        order = held.order
        if order is not None:
            is_old = time.monotonic() - order.made > MAX_AGE_SECONDS
            order = None if is_old else await _changed(store, shards, consent, order)
        held.order = order = order or await _read(store, shards, consent, now)
    renewing = held.renewal is not None and not held.renewal.done()
    if time.monotonic() - order.made > FRESH_SECONDS and not renewing:
        held.renewal = asyncio.create_task(_renew(held, store, shards, consent, now))
    return order


async def _renew(held: _Held, store: AsyncRedis, shards: int, consent: Consent, now: float) -> None:
    with contextlib.suppress(redis.RedisError, OSError):  # who asks when it is old sees what is wrong
        held.order = await _read(store, shards, consent, now)


async def _read(store: AsyncRedis, shards: int, consent: Consent, now: float) -> Order:
    made, version = time.monotonic(), await storage.version(store)
    return Order(await _places(store, shards, consent), now, version, made)


async def _changed(store: AsyncRedis, shards: int, consent: Consent, order: Order) -> Order | None:
    """The order with what was made, changed or deleted since. None: that cannot be told."""
    changes = await storage.changes(store, order.version)
    if changes is None:
        return None
    changed, version = changes
    if not changed:
        return order
    pipe = store.pipeline(transaction=False)
    for campaign in changed:
        storage.queue_record(pipe, campaign)
    records = map(storage.unpack_record, await pipe.execute(), changed)
    there = [record for record in records if record is not None]
    places = [place for place in order.places if place.id not in changed]
    if there:
        totals.queue_many(pipe, there, shards)
        kept = totals.unpack_many(await pipe.execute(), there)
        places += [_place(campaign, kept[campaign.id], consent) for campaign in there]
    return order._replace(places=_newest_first(places), version=version)


def _newest_first(places: list[Place]) -> list[Place]:
    return sorted(places, key=lambda place: (-place.created, place.id))


async def _places(store: AsyncRedis, shards: int, consent: Consent) -> list[Place]:
    found: list[Place] = []
    kept: dict[str, totals.Sums] = {}
    part: list[Campaign] = []
    following, after = await storage.page(store, None, STEP)
    while following or after:
        pipe = store.pipeline(transaction=False)
        totals.queue_many(pipe, following, shards)
        storage.queue_page(pipe, after or "~", STEP)  # behind all ids: an empty page
        reading = asyncio.ensure_future(pipe.execute())
        await asyncio.sleep(0)  # it is on its way: Redis reads these while the part before is dealt with
        found += [_place(campaign, kept[campaign.id], consent) for campaign in part]
        *answers, page = await reading
        part, kept = following, totals.unpack_many(answers, following)
        following, after = storage.unpack_page(page, STEP)
    found += [_place(campaign, kept[campaign.id], consent) for campaign in part]
    return _newest_first(found)


def _place(campaign: Campaign, kept: totals.Sums, consent: Consent) -> Place:
    figures, rate, _ = totals.figures_and_rate(campaign, kept, totals.tells_people_apart(campaign, consent))
    share = None if rate is None else rate["low"] if rate["estimate"] is None else rate["estimate"]
    uniques = figures[totals.UNIQUES[campaign.kind]]
    return Place(
        campaign.id, campaign.kind, campaign.name.casefold(), campaign.created, kept.last_hit, share, uniques
    )


def find(order: Order, query: str, sort: str) -> list[Place]:
    """The campaigns whose id or name has the query in it, in this order; what is not known last,
    and of the same the newest campaign first. sort: one of SORTS, perhaps with a `-` before it."""
    text = query.strip().casefold()
    places = [place for place in order.places if text in place.id or text in place.name]
    value = attrgetter(sort.removeprefix("-"))
    known = sorted((p for p in places if value(p) is not None), key=value, reverse=sort.startswith("-"))
    return [*known, *(place for place in places if value(place) is None)]
