"""Health of the store: figures on Redis and on the hits in it, and warnings for the operator."""

from __future__ import annotations

from collections import Counter
from typing import Any

import redis

from pixel_server.api import redis_health
from pixel_server.campaigns import retention
from pixel_server.store import aof_rewrite, clock, hosts, keys, producer
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_version import VERSION_FIELD
from pixel_server.webhooks import report as webhook_report

WORKER_SEEN_SECONDS = 10
"""Seconds for which a worker counts as running after its last heartbeat."""


async def read(store: AsyncRedis, shards: int, now: float, reserve_bytes: int = 0) -> dict[str, Any]:
    """Returns the store's part of `/readyz`. now: Redis's time in seconds.

    reserve_bytes: bytes of free memory below which Redis counts as full, see PIXEL_MEMORY_RESERVE.
    The figures leave out the shards of a cluster's nodes that do not answer. Raises redis.RedisError or
    OSError if Redis does not answer, or the node of `{all}`.
    """
    pipe = store.pipeline(transaction=False)
    pipe.hgetall(keys.CLOCKS)
    pipe.hgetall(keys.HOSTS)
    pipe.hget(keys.SWEEP, "waits")
    pipe.hget(keys.REWRITE, aof_rewrite.WAITING)
    pipe.zcount(keys.WORKERS, now - WORKER_SEEN_SECONDS, now + keys.MAX_BEAT_SKEW_SECONDS)
    pipe.hget(keys.STORE, VERSION_FIELD)
    for shard in range(shards):
        pipe.xlen(keys.hits(shard))
        producer.queue_oldest_entry(pipe, shard)
        pipe.xlen(keys.dead(shard))
        pipe.hgetall(keys.drops(shard))
        pipe.get(keys.stop(shard))
    replies = await pipe.execute(raise_on_error=False)
    for position, reply in enumerate(replies):
        if isinstance(reply, Exception) and (position < 6 or isinstance(reply, redis.ResponseError)):
            raise reply
    away = sorted({str(reply) for reply in replies if isinstance(reply, Exception)})
    clocks, beats, waiting_kinds, waiting_files, workers, version = replies[:6]
    answers = {shard: replies[6 + 5 * shard :][:5] for shard in range(shards)}
    shards_here = [shard for shard in answers if not isinstance(answers[shard][0], Exception)]
    lengths, oldest_entries, dead, drops, stops = zip(*(answers[shard] for shard in shards_here), strict=True)
    dropped: Counter[str] = Counter()
    for counts in drops:
        dropped.update({reason.decode(): int(count) for reason, count in counts.items() if count.isdigit()})
    ages = [now - int(entry.partition(b"-")[0]) / 1000 for entry in oldest_entries if entry]
    wrong_clocks = clock.parse_wrong_clocks(clocks, now) + await clock.read_wrong_nodes(store)
    return {
        "redis": await redis_health.read(store, reserve_bytes, away),
        "newest_version": version.decode(errors="replace") if version else None,
        "workers": workers,
        "wrong_clocks": dict(wrong_clocks),
        **_hosts_json(hosts.parse(beats), now),
        "retention_waits": retention.unpack_waiting(waiting_kinds),
        "rewrite_waits": waiting_files.decode() if waiting_files else None,
        "oldest_uncounted_seconds": round(max(0.0, *ages), 3) if ages else None,
        "stream_entries": sum(lengths),
        "dead_letters": sum(dead),
        "drops": dict(dropped),
        "webhook_warnings": webhook_report.warnings(await webhook_report.read(store, now)),
        "stopped": {str(shard): why.decode() for shard, why in zip(shards_here, stops, strict=True) if why},
    }


def _hosts_json(found: list[hosts.Host], now: float) -> dict[str, Any]:
    """Returns {hosts, host_warnings}. hosts: those with a spool. now: Redis's time, s."""
    return {
        "hosts": [
            {
                "id": host.id,
                "name": host.name,
                "is_away": host.is_away(now),
                "seen_seconds_ago": round(max(0.0, now - host.at), 1),
                "spool_hits": host.spool_hits,
            }
            for host in found
            if host.has_spool
        ],
        "host_warnings": hosts.describe_spools(found, now) + hosts.describe_settings(found, now),
    }


def warnings(health: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the warnings for the operator, as (part, text). health: from `read`.

    A part is `redis`, `workers`, `hosts`, `clocks`, `webhooks` or `retention`.
    """
    texts = [("hosts", text) for text in health["host_warnings"]]
    if health["workers"] == 0:
        text = f"no worker has been seen for {WORKER_SEEN_SECONDS} s: hits are stored but not counted"
        texts.append(("workers", text))
    age = health["oldest_uncounted_seconds"]
    if age is not None and age > producer.MAX_WAIT_SECONDS:
        texts.append(("workers", f"a hit has waited {age:.0f} s to be counted"))
    texts += [("workers", f"shard {shard} stands still: {why}") for shard, why in health["stopped"].items()]
    texts += [("clocks", clock.describe(*wrong)) for wrong in health["wrong_clocks"].items()]
    if health["retention_waits"]:
        texts.append(("retention", retention.waiting_message(health["retention_waits"])))
    if health["rewrite_waits"]:
        text = f"removed data may still be in an append-only file of Redis: {health['rewrite_waits']}"
        texts.append(("retention", text))
    texts += [("webhooks", text) for text in health["webhook_warnings"]]
    if health["dead_letters"]:
        text = f"{health['dead_letters']} dead letters: see `pixel-server dead-letters list`"
        texts.append(("workers", text))
    return texts + [("redis", text) for text in redis_health.warnings(health["redis"])]
