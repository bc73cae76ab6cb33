"""Numbers of the store for `/metrics`: Redis, the backlog of each shard, workers, withdrawals."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import redis

from pixel_server.api.store_health import WORKER_SEEN_SECONDS
from pixel_server.metrics.numbers import Values
from pixel_server.store import keys
from pixel_server.store.nodes import node_name, nodes
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import ScriptCall, script_call
from pixel_server.store.store_version import VERSION_FIELD
from pixel_server.webhooks import report

TIMEOUT_SECONDS = 0.5
"""Seconds that a scrape waits for Redis, or for a node of a cluster."""
_AWAY = (redis.ConnectionError, redis.TimeoutError, OSError)

_READ_SHARD = """
-- KEYS: stream, dead letters, stop, drops, outbox. Returns {entries, id of the oldest entry or '', dead
-- letters, whether the shard stands still, reasons and numbers of dropped hits, entries of the outbox}.
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
return {redis.call('XLEN', KEYS[1]), first and first[1] or '', redis.call('XLEN', KEYS[2]),
        redis.call('EXISTS', KEYS[3]), redis.call('HGETALL', KEYS[4]), redis.call('XLEN', KEYS[5])}
"""


async def read(store: AsyncRedis, shards: int, now: float) -> dict[str, Values]:
    """Returns the numbers of the store. now: Redis's time, s.

    Leaves out what Redis does not answer: all of it while Redis is away, a shard whose node is away.
    """
    numbers, shard_numbers, webhook_numbers = await asyncio.gather(
        _read_nodes(store), _read_shards(store, shards, now), _read_webhooks(store, now)
    )
    return numbers | shard_numbers | webhook_numbers


async def _read_nodes(store: AsyncRedis) -> dict[str, Values]:
    """Returns whether each node answers, and its memory."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            members = await nodes(store)
    except (*_AWAY, TimeoutError):
        return {"pixel_redis_up": {"cluster": 0}}
    numbers: dict[str, Values] = {
        "pixel_redis_up": {},
        "pixel_redis_memory_bytes": {},
        "pixel_redis_memory_limit_bytes": {},
    }
    answers = await asyncio.gather(*map(_ask_node, members))
    for name, info in zip(map(node_name, members), answers, strict=True):
        numbers["pixel_redis_up"][name] = 0 if info is None else 1
        if info:
            numbers["pixel_redis_memory_bytes"][name] = info["used_memory"]
            numbers["pixel_redis_memory_limit_bytes"][name] = info.get("maxmemory", 0)
    return numbers


async def _ask_node(node: AsyncRedis) -> dict[str, Any] | None:
    """Returns a node's memory, {} if its user cannot use INFO, None if the node does not answer."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            info: dict[str, Any] = await node.info("memory")
            return info
    except redis.exceptions.NoPermissionError:
        return {}
    except (redis.RedisError, OSError, TimeoutError):
        return None


async def _read_shards(store: AsyncRedis, shards: int, now: float) -> dict[str, Values]:
    pipe = store.pipeline(transaction=False)
    pipe.zcount(keys.WORKERS, now - WORKER_SEEN_SECONDS, now + keys.MAX_BEAT_SKEW_SECONDS)
    pipe.zcard(keys.CAMPAIGNS)
    pipe.hlen(keys.WITHDRAWN)
    pipe.hmget(keys.STORE, ["format", VERSION_FIELD])
    for shard in range(shards):
        pipe.eval(*_shard_call(shard))
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            workers, campaigns, withdrawals, record, *replies = await pipe.execute(raise_on_error=False)
    except (redis.RedisError, OSError, TimeoutError):
        return {}
    names = (
        *("pixel_backlog_entries", "pixel_backlog_oldest_seconds", "pixel_shard_stopped"),
        "pixel_webhook_outbox_entries",
    )
    numbers: dict[str, Values] = {name: {} for name in names}
    dead_letters, dropped = 0, Counter[str]()
    for shard, reply in enumerate(replies):
        if isinstance(reply, Exception):
            continue
        entries, oldest, dead, is_stopped, drops, outbox = reply
        age = max(0.0, now - int(oldest.partition(b"-")[0]) / 1000) if oldest else 0.0
        for name, value in zip(names, (entries, round(age, 3), is_stopped, outbox), strict=True):
            numbers[name][str(shard)] = value
        dead_letters += dead
        dropped.update(
            {reason.decode(): int(count) for reason, count in zip(drops[::2], drops[1::2], strict=True)}
        )
    single = {
        "pixel_dead_letters": dead_letters,
        "pixel_workers": workers,
        "pixel_campaigns": campaigns,
        "pixel_withdrawals": withdrawals,
    }
    numbers |= {name: {"": value} for name, value in single.items() if not isinstance(value, Exception)}
    if not isinstance(record, Exception) and None not in record:
        numbers["pixel_store_info"] = {"|".join(value.decode() for value in record): 1}
    return numbers | {"pixel_hits_dropped_total": dict(dropped)}


async def _read_webhooks(store: AsyncRedis, now: float) -> dict[str, Values]:
    """Returns the numbers of the endpoints of webhooks, by their ids."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            reports = await report.read(store, now)
    except (redis.RedisError, OSError, TimeoutError):
        return {}
    numbers: dict[str, Values] = {}
    for one in reports:
        values = {
            "pixel_webhook_waiting": one.length.units,
            "pixel_webhook_aside": one.length.aside,
            "pixel_webhook_late_seconds": round(one.late_seconds, 3),
            "pixel_webhook_failing_seconds": round(one.failing_seconds, 3),
            "pixel_webhook_events_sent_total": one.state.sent,
            "pixel_webhook_tries_failed_total": one.state.failed,
            "pixel_webhook_events_dropped_total": one.state.dropped,
        }
        for name, value in values.items():
            numbers.setdefault(name, {})[one.endpoint.id] = value
    return numbers


def _shard_call(shard: int) -> ScriptCall:
    """Returns the call that reads a shard in one command, because there may be 256 of them."""
    kinds = keys.hits, keys.dead, keys.stop, keys.drops, keys.outbox
    return script_call(_READ_SHARD, keys=[kind(shard) for kind in kinds])
