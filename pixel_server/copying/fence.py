"""Closes a store that is being copied, so that nothing is written to it any more, and opens it again."""

from __future__ import annotations

import asyncio

from pixel_server.store import hosts, keys
from pixel_server.store.client import StoreError
from pixel_server.store.clock import read_time
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import EVEN_IF_FULL, ScriptCall, script_call
from pixel_server.store.store_mark import MOVED

WORKER_SEEN_SECONDS = 10
"""Seconds after its last heartbeat at which a worker has ended."""
POLL_SECONDS = 0.5
"""Seconds between two looks at the heartbeats."""

_CLOSE = (
    EVEN_IF_FULL
    + """
-- KEYS: producers, moved producers. ARGV: the fence's mark. Puts the producers aside, and leaves the mark, so
-- that a batch of any producer is refused. Does nothing if they are put aside already.
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[1], 'mark', ARGV[1])
return 1
"""
)

_OPEN = (
    EVEN_IF_FULL
    + """
-- KEYS: producers, moved producers. Puts the producers back, if they are put aside.
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('RENAME', KEYS[2], KEYS[1])
return 1
"""
)


def _close_call(shard: int, *, mark: str) -> ScriptCall:
    return script_call(_CLOSE, keys=(keys.producers(shard), keys.moved_producers(shard)), arguments=(mark,))


def _open_call(shard: int) -> ScriptCall:
    return script_call(_OPEN, keys=(keys.producers(shard), keys.moved_producers(shard)))


async def wait_until_workers_ended(store: AsyncRedis) -> None:
    """Waits until the last heartbeat of each worker is so old that the worker has ended.

    Raises StoreError if a worker sends another heartbeat: it runs.
    """
    last = await _newest_beat(store)
    while (newest := await _newest_beat(store)) is not None:
        if last is None or newest > last:
            raise StoreError("workers run: stop every `pixel-server work` first; web processes may run on")
        await asyncio.sleep(POLL_SECONDS)


async def _newest_beat(store: AsyncRedis) -> float | None:
    """Returns the time (s) of the newest heartbeat of a worker, None if no worker was seen lately."""
    now = await read_time(store)
    workers = await store.zrangebyscore(keys.WORKERS, now - WORKER_SEEN_SECONDS, "+inf")
    return await store.zscore(keys.WORKERS, workers[-1]) if workers else None


async def announce(store: AsyncRedis) -> str:
    """Changes the store's mark, so that web processes stop using the store. Returns the mark it had before.

    Raises StoreError if the store has no mark.
    """
    mark, moved = await store.hmget(keys.STORE, ["mark", "moved"])
    if moved is not None:
        return moved.decode()
    if mark is None:
        raise StoreError("the store has no mark: start this version of the server with it first")
    pipe = store.pipeline(transaction=True)
    pipe.hset(keys.STORE, mapping={"moved": mark, "mark": MOVED + mark.decode()})
    await pipe.execute()
    return mark.decode()


async def processes_that_use(store: AsyncRedis) -> list[str]:
    """Returns the web processes that run and have not noticed yet that the store is closed."""
    now = await read_time(store)
    found = hosts.parse(await store.hgetall(keys.HOSTS))
    return [host.name for host in found if not host.is_away(now) and not host.has_left]


async def close(store: AsyncRedis, shards: int) -> None:
    """Makes each shard refuse every batch."""
    pipe = store.pipeline(transaction=False)
    for shard in range(shards):
        pipe.eval(*_close_call(shard, mark=MOVED))
    await pipe.execute()


async def lift(store: AsyncRedis, shards: int) -> bool:
    """Opens a closed store again. Returns False if it was not closed."""
    (moved,) = await store.hmget(keys.STORE, ["moved"])
    if moved is None:
        return False
    pipe = store.pipeline(transaction=False)
    for shard in range(shards):
        pipe.eval(*_open_call(shard))
    await pipe.execute()
    pipe = store.pipeline(transaction=True)
    pipe.hset(keys.STORE, "mark", moved)
    pipe.hdel(keys.STORE, "moved")
    await pipe.execute()
    return True
