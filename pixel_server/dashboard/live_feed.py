"""Figures as they change: of each campaign that is looked at one task, shared by all who look at it.

It looks once a second, in one round trip, whether anything of the campaign has changed; only then are figures
read, once for each range that somebody looks at. A listener is told the latest only: one that is slow misses
what was in between, and holds nothing up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import anyio
import msgspec

from pixel_server.api.context import Api
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import Campaign
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.problems import Problem
from pixel_server.store import keys

log = logging.getLogger("pixel_server.live")

EVERY = 1.0
"""Seconds from one look to the next."""
FRESH = 15.0
"""Seconds after which figures are read anew though nothing was counted: days end, and `as_of` goes on."""

MOST_RANGES = 20
"""Ranges of one campaign whose figures are live; each is read once for all who look at it."""

Figures = Callable[[Api, Campaign, Mapping[str, str]], Awaitable[tuple[Mapping[str, str], str]]]
"""(the text of each figure by its path, `as_of`) of a campaign and a range, as its page shows them."""
Query = tuple[tuple[str, str], ...]
"""A range, so that two are equal if they ask for the same."""


class Event(NamedTuple):
    """data: JSON, in one line."""

    name: str
    data: str


AWAY = Event("away", "{}")
REVOKED = Event("end", '{"why":"revoked"}')
DELETED = Event("end", '{"why":"deleted"}')
AGAIN = Event("end", '{"why":"again"}')
"""The listener should come anew, and will be told what is wrong if something is."""

_encode = msgspec.json.Encoder().encode


async def read(figures: Figures, api: Api, campaign: Campaign, query: Query) -> Event:
    """Problem: of this range there are none."""
    texts, as_of = await figures(api, campaign, dict(query))
    return Event("figures", _encode({"figures": texts, "as_of": as_of}).decode())


class Listener:
    """One tab. key: the id of the API key that it signed in with."""

    def __init__(self, key: str, query: Query) -> None:
        self.key = key
        self.query = query
        self._event: Event | None = None
        self._told = asyncio.Event()

    def tell(self, event: Event) -> None:
        self._event = event
        self._told.set()

    async def next(self, within: float) -> Event | None:
        """What it was told last; None: nothing new within so many seconds."""
        with anyio.move_on_after(within):
            await self._told.wait()
        self._told.clear()
        event, self._event = self._event, None
        return event


class Watch:
    """One campaign, while anybody listens. Starts when it is made."""

    def __init__(self, api: Api, campaign: str, figures: Figures) -> None:
        self.listeners: set[Listener] = set()
        self._api = api
        self._campaign = campaign
        self._figures = figures
        self._last: dict[Query, Event] = {}
        self._seen: list[Any] = []
        self._read_at = 0.0
        self._task = asyncio.create_task(self._run())

    @property
    def ended(self) -> bool:
        return self._task.done()

    def last(self, query: Query) -> Event | None:
        """Returns what listeners of this range were told last, None if nothing or if there are none."""
        return self._last.get(query)

    def has_room(self, query: Query) -> bool:
        """Whether figures of this range are read already, or of fewer than MOST_RANGES."""
        queries = {listener.query for listener in self.listeners}
        return query in queries or len(queries) < MOST_RANGES

    def join(self, listener: Listener, first: Event) -> None:
        """first: what it is told at once, unless newer is known."""
        self.listeners.add(listener)
        listener.tell(self._last.get(listener.query, first))

    def leave(self, listener: Listener) -> None:
        self.listeners.discard(listener)
        if not self.listeners:
            self._task.cancel()

    def _end(self, listener: Listener, event: Event) -> None:
        listener.tell(event)
        self.listeners.discard(listener)

    async def _run(self) -> None:
        is_away = False
        try:
            while True:
                try:
                    await self._look()
                    is_away = False
                except Exception as error:  # also of what the store holds: whoever listens is told
                    if not is_away:
                        log.warning("live: cannot read the figures of %s: %s", self._campaign, error)
                        for listener in self.listeners:
                            listener.tell(AWAY)
                    is_away = True
                    self._last.clear()  # so that all are told when it is back
                if not self.listeners:
                    return
                await asyncio.sleep(EVERY)
        except (Problem, NewerFormat):
            pass  # whoever comes again is told
        finally:
            for listener in list(self.listeners):
                self._end(listener, AGAIN)

    async def _look(self) -> None:
        signed_in = sorted({listener.key for listener in self.listeners})
        seen, keys_there = await self._ask(signed_in)
        revoked = {key for key, there in zip(signed_in, keys_there, strict=True) if not there}
        for listener in list(self.listeners):
            if seen[0] is None:
                self._end(listener, DELETED)
            elif listener.key in revoked:
                self._end(listener, REVOKED)

        queries = {listener.query for listener in self.listeners}
        now = asyncio.get_running_loop().time()
        if seen != self._seen or now - self._read_at >= FRESH:
            self._last.clear()
            self._read_at = now
        for query in queries - self._last.keys():
            await self._tell(query)
        self._seen = seen
        self._last = {query: event for query, event in self._last.items() if query in queries}

    async def _ask(self, signed_in: list[str]) -> tuple[list[Any], list[int]]:
        """(what changes when a figure does, first the campaign's record or None; whether each key exists)."""
        name, shards = self._campaign, self._api.settings.shards
        pipe = self._api.store.pipeline(transaction=False)
        pipe.hget(keys.campaign(name), "record")
        pipe.hmget(keys.DROPPED, [keys.dropped_field(name, why) for why in ("gpc", "out", "origin")])
        for shard in range(shards):
            pipe.hgetall(keys.total(shard, name))
        for key in signed_in:
            pipe.exists(keys.api_key(key))
        answers = await pipe.execute()
        return answers[: 2 + shards], answers[2 + shards :]

    async def _tell(self, query: Query) -> None:
        try:
            campaign = await storage.get(self._api.store, self._campaign)
            event = await read(self._figures, self._api, campaign, query)
        except storage.UnknownCampaign:
            return  # deleted just now: the next look says so
        self._last[query] = event
        for listener in self.listeners:
            if listener.query == query:
                listener.tell(event)
