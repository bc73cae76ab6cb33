"""How many requests were not kept, because they said no or were not to be sent: numbers, no more."""

from __future__ import annotations

import logging
from collections import Counter

import redis

from pixel_server import tasks
from pixel_server.store import keys
from pixel_server.store.client import StoreEmptiedError
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import StoreMark

log = logging.getLogger("pixel_server.dropped")

_AWAY = (redis.ConnectionError, redis.TimeoutError, OSError, StoreEmptiedError)
"""Errors that are logged elsewhere."""
EVERY = 1.0
"""Seconds between two writes; a process that is killed forgets the numbers of that long."""


async def follow(store: AsyncRedis, dropped: Counter[str], mark: StoreMark) -> None:
    """Adds what was counted to what is kept, until cancelled. dropped: by field, see `keys.dropped`.

    A store that is not the known one (`mark`) is given nothing.
    """

    async def write() -> None:
        if not dropped:
            return
        if mark.trouble:
            raise StoreEmptiedError(mark.trouble)
        taken = Counter(dropped)
        dropped.clear()
        try:
            pipe = store.pipeline()
            for field, count in taken.items():
                pipe.hincrby(keys.DROPPED, field, count)
            await pipe.execute()
        except Exception:
            dropped.update(taken)
            raise

    await tasks.repeat(write, EVERY, _report_failed_write, unreported=_AWAY, pauses_first=True)


def _report_failed_write(error: Exception) -> None:
    log.error("dropped: requests that were not kept cannot be counted in %s: %s", keys.DROPPED, error)
