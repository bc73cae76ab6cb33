"""How many requests were not kept, because they said no or were not to be sent: numbers, no more."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import redis

from pixel_server.store import keys
from pixel_server.store.client import AsyncRedis
from pixel_server.store.store_mark import StoreMark

log = logging.getLogger("pixel_server.dropped")

EVERY = 1.0
"""Seconds between two writes; a process that is killed forgets the numbers of that long."""


async def follow(store: AsyncRedis, dropped: Counter[str], mark: StoreMark) -> None:
    """Adds what was counted to what is kept, until cancelled. dropped: by field, see `keys.dropped`.

    A store that is not the known one (`mark`) is given nothing.
    """
    failing = False
    while True:
        await asyncio.sleep(EVERY)
        if not dropped or mark.trouble:
            continue
        taken = Counter(dropped)
        dropped.clear()
        try:
            pipe = store.pipeline()
            for field, count in taken.items():
                pipe.hincrby(keys.DROPPED, field, count)
            await pipe.execute()
            failing = False
        except (redis.ConnectionError, redis.TimeoutError, OSError):
            dropped.update(taken)  # it is said elsewhere that Redis is away
        except Exception as error:
            dropped.update(taken)
            if not failing:
                log.error(
                    "dropped: requests that were not kept cannot be counted in %s: %s", keys.DROPPED, error
                )
            failing = True
