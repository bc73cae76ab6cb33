"""Stores the numbers of dropped requests, by campaign and reason, and nothing else of these requests."""

from __future__ import annotations

from collections import Counter

import redis

from pixel_server import tasks
from pixel_server.logs import Log
from pixel_server.store import keys
from pixel_server.store.client import StoreRefusedError
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import StoreMark

log = Log(__name__)

_UNREPORTED = (redis.ConnectionError, redis.TimeoutError, OSError, StoreRefusedError)
"""Errors that other parts of this process log."""
PAUSE_SECONDS = 1.0
"""Seconds between two writes. A process that is killed loses the numbers since its last write."""


async def follow(store: AsyncRedis, dropped: Counter[str], mark: StoreMark) -> None:
    """Adds the numbers in `dropped` to the store, and clears them, until cancelled.

    dropped: numbers by `keys.dropped_field`. Writes nothing while the mark shows another store; see
    `store_mark`.
    """

    async def write() -> None:
        if not dropped:
            return
        if mark.trouble:
            raise StoreRefusedError(mark.trouble)
        counts = Counter(dropped)
        dropped.clear()
        try:
            pipe = store.pipeline()
            for field, count in counts.items():
                pipe.hincrby(keys.DROPPED, field, count)
            await pipe.execute()
        except Exception:
            dropped.update(counts)
            raise

    await tasks.repeat(write, PAUSE_SECONDS, _report_failed_write, unreported=_UNREPORTED, pauses_first=True)


def _report_failed_write(error: Exception) -> None:
    log.error(
        "dropped-counts-not-stored", "cannot store the numbers of dropped requests: %(error)s", error=error
    )
