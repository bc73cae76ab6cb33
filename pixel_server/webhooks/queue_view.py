"""The units in the queue of an endpoint, as the pages and the API show them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import iso_ms
from pixel_server.webhooks import event
from pixel_server.webhooks.queue import MARK_BYTES


class Waiting(NamedTuple):
    """A unit, as the API shows it. due: time (ms) of the next try, None if it is set aside.

    type: type of its first event, "" if the event was removed. events: ids of its events. tries: number of
    tries so far. queued: ms. aside: time (ms) when it was set aside, None if it waits.
    """

    id: str
    type: str
    tries: int
    queued: int
    due: int | None
    events: list[str]
    aside: int | None


class Place(NamedTuple):
    """Place of a unit now. due: time (ms) of its next try. aside: time (ms) when it was set aside.

    Both are None if it was delivered or removed.
    """

    due: int | None
    aside: int | None


async def page(
    store: AsyncRedis, endpoint_id: str, *, is_aside: bool, start: int = 0, limit: int = 100
) -> list[Waiting]:
    """Returns units that wait or were set aside, oldest first. start: number of units to leave out.

    Raises ValueError if a newer version wrote an event.
    """
    key = keys.hook_aside(endpoint_id) if is_aside else keys.hook_due(endpoint_id)
    found = await store.execute_command("ZRANGE", key, start, start + limit - 1, "WITHSCORES")
    units, scores = found[::2], found[1::2]
    if not units:
        return []
    texts = [
        (text or b"0 0").decode().split() for text in await store.hmget(keys.hook_units(endpoint_id), units)
    ]
    firsts = await store.hmget(keys.hook_events(endpoint_id), [(*words, "")[2] for words in texts])
    shown = []
    for unit, score, words, first in zip(units, scores, texts, firsts, strict=True):
        event_type = event.decode(first[MARK_BYTES:]).type if first else ""
        at = int(float(score))
        due, aside = (None, at) if is_aside else (at, None)
        shown.append(Waiting(unit.decode(), event_type, int(words[0]), int(words[1]), due, words[2:], aside))
    return shown


async def find_places(store: AsyncRedis, endpoint_id: str, unit_ids: Iterable[str]) -> dict[str, Place]:
    """Returns the place of each of these units."""
    ids, pipe = list(unit_ids), store.pipeline(transaction=False)
    for unit_id in ids:
        pipe.execute_command("ZSCORE", keys.hook_due(endpoint_id), unit_id)
        pipe.execute_command("ZSCORE", keys.hook_aside(endpoint_id), unit_id)
    scores = [None if score is None else int(float(score)) for score in (await pipe.execute() if ids else [])]
    of_each = zip(ids, scores[::2], scores[1::2], strict=True)
    return {unit_id: Place(due, aside) for unit_id, due, aside in of_each}


def to_json(waiting: Waiting) -> dict[str, Any]:
    """Returns a unit as the API shows it: times in ISO 8601."""
    return {
        "webhook_id": waiting.id,
        "type": waiting.type,
        "tries": waiting.tries,
        "queued": iso_ms(waiting.queued),
        "due": None if waiting.due is None else iso_ms(waiting.due),
        "set_aside": None if waiting.aside is None else iso_ms(waiting.aside),
        "events": waiting.events,
    }
