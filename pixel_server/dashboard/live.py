"""`/campaigns/{id}/live`: a campaign's figures as server-sent events, as they change.

Events: `figures` {figures: {path: text}, as_of}, at once and then when they have changed, at the latest after
15 s; `away` {}: Redis does not answer, figures follow when it does; `end` {why}: `revoked` or `deleted`, or
`again`, when the page should come anew. A comment is sent every 15 s, so that nobody on the way takes the
connection for dead.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from typing import NamedTuple

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.dashboard import live_feed
from pixel_server.dashboard.live_feed import Event, Figures, Listener, Query, Watch
from pixel_server.problems import Problem

MOST = 200
"""Listeners of one process, of all campaigns; a page that is one too many asks every 2 s instead."""
LONGEST = 600.0
"""Seconds; then the page comes anew, and is admitted anew: a session may have run out."""
RETRY = 2000
"""Milliseconds until a browser comes again by itself, when the connection was lost."""
PING = 15
UNREAD = 30.0
"""Seconds that a browser may leave unread what it was sent."""
POLL = 0.5
"""Seconds from one look to the next whether the server stops."""
STOP = 2.0
"""Seconds that a stop leaves for the last words."""
_ASKED = ("from", "to", "until", "interval", "tz")


class _Wish(NamedTuple):
    campaign: str
    key: str
    query: Query
    first: Event


def _too_many() -> Problem:
    return Problem(503, "too many pages are live; ask for the figures", headers={"Retry-After": "2"})


class Live:
    """`answer` is the handler. figures: makes what is told."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._watches: dict[str, Watch] = {}

    @property
    def listeners(self) -> int:
        return sum(len(each.listeners) for each in self._watches.values())

    async def answer(self, api: Api, request: Request) -> Response:
        """Problem 503: too many listen; 404, 422: as the campaign's page."""
        if self.listeners >= MOST:
            raise _too_many()
        campaign = await api.campaign(request.path_params["id"])
        params = request.query_params
        query = tuple((name, params[name][:40]) for name in _ASKED if params.get(name))
        watched = self._watches.get(campaign.id)
        first = None if watched is None or watched.ended else watched.last(query)
        if first is None:
            if watched is not None and not watched.has_room(query):
                raise _too_many()
            read = functools.partial(live_feed.read, self._figures, api, campaign, query)
            first = await api.recent.get(("live", campaign.id, query, int(api.clock())), read)
        stop = anyio.Event()
        wish = _Wish(campaign.id, request.state.session.key_id, query, first)
        return EventSourceResponse(
            self._events(api, wish, stop),
            ping=PING,
            send_timeout=UNREAD,
            shutdown_event=stop,
            shutdown_grace_period=STOP,
        )

    async def _events(self, api: Api, wish: _Wish, stop: anyio.Event) -> AsyncIterator[ServerSentEvent]:
        if self.listeners >= MOST:  # several came at once
            return
        listener = Listener(wish.key, wish.query)
        found = self._join(api, wish, listener)
        try:
            yield ServerSentEvent(retry=RETRY)
            now = asyncio.get_running_loop().time
            end = now() + LONGEST
            while not stop.is_set() and now() < end:
                event = await listener.next(POLL)
                if event is None:
                    continue
                yield ServerSentEvent(event.data, event=event.name)
                if event.name == "end":
                    return
        finally:
            found.leave(listener)
            if not found.listeners and self._watches.get(wish.campaign) is found:
                del self._watches[wish.campaign]

    def _join(self, api: Api, wish: _Wish, listener: Listener) -> Watch:
        found = self._watches.get(wish.campaign)
        if found is None or found.ended:
            found = self._watches[wish.campaign] = Watch(api, wish.campaign, self._figures)
        found.join(listener, wish.first)
        return found
