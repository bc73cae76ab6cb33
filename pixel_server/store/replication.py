"""Waits until a replica has a change that people rely on: a withdrawal, an erasure, a deletion, an API key.

Such a change must not be lost when a replica is promoted. Hits need no wait: see `collect.tail`.
"""

from __future__ import annotations

import asyncio

import redis

from pixel_server.store import keys
from pixel_server.store.nodes import nodes, nodes_of
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.role import Role, parse_role
from pixel_server.store.script import even_if_full_call

CONFIRM_SECONDS = 1.0
"""Seconds that a replica may take to confirm a change."""
NOT_REPLICATED_TEXT = (
    "the change is stored, but no replica of Redis has confirmed it, so it is lost if the primary fails now: "
    "try again"
)


class NotReplicatedError(redis.ConnectionError):
    """A change is stored on the primary, but no replica has confirmed it in time."""


async def confirm(store: AsyncRedis, shards: int = 0) -> None:
    """Waits until a replica has everything that was stored before in {all} and in the first `shards` shards.

    Returns at once if there is no replica. Raises NotReplicatedError after CONFIRM_SECONDS.
    """
    written = [keys.REPLICATED, *map(keys.replicated, range(shards))]
    keys_by_node = await nodes_of(store, written)
    await asyncio.gather(*(_confirm_at(node, key) for node, key in keys_by_node.items()))


async def has_replicas(store: AsyncRedis) -> bool:
    """Returns whether each primary of the store has a connected replica."""
    roles = await asyncio.gather(*map(_read_role, await nodes(store)))
    return all(role is not None and role.replica_offsets for role in roles)


async def _confirm_at(node: AsyncRedis, key: str) -> None:
    """Waits until a replica of one node has everything. key: a key of this node, which is written."""
    role = await _read_role(node)
    if role is None or not role.replica_offsets:
        return
    pipe = node.pipeline(transaction=False)
    # WAIT waits for the last write of its own connection, so a write comes first.
    pipe.eval(*even_if_full_call("SET", key, "", "PX", 1000))
    pipe.wait(1, int(CONFIRM_SECONDS * 1000))
    *_, replicas = await pipe.execute()
    if not replicas:
        raise NotReplicatedError(NOT_REPLICATED_TEXT)


async def _read_role(node: AsyncRedis) -> Role | None:
    """Returns the role of a node, None if this user of Redis is forbidden ROLE."""
    try:
        return parse_role(await node.execute_command("ROLE"))
    except redis.ResponseError:
        return None
