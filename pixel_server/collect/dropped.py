"""How many requests were not kept, because they said no or were not to be sent: numbers, no more."""

from __future__ import annotations

import asyncio
from collections import Counter

import redis

from pixel_server import keys
from pixel_server.store import AsyncRedis

EVERY = 1.0
"""Seconds between two writes; a process that is killed forgets the numbers of that long."""


async def follow(store: AsyncRedis, dropped: Counter[str]) -> None:
    """Adds what was counted to what is kept, until cancelled. dropped: by field, see `keys.dropped`."""
    while True:
        await asyncio.sleep(EVERY)
        if not dropped:
            continue
        taken = Counter(dropped)
        dropped.clear()
        try:
            pipe = store.pipeline()
            for field, count in taken.items():
                pipe.hincrby(keys.DROPPED, field, count)
            await pipe.execute()
        except (redis.RedisError, OSError):
            dropped.update(taken)  # it is said elsewhere that Redis is away
