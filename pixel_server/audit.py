"""The audit log: who did what to data on people, and when. No line names or describes a person.

A line is written before what it tells of is done: a crash may leave one too many, never one too few. (Only
what retention took is told afterwards: until then it is not known whether there was any.)
The last MOST of them stand in Redis; each is in the log of its process too.
"""

from __future__ import annotations

import logging

from pixel_server import keys
from pixel_server.store import AsyncRedis

log = logging.getLogger("pixel_server.audit")

MOST = 10_000

COMMAND, PAGE, RETENTION = "command line", "privacy page", "retention"
"""Who it was, where no API key was used; else it is `key ID`."""


async def note(store: AsyncRedis, who: str, what: str, **about: str | int) -> None:
    """what: `thing.done`. about: a campaign's or a key's id, and how many."""
    shown = " ".join(f"{name}={value}" for name, value in about.items())
    if who != COMMAND:  # who types a command sees what it does
        log.info("%s: %s %s", who, what, shown)
    fields = {"who": who, "what": what, **{name: str(value) for name, value in about.items()}}
    await store.xadd(keys.AUDIT, fields, maxlen=MOST, approximate=False)


async def page(store: AsyncRedis, before: str | None, limit: int) -> tuple[list[dict[str, str]], str | None]:
    """(lines, newest first, each with its `id` of `ms-number`; the cursor of the next page or None)."""
    end = "+" if before is None else f"({before}"
    found = await store.xrevrange(keys.AUDIT, end, "-", limit + 1)
    lines = [
        {
            "id": entry.decode(),
            **{
                name.decode(errors="replace"): value.decode(errors="replace")
                for name, value in fields.items()
            },
        }
        for entry, fields in found[:limit]
    ]
    return lines, lines[-1]["id"] if len(found) > limit else None
