"""The inventory for the API and its page: read at most once a minute, by one caller at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from pixel_server.figures import inventory
from pixel_server.figures.inventory import Kind
from pixel_server.settings import Settings
from pixel_server.store.client import connect_async

FRESH_SECONDS = 60
"""Seconds for which an inventory is used. Making a new inventory reads the whole store."""

CountSpool = Callable[[], tuple[int, int | None]]
"""Function that returns (number of hits in the spool, time of the oldest hit in ms or None)."""


class Snapshot(NamedTuple):
    """An inventory. at: time at which it was read, seconds."""

    kinds: list[Kind]
    at: float


class InventoryCache:
    """Reads the inventory in a thread of its own, because reading millions of recipients takes a while."""

    def __init__(self, settings: Settings, count_spool: CountSpool) -> None:
        self._settings = settings
        self._count_spool = count_spool
        self._lock = asyncio.Lock()
        self._snapshot: Snapshot | None = None

    async def read(self, now: float) -> Snapshot:
        """Returns an inventory that is less than FRESH_SECONDS old. now: seconds.

        Raises redis.RedisError or OSError if Redis does not answer.
        """
        async with self._lock:
            snapshot = self._snapshot
            if snapshot is None or not 0 <= now - snapshot.at < FRESH_SECONDS:
                spooled = await asyncio.to_thread(self._count_spool)
                kinds = await asyncio.to_thread(_read_kinds, self._settings, *spooled)
                snapshot = self._snapshot = Snapshot(kinds, now)
            return snapshot


def _read_kinds(settings: Settings, spooled: int, spooled_since: int | None) -> list[Kind]:
    async def read() -> list[Kind]:
        client = connect_async(settings.redis_url)
        try:
            return await inventory.kinds(client, settings, spooled, spooled_since)
        finally:
            await client.aclose()

    return asyncio.run(read())
