"""What is kept, for the API and its page: looked up once at a time, and not more than once a minute."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from pixel_server.figures import inventory
from pixel_server.figures.inventory import Kind
from pixel_server.settings import Settings
from pixel_server.store.client import connect_async

FRESH = 60
"""Seconds that what was found is shown again: to look reads the whole store."""

Spooled = Callable[[], tuple[int, int | None]]
"""How many hits wait on disk, and since when (ms)."""


class Found(NamedTuple):
    """at: seconds."""

    kinds: list[Kind]
    at: float


class KeptNow:
    """Looks in a thread of its own: of millions of recipients it takes its time."""

    def __init__(self, settings: Settings, spooled: Spooled) -> None:
        self._settings = settings
        self._spooled = spooled
        self._one = asyncio.Lock()
        self._found: Found | None = None

    async def look(self, now: float) -> Found:
        """now: seconds. redis.RedisError, OSError: Redis does not answer."""
        async with self._one:
            if self._found is None or not 0 <= now - self._found.at < FRESH:
                spooled = await asyncio.to_thread(self._spooled)
                self._found = Found(await asyncio.to_thread(_look, self._settings, *spooled), now)
            return self._found


def _look(settings: Settings, spooled: int, since: int | None) -> list[Kind]:
    async def look() -> list[Kind]:
        client = connect_async(settings.redis_url)
        try:
            return await inventory.kinds(client, settings, spooled, since)
        finally:
            await client.aclose()

    return asyncio.run(look())
