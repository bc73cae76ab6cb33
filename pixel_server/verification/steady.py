"""Repeats a check while the store changes, so that a concurrent change is not taken for a fault."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis

TRIES = 20
"""Number of repetitions after which a shard that changes all the time is reported."""
PAUSE_SECONDS = 0.05
"""Seconds before a check is repeated."""


async def confirm(
    store: AsyncRedis, shard: int, check: Callable[[], Awaitable[list[str]]], first: list[str]
) -> list[str]:
    """Returns the faults that a check finds twice in a row while no writer has changed the shard.

    first: the faults that the check has found already. Returns [] as soon as the check finds nothing.
    """
    faults, before = first, await _generation(store, shard)
    for _ in range(TRIES):
        if not faults:
            return []
        await asyncio.sleep(PAUSE_SECONDS)
        again, after = await check(), await _generation(store, shard)
        confirmed = [fault for fault in faults if fault in again]
        if before == after and confirmed == again:
            return confirmed
        faults, before = again, after
    return [f"shard {shard} changes too fast to be verified: stop the workers first"]


async def _generation(store: AsyncRedis, shard: int) -> list[bytes | None]:
    return await store.hmget(keys.checkpoint(shard), ["n", "mark"])
