"""`/campaigns/{id}/live`: the figures of a campaign as server-sent events.

Events:
- `figures` {figures: {"totals.opens": "1,204"}, as_of}: at once, after each change, and at least every 15 s.
- `away` {}: Redis does not answer.
- `end` {why}: the end of the stream. why: `revoked`, `deleted`, or `again` if the page must connect again.

A comment is sent every 15 s, so that no proxy closes the connection as idle.
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
from pixel_server.dashboard import live_feed, range_picker
from pixel_server.dashboard.live_feed import Event, Listener, Query, ReadTexts, Watch
from pixel_server.problems import Problem

MAX_LISTENERS = 200
"""Largest number of listeners of one process, over all campaigns. Further pages poll every 2 s instead."""
MAX_STREAM_SECONDS = 600.0
"""Seconds after which a stream ends. The page then connects again, and its session is checked again."""
BROWSER_RETRY_MS = 2000
"""Milliseconds until a browser connects again after a lost connection."""
PING_SECONDS = 15
SEND_TIMEOUT_SECONDS = 30.0
"""Largest number of seconds for which a browser may leave sent data unread."""
STOP_POLL_SECONDS = 0.5
"""Seconds between two checks whether the server stops."""
STOP_GRACE_SECONDS = 2.0
"""Largest number of seconds for which a stopping server still sends the last events."""
_RANGE_PARAMS = ("until", *range_picker.PARAMS)


class _Subscription(NamedTuple):
    """A request for live figures."""

    campaign: str
    key_id: str | None
    query: Query
    first_event: Event


def _too_many() -> Problem:
    return Problem(
        503, "too many pages receive live figures; poll the figures instead", headers={"Retry-After": "2"}
    )


class Live:
    """Serves the live events. read_texts: see `live_feed.ReadTexts`."""

    def __init__(self, read_texts: ReadTexts) -> None:
        self._read_texts = read_texts
        self._watches: dict[str, Watch] = {}

    @property
    def listener_count(self) -> int:
        return sum(len(watch.listeners) for watch in self._watches.values())

    async def answer(self, api: Api, request: Request) -> Response:
        """Returns the stream. Raises Problem 503 if there are too many listeners."""
        if self.listener_count >= MAX_LISTENERS:
            raise _too_many()
        campaign = await api.campaign(request.path_params["id"])
        params = request.query_params
        query = tuple((name, params[name][:40]) for name in _RANGE_PARAMS if params.get(name))
        watch = self._watches.get(campaign.id)
        first_event = None if watch is None or watch.has_ended else watch.last_event(query)
        if first_event is None:
            if watch is not None and not watch.has_room(query):
                raise _too_many()
            read = functools.partial(live_feed.read_event, self._read_texts, api, campaign, query)
            first_event = await api.recent.get(("live", campaign.id, query, int(api.clock())), read)
        stop = anyio.Event()
        subscription = _Subscription(campaign.id, request.state.session.key_id, query, first_event)
        return EventSourceResponse(
            self._events(api, subscription, stop),
            ping=PING_SECONDS,
            send_timeout=SEND_TIMEOUT_SECONDS,
            shutdown_event=stop,
            shutdown_grace_period=STOP_GRACE_SECONDS,
        )

    async def _events(
        self, api: Api, subscription: _Subscription, stop: anyio.Event
    ) -> AsyncIterator[ServerSentEvent]:
        if self.listener_count >= MAX_LISTENERS:  # several requests came at the same time
            return
        listener = Listener(subscription.key_id, subscription.query)
        watch = self._join(api, subscription, listener)
        try:
            yield ServerSentEvent(retry=BROWSER_RETRY_MS)
            now = asyncio.get_running_loop().time
            end = now() + MAX_STREAM_SECONDS
            while not stop.is_set() and now() < end:
                event = await listener.next(STOP_POLL_SECONDS)
                if event is None:
                    continue
                yield ServerSentEvent(event.data, event=event.name)
                if event.name == "end":
                    return
        finally:
            watch.leave(listener)
            if not watch.listeners and self._watches.get(subscription.campaign) is watch:
                del self._watches[subscription.campaign]

    def _join(self, api: Api, subscription: _Subscription, listener: Listener) -> Watch:
        watch = self._watches.get(subscription.campaign)
        if watch is None or watch.has_ended:
            watch = Watch(api, subscription.campaign, self._read_texts)
            self._watches[subscription.campaign] = watch
        watch.join(listener, subscription.first_event)
        return watch
