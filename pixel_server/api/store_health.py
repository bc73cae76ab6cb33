"""Health of the store: figures on Redis and on the hits in it, and warnings for the operator."""

from __future__ import annotations

from collections import Counter
from typing import Any

import redis

from pixel_server.campaigns import retention
from pixel_server.store import clock, hosts, keys, producer
from pixel_server.store.compatibility import durability
from pixel_server.store.memory_reserve import ADVICE, MemoryUse
from pixel_server.store.protocols import AsyncRedis

WORKER_SEEN_SECONDS = 10
"""Seconds for which a worker counts as running after its last heartbeat."""
MAX_WAIT_SECONDS = 60
"""Largest number of seconds that a hit may wait to be counted before a warning is shown."""
ASYNCHRONOUS = (
    "asynchronous: a replica that is promoted may lack the last hits; web processes keep them for a while, "
    "and send them to it again"
)
"""Text about the hits that a replica lacks if it is promoted."""

CUT_OFF = (
    "Redis accepts writes while it is cut off from its replicas; they are lost when a replica takes over: "
    "set min-replicas-to-write 1"
)
"""Warning if a primary does not stop when its replicas are gone."""
UNKNOWN_EVICTION = (
    "this user of Redis can use neither CONFIG nor INFO: make sure that maxmemory-policy is noeviction, and "
    "that the append-only file is on"
)
"""Warning if Redis does not tell how it keeps its data."""


async def read(store: AsyncRedis, shards: int, now: float, reserve_bytes: int = 0) -> dict[str, Any]:
    """Returns the store's part of `/readyz`. now: Redis's time in seconds.

    reserve_bytes: bytes of free memory below which Redis counts as full, see PIXEL_MEMORY_RESERVE.
    """
    pipe = store.pipeline(transaction=False)
    pipe.hgetall(keys.CLOCKS)
    pipe.hgetall(keys.HOSTS)
    pipe.hget(keys.SWEEP, "waits")
    pipe.zcount(keys.WORKERS, now - WORKER_SEEN_SECONDS, now + keys.MAX_BEAT_SKEW_SECONDS)
    for shard in range(shards):
        pipe.xlen(keys.hits(shard))
        producer.queue_oldest_entry(pipe, shard)
        pipe.xlen(keys.dead(shard))
        pipe.hgetall(keys.drops(shard))
        pipe.get(keys.stop(shard))
    clocks, beats, waiting_kinds, workers, *answers = await pipe.execute()
    lengths, oldest_entries, dead, drops, stops = (answers[i::5] for i in range(5))
    dropped: Counter[str] = Counter()
    for counts in drops:
        dropped.update({reason.decode(): int(count) for reason, count in counts.items() if count.isdigit()})
    ages = [now - int(entry.partition(b"-")[0]) / 1000 for entry in oldest_entries if entry]
    persistence = await durability(store)
    memory = await _memory_use(store)
    return {
        "redis": {
            **await replicas(store),
            "answers": True,
            "durability": persistence.text,
            "aof": persistence.aof,
            "fsync": persistence.fsync,
            "eviction": persistence.eviction,
            "used_memory": None if memory is None else memory.used,
            "maxmemory": None if memory is None else memory.maximum,
            **({"full": memory.describe()} if memory is not None and memory.is_short(reserve_bytes) else {}),
        },
        "workers": workers,
        "wrong_clocks": dict(clock.parse_wrong_clocks(clocks, now)),
        **_hosts_json(hosts.parse(beats), now),
        "retention_waits": retention.unpack_waiting(waiting_kinds),
        "oldest_uncounted_seconds": round(max(0.0, *ages), 3) if ages else None,
        "stream_entries": sum(lengths),
        "dead_letters": sum(dead),
        "drops": dict(dropped),
        "stopped": {str(shard): why.decode() for shard, why in enumerate(stops) if why},
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


async def _memory_use(store: AsyncRedis) -> MemoryUse | None:
    """Returns how much memory Redis uses, or None if this user of Redis cannot use INFO."""
    try:
        return MemoryUse.parse(await store.info("memory"))
    except redis.ResponseError:
        return None


async def replicas(store: AsyncRedis) -> dict[str, Any]:
    """Returns {role, replication, replicas, stops_without_replicas}.

    replication: what is lost if a replica is promoted. stops_without_replicas: whether Redis refuses writes
    while too few replicas follow it.
    """
    try:
        info = await store.info("replication")
    except redis.ResponseError:
        return {"replication": "unknown: this user of Redis cannot use INFO"}
    fields = sorted(
        field
        for field in info
        if field.startswith("slave") and field[5:].isdigit() and isinstance(info[field], dict)
    )
    listed = [
        {
            "address": f"{info[field].get('ip', '?')}:{info[field].get('port', '?')}",
            "state": str(info[field].get("state", "unknown")),
            "lag_seconds": info[field].get("lag"),
        }
        for field in fields
    ]
    text = ASYNCHRONOUS if listed else "none: no replica is connected"
    return {
        "role": str(info.get("role", "unknown")),
        "replication": text,
        "replicas": listed,
        "stops_without_replicas": "min_slaves_good_slaves" in info,  # only then Redis has this field
    }


def warnings(health: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the warnings for the operator, as (part, text). health: from `read`.

    A part is `redis`, `workers`, `hosts`, `clocks` or `retention`.
    """
    texts = [("hosts", text) for text in health["host_warnings"]]
    if health["workers"] == 0:
        text = f"no worker has been seen for {WORKER_SEEN_SECONDS} s: hits are stored but not counted"
        texts.append(("workers", text))
    age = health["oldest_uncounted_seconds"]
    if age is not None and age > MAX_WAIT_SECONDS:
        texts.append(("workers", f"a hit has waited {age:.0f} s to be counted"))
    texts += [("workers", f"shard {shard} stands still: {why}") for shard, why in health["stopped"].items()]
    texts += [("clocks", clock.describe(*wrong)) for wrong in health["wrong_clocks"].items()]
    if health["retention_waits"]:
        texts.append(("retention", retention.waiting_message(health["retention_waits"])))
    if health["dead_letters"]:
        text = f"{health['dead_letters']} dead letters: see `pixel-server dead-letters list`"
        texts.append(("workers", text))
    eviction = health["redis"]["eviction"]
    if eviction == "unknown":
        texts.append(("redis", UNKNOWN_EVICTION))
    elif eviction != "noeviction":
        text = f"Redis throws counts away when it is full: set maxmemory-policy to noeviction, not {eviction}"
        texts.append(("redis", text))
    if health["redis"].get("replicas") and not health["redis"]["stops_without_replicas"]:
        texts.append(("redis", CUT_OFF))
    if full := health["redis"].get("full"):
        texts.append(("redis", f"{full}; {ADVICE}"))
    if health["redis"]["aof"] == "no":
        texts.append(
            ("redis", "Redis keeps no append-only file: a crash of Redis can lose data; set appendonly yes")
        )
    return texts
