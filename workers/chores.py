"""What is done once a minute: old producers and salts go, cut-off deletions are finished."""

from __future__ import annotations

import asyncio
import logging
import time

from pixel_server import campaigns, keys, producer, salts
from pixel_server.settings import Settings
from pixel_server.store import Redis, connect_async
from workers.context import context, is_known

log = logging.getLogger("workers.chores")


def run() -> None:
    """The job."""
    store, settings, _ = context()
    if not is_known(store):
        return
    tidy(store, settings, time.time())
    asyncio.run(_finish(settings, time.time()))


def tidy(store: Redis, settings: Settings, now: float) -> None:
    """Removes what is older than it may be, in one bounded step a shard."""
    for shard in range(settings.shards):
        gone = store.eval(producer.PRUNE, 1, keys.producers(shard), int(now * 1000) - producer.IDLE_MS)
        if gone:
            log.info("chores: shard %d: %d producers were idle for 30 days and are pruned", shard, gone)


async def _finish(settings: Settings, now: float) -> None:
    store = connect_async(settings.redis_url, timeout=10.0)
    try:
        for campaign in await campaigns.finish_deletions(store, settings.shards):
            log.info("chores: the deletion of %s is finished", campaign)
        if gone := await salts.remove_old(store, settings.shards, now):
            log.info("chores: %d salts of visitors are gone for good", gone)
    finally:
        await store.aclose()
