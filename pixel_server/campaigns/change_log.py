"""The log of changed campaigns, from which caches learn what other processes have changed.

The log is a stream. Each creation, announced change and deletion of a campaign adds an entry with the
campaign's id. The id of the stream's last entry is the version of all campaigns. It rises with each change.
"""

from __future__ import annotations

from typing import Any

from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis, Pipeline

MAX_CHANGES = 1000
"""Number of entries read at once. A cache that missed more changes reads all campaigns again."""


async def read_version(store: AsyncRedis) -> bytes:
    """Returns the present version, such as `b"1764497045123-0"`, or b"" if the log is empty."""
    last = await store.xrevrange(keys.CHANGES, "+", "-", 1)
    return bytes(last[0][0]) if last else b""


async def read(store: AsyncRedis, since: bytes) -> tuple[set[str], bytes] | None:
    """Returns the ids of campaigns created, changed or deleted since a version, and the present version.

    Returns None if there are too many changes, or if the log no longer reaches back to that version.
    """
    pipe = store.pipeline(transaction=False)
    queue_read(pipe, since)
    (entries,) = await pipe.execute()
    return unpack(entries, since)


def queue_read(pipe: Pipeline, since: bytes) -> None:
    """Queues the reading of changes since a version, for `unpack`."""
    pipe.xrange(keys.CHANGES, since or "-", "+", MAX_CHANGES)


def unpack(entries: Any, since: bytes) -> tuple[set[str], bytes] | None:
    """Returns what `read` returns, from the reply to `queue_read`."""
    if len(entries) == MAX_CHANGES or (since and (not entries or entries[0][0] != since)):
        return None
    if any(b"id" not in fields for _, fields in entries):
        return None
    changed = {fields[b"id"].decode(errors="replace") for entry, fields in entries if entry != since}
    return changed, bytes(entries[-1][0]) if entries else since
