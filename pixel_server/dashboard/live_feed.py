"""Watches campaigns for changes: one task per campaign, shared by all its listeners.

The task checks once a second, in one round trip, whether anything of the campaign has changed. After a
change, it reads the figures, once for each range that a listener shows. A slow listener gets only the latest
event, and does not delay others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import anyio
import msgspec

from pixel_server.api.context import Api
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import Campaign
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.figures import sources
from pixel_server.logs import Log
from pixel_server.problems import Problem
from pixel_server.store import keys

log = Log(__name__)

CHECK_SECONDS = 1.0
"""Seconds between two checks for changes."""
MAX_AGE_SECONDS = 15.0
"""Seconds after which figures are read again without a change, because days end and `as_of` advances."""
MAX_RANGES = 20
"""Largest number of ranges of one campaign that can be live at the same time."""

ReadTexts = Callable[[Api, Campaign, Mapping[str, str]], Awaitable[tuple[Mapping[str, str], str]]]
"""Returns (the text of each figure by its path, `as_of`) for a campaign and the range of a page's query.

An example of a path is `totals.opens`; see `figure_texts`.
"""
Query = tuple[tuple[str, str], ...]
"""The parameters of a range. Equal queries request the same range."""


class Event(NamedTuple):
    """A server-sent event. data: JSON in one line."""

    name: str
    data: str


AWAY = Event("away", "{}")
REVOKED = Event("end", '{"why":"revoked"}')
DELETED = Event("end", '{"why":"deleted"}')
RECONNECT = Event("end", '{"why":"again"}')
"""Tells the page to connect again. If something is wrong, the new request reports the error."""

_encode = msgspec.json.Encoder().encode


async def read_event(read_texts: ReadTexts, api: Api, campaign: Campaign, query: Query) -> Event:
    """Returns the figures as an event. Raises Problem if the range cannot be used."""
    texts, as_of = await read_texts(api, campaign, dict(query))
    return Event("figures", _encode({"figures": texts, "as_of": as_of}).decode())


class Listener:
    """A browser tab that shows live figures.

    key_id: id of the API key of its session, None if a proxy signed the user in. query: the range that the
    tab shows.
    """

    def __init__(self, key_id: str | None, query: Query) -> None:
        self.key_id = key_id
        self.query = query
        self._event: Event | None = None
        self._has_event = asyncio.Event()

    def send(self, event: Event) -> None:
        self._event = event
        self._has_event.set()

    async def next(self, timeout_seconds: float) -> Event | None:
        """Returns the latest event. Returns None if there is no new event before the timeout."""
        with anyio.move_on_after(timeout_seconds):
            await self._has_event.wait()
        self._has_event.clear()
        event, self._event = self._event, None
        return event


class Watch:
    """Watches one campaign while it has listeners. The task starts at once."""

    def __init__(self, api: Api, campaign: str, read_texts: ReadTexts) -> None:
        self.listeners: set[Listener] = set()
        self._api = api
        self._campaign = campaign
        self._read_texts = read_texts
        self._last_events: dict[Query, Event] = {}
        self._last_state: list[Any] = []
        self._read_at = 0.0
        self._task = asyncio.create_task(self._run())

    @property
    def has_ended(self) -> bool:
        return self._task.done()

    def last_event(self, query: Query) -> Event | None:
        """Returns the last event of a range. Returns None if no listener shows this range."""
        return self._last_events.get(query)

    def has_room(self, query: Query) -> bool:
        """Returns whether a listener shows this range already, or fewer than MAX_RANGES ranges are live."""
        queries = {listener.query for listener in self.listeners}
        return query in queries or len(queries) < MAX_RANGES

    def join(self, listener: Listener, first_event: Event) -> None:
        """Adds a listener. Sends the last event of its range, or `first_event` if there was no event yet."""
        self.listeners.add(listener)
        listener.send(self._last_events.get(listener.query, first_event))

    def leave(self, listener: Listener) -> None:
        self.listeners.discard(listener)
        if not self.listeners:
            self._task.cancel()

    def _end(self, listener: Listener, event: Event) -> None:
        listener.send(event)
        self.listeners.discard(listener)

    async def _run(self) -> None:
        is_away = False
        try:
            while True:
                try:
                    await self._check()
                    is_away = False
                except Exception as error:  # any failure to read the store is reported to the listeners
                    if not is_away:
                        log.warning(
                            "live-unreadable",
                            "cannot read the figures of %(campaign)s: %(error)s",
                            campaign=self._campaign,
                            error=error,
                        )
                        for listener in self.listeners:
                            listener.send(AWAY)
                    is_away = True
                    self._last_events.clear()  # so that all listeners get figures after the failure
                if not self.listeners:
                    return
                await asyncio.sleep(CHECK_SECONDS)
        except (Problem, NewerFormat):
            pass  # the new request of each listener reports the error
        finally:
            for listener in list(self.listeners):
                self._end(listener, RECONNECT)

    async def _check(self) -> None:
        key_ids = sorted({listener.key_id for listener in self.listeners if listener.key_id is not None})
        state, key_exists = await self._read_state(key_ids)
        revoked = {key_id for key_id, exists in zip(key_ids, key_exists, strict=True) if not exists}
        for listener in list(self.listeners):
            if state[0][0] is None:
                self._end(listener, DELETED)
            elif listener.key_id in revoked:
                self._end(listener, REVOKED)

        queries = {listener.query for listener in self.listeners}
        now = asyncio.get_running_loop().time()
        if state != self._last_state or now - self._read_at >= MAX_AGE_SECONDS:
            self._last_events.clear()
            self._read_at = now
        for query in queries - self._last_events.keys():
            await self._send_figures(query)
        self._last_state = state
        self._last_events = {query: event for query, event in self._last_events.items() if query in queries}

    async def _read_state(self, key_ids: list[str]) -> tuple[list[Any], list[int]]:
        """Returns values that change with every change of a figure, and whether each key exists.

        The first value is the campaign's record and the times of its uses. The record is None if the campaign
        was deleted.
        """
        campaign = self._campaign
        found = await sources.find(self._api.store, self._api.settings.shards)
        pipe = self._api.store.pipeline(transaction=False)
        storage.queue_uses(pipe, campaign)
        pipe.hmget(keys.DROPPED, [keys.dropped_field(campaign, why) for why in ("gpc", "out", "origin")])
        for tag in found.tags:
            pipe.hgetall(keys.total(tag, campaign))
        for key_id in key_ids:
            pipe.exists(keys.api_key(key_id))
        answers = await pipe.execute()
        count = 2 + len(found.tags)
        return answers[:count], answers[count:]

    async def _send_figures(self, query: Query) -> None:
        try:
            campaign = await storage.get(self._api.store, self._campaign)
            event = await read_event(self._read_texts, self._api, campaign, query)
        except storage.UnknownCampaign:
            return  # deleted a moment ago: the next check ends the listeners
        self._last_events[query] = event
        for listener in self.listeners:
            if listener.query == query:
                listener.send(event)
