"""The chores of each minute: remove idle producers and old salts, finish deletions, run owed erasures."""

from __future__ import annotations

import asyncio

from pixel_server import lifeline
from pixel_server.campaigns import deletion
from pixel_server.counters import visitor_salts
from pixel_server.logs import Log
from pixel_server.recipients import erasure
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import checkpoint, keys, producer
from pixel_server.store.client import connect_async
from pixel_server.store.clock import Clock, describe
from pixel_server.store.protocols import Redis
from workers import courier
from workers.context import context, is_known_store

log = Log(__name__)


def run() -> None:
    """Runs the job: all chores. A worker with a wrong clock does none of them."""
    store, settings, secrets = context()
    if not is_known_store(store):
        return
    clock = Clock()
    clock.measure(store)
    if clock.is_far_off:
        log.warning(
            "maintenance-waits", "no maintenance: %(reason)s", reason=describe("this worker", clock.ahead)
        )
        return
    prune_producers(store, settings, clock())
    if has_undelivered(store, settings):
        courier.wake(settings, secrets)
    asyncio.run(lifeline.with_heartbeat(_finish(settings, secrets, clock())))


def prune_producers(store: Redis, settings: Settings, now: float) -> None:
    """Removes idle producers, with one script for each shard. now: Redis's time, s.

    A producer is idle if it is IDLE_MS behind both Redis's time and the shard's newest hit. So no producer is
    removed only because Redis's clock has jumped.
    """
    for shard in range(settings.shards):
        lifeline.beat()
        newest = checkpoint.read_checkpoint(store, shard).newest_ms
        before = min(int(now * 1000), newest) - producer.IDLE_MS
        removed = producer.prune(store, shard, idle_since_ms=before) if newest else 0
        if removed:
            log.info(
                "producers-removed",
                "shard %(shard)d: removed %(producers)d producers that were idle for 30 days",
                shard=shard,
                producers=removed,
            )


def has_undelivered(store: Redis, settings: Settings) -> bool:
    """Returns whether an outbox of webhooks holds entries.

    The courier empties it even if all endpoints were deleted meanwhile, so that nothing stays there.
    """
    pipe = store.pipeline(transaction=False)
    for name in (keys.NOTICES, *map(keys.outbox, range(settings.shards))):
        pipe.xlen(name)
    return any(pipe.execute())


async def _finish(settings: Settings, secrets: Secrets, now: float) -> None:
    """Finishes deletions, removes old salts, and runs owed erasures. now: Redis's time, s."""
    store = connect_async(settings.redis_url, timeout=10.0)
    try:
        for campaign in await deletion.finish_deletions(store, settings.shards):
            log.info("deletion-finished", "finished the deletion of %(campaign)s", campaign=campaign)
        if removed := await visitor_salts.remove_old(store, settings.shards, now):
            log.info("salts-removed", "removed %(salts)d salts of visitors for good", salts=removed)
        if erased := await erasure.run_owed(store, secrets, now, settings.shards):
            log.info("erasures-done", "erased %(recipients)d recipients who asked for it", recipients=erased)
    finally:
        await store.aclose()
