"""Waits until a replica has a change that people rely on: a withdrawal, an erasure, a deletion, an API key.

Such a change must not be lost when a replica is promoted. Hits need no wait: see `collect.tail`.
"""

from __future__ import annotations

import redis

from pixel_server.store import keys
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


async def confirm(store: AsyncRedis) -> None:
    """Waits until a replica has everything that was stored before. Returns at once if there is no replica.

    Raises NotReplicatedError after CONFIRM_SECONDS.
    """
    role = await _read_role(store)
    if role is None or not role.replica_offsets:
        return
    pipe = store.pipeline(transaction=False)
    # WAIT waits for the last write of its own connection, so a write comes first.
    pipe.eval(*even_if_full_call("SET", keys.REPLICATED, "", "PX", 1000))
    pipe.wait(1, int(CONFIRM_SECONDS * 1000))
    *_, replicas = await pipe.execute()
    if not replicas:
        raise NotReplicatedError(NOT_REPLICATED_TEXT)


async def _read_role(store: AsyncRedis) -> Role | None:
    """Returns the role of Redis, None if this user of Redis is forbidden ROLE."""
    try:
        return parse_role(await store.execute_command("ROLE"))
    except redis.ResponseError:
        return None
