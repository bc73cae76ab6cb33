"""Health of Redis itself, or of the nodes of a cluster: memory, replicas and durability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from pixel_server.store.compatibility import durability
from pixel_server.store.memory_reserve import ADVICE, MemoryUse, read_fullest
from pixel_server.store.nodes import ask_each, node_name
from pixel_server.store.protocols import AsyncRedis

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


async def read(store: AsyncRedis, reserve_bytes: int, away: Sequence[str]) -> dict[str, Any]:
    """Returns the part `redis` of `/readyz`. In a cluster, the worst node counts.

    away: one line for each node of a cluster that does not answer.
    """
    persistence = await durability(store)
    memory = await _memory_use(store)
    return {
        **await replicas(store),
        "answers": True,
        "durability": persistence.text,
        "aof": persistence.aof,
        "fsync": persistence.fsync,
        "eviction": persistence.eviction,
        "used_memory": None if memory is None else memory.used,
        "maxmemory": None if memory is None else memory.maximum,
        **({"full": memory.describe()} if memory is not None and memory.is_short(reserve_bytes) else {}),
        **({"away": list(away)} if away else {}),
    }


async def _memory_use(store: AsyncRedis) -> MemoryUse | None:
    """Returns how much memory Redis uses, or None if this user of Redis cannot use INFO."""
    try:
        return await read_fullest(store)
    except redis.ResponseError:
        return None


async def replicas(store: AsyncRedis) -> dict[str, Any]:
    """Returns {role, replication, replicas, stops_without_replicas}.

    replication: what is lost if a replica is promoted. stops_without_replicas: whether Redis, or each node of
    a cluster, refuses writes while too few replicas follow it.
    """
    try:
        infos = await ask_each(store, lambda node: node.info("replication"))
    except redis.ResponseError:
        return {"replication": "unknown: this user of Redis cannot use INFO"}
    listed = [_listed(info) for _, info in infos]
    alone = [node_name(node) for (node, _), own in zip(infos, listed, strict=True) if not own]
    if len(infos) == 1:
        text = "none: no replica is connected" if alone else ASYNCHRONOUS
    else:
        text = f"no replica of {', '.join(alone)} is connected" if alone else ASYNCHRONOUS
    return {
        "role": str(infos[0][1].get("role", "unknown")),
        "replication": text,
        "replicas": [replica for own in listed for replica in own],
        # only then Redis has this field
        "stops_without_replicas": all("min_slaves_good_slaves" in info for _, info in infos),
    }


def _listed(info: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the replicas in a reply to `INFO replication`."""
    fields = sorted(
        field
        for field in info
        if field.startswith("slave") and field[5:].isdigit() and isinstance(info[field], dict)
    )
    return [
        {
            "address": f"{info[field].get('ip', '?')}:{info[field].get('port', '?')}",
            "state": str(info[field].get("state", "unknown")),
            "lag_seconds": info[field].get("lag"),
        }
        for field in fields
    ]


def warnings(health: dict[str, Any]) -> list[str]:
    """Returns the warnings for the operator. health: from `read`."""
    texts = [f"{line}; its hits wait in the spool, and figures lack them" for line in health.get("away", ())]
    eviction = health["eviction"]
    if eviction == "unknown":
        texts.append(UNKNOWN_EVICTION)
    elif eviction != "noeviction":
        texts.append(
            f"Redis throws counts away when it is full: set maxmemory-policy to noeviction, not {eviction}"
        )
    if health.get("replicas") and not health["stops_without_replicas"]:
        texts.append(CUT_OFF)
    if full := health.get("full"):
        texts.append(f"{full}; {ADVICE}")
    if health["aof"] == "no":
        texts.append("Redis keeps no append-only file: a crash of Redis can lose data; set appendonly yes")
    return texts
