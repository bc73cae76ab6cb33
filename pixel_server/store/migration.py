"""Brings a store of an earlier format to the format of this version, when a web process or worker starts.

First the format in the store's record is raised. Processes of earlier versions then stop using the store:
their hits go to the spool, and their workers count nothing. Then the steps follow, one for each format. The
field `migrated` holds the format that is reached, and is removed at the end. So a migration that was killed
goes on at the next start, with the step in which it was killed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from pixel_server.logs import Log
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_version import FORMAT

log = Log(__name__)

Step = Callable[[AsyncRedis, int], Awaitable[None]]
"""Function that takes a store and its number of shards, and brings its keys to the next format.

Several processes may run a step at once, and a step may be killed at any point and run again. So it changes
a shard only through `checkpoint.plan_and_commit`, and changes only values of the earlier format. A worker of
an earlier version may be in the middle of a job. So a step gives the values a new format of their own, which
such a worker refuses.
"""
STEPS: tuple[Step, ...] = ()
"""The steps of all formats: the first leads from format 1 to format 2. The last leads to FORMAT."""
MIGRATED_FIELD = "migrated"


def is_needed(record: Mapping[str, str]) -> bool:
    """Returns whether a store must be migrated. record: the fields of `keys.STORE`."""
    return _reached(record) < FORMAT


async def migrate(store: AsyncRedis, shards: int, record: Mapping[str, str]) -> None:
    """Migrates a store to FORMAT. Goes on where an earlier call stopped. Raises redis.RedisError.

    record: the fields of `keys.STORE`.
    """
    reached = _reached(record)
    await store.hset(keys.STORE, mapping={"format": str(FORMAT), MIGRATED_FIELD: str(reached)})
    log.warning(
        "migration-began",
        "the store is brought from format %(from_format)d to format %(to_format)d",
        from_format=reached,
        to_format=FORMAT,
    )
    for made, step in enumerate(STEPS[reached - 1 :], reached + 1):
        await step(store, shards)
        if made < FORMAT:
            await store.hset(keys.STORE, MIGRATED_FIELD, str(made))
    await store.hdel(keys.STORE, MIGRATED_FIELD)
    log.warning("migration-done", "the store has format %(to_format)d", to_format=FORMAT)


def _reached(record: Mapping[str, str]) -> int:
    """Returns the format that the keys of a store have."""
    return int(record.get(MIGRATED_FIELD, record["format"]))
