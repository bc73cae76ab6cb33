"""What is done once a minute: old producers and salts go; deletions and owed erasures are finished."""

from __future__ import annotations

import asyncio
import logging

from pixel_server.campaigns import storage
from pixel_server.counters import visitor_salts
from pixel_server.recipients import erasure
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import checkpoint, keys, producer
from pixel_server.store.client import Redis, connect_async
from pixel_server.store.clock import Clock, text
from workers.context import context, is_known

log = logging.getLogger("workers.maintenance")


def run() -> None:
    """The job."""
    store, settings, secrets = context()
    if not is_known(store):
        return
    clock = Clock()
    clock.measure(store)
    if clock.is_wrong:
        log.warning("chores: not done: %s", text("this worker", clock.ahead))
        return
    tidy(store, settings, clock())
    asyncio.run(_finish(settings, secrets, clock()))


def tidy(store: Redis, settings: Settings, now: float) -> None:
    """Removes what is older than it may be, in one bounded step a shard. now: Redis's time, s.

    Idle is who is behind the shard's newest hit, too: if Redis's clock jumped ahead, nobody is pruned.
    """
    for shard in range(settings.shards):
        newest = checkpoint.read_checkpoint(store, shard).newest_ms
        before = min(int(now * 1000), newest) - producer.IDLE_MS
        gone = store.eval(producer.PRUNE, 1, keys.producers(shard), before) if newest else 0
        if gone:
            log.info("chores: shard %d: %d producers were idle for 30 days and are pruned", shard, gone)


async def _finish(settings: Settings, secrets: Secrets, now: float) -> None:
    store = connect_async(settings.redis_url, timeout=10.0)
    try:
        for campaign in await storage.finish_deletions(store, settings.shards):
            log.info("chores: the deletion of %s is finished", campaign)
        if gone := await visitor_salts.remove_old(store, settings.shards, now):
            log.info("chores: %d salts of visitors are gone for good", gone)
        if done := await erasure.run_owed(store, secrets, now, settings.shards):
            log.info("chores: %d recipients who asked for it are erased", done)
    finally:
        await store.aclose()
