"""The audit log: who did what to data on people, and when. No line names or describes a person.

A line is written before what it tells of is done: a crash may leave one too many, never one too few. (Only
what retention took is told afterwards: until then it is not known whether there was any.)
The last MOST of them stand in Redis; each is in the log of its process too.

What recipients do themselves stands in a log of its own, which is bounded in the same way: anyone with the
link of a mail can write to it, and could otherwise push out every other line. `recipient_counts` counts all.
"""

from __future__ import annotations

import logging
from typing import Literal, get_args

from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import even_if_full

Log = Literal["audit", "recipients"]
LOGS: dict[Log, str] = {"audit": keys.AUDIT, "recipients": keys.ACTIONS}
"""The keys of the logs, by name."""

log = logging.getLogger("pixel_server.store.audit_log")

MOST = 10_000

Action = Literal["recipient.stopped", "recipient.allowed", "recipient.erased"]
"""What a recipient can do."""

COMMAND, PAGE, RETENTION = "command line", "privacy page", "retention"
"""Who it was, where no API key was used; else it is `key ID`."""


async def note(store: AsyncRedis, who: str, what: str, **about: str | int) -> None:
    """what: `thing.done`. about: a campaign's or a key's id, and how many."""
    shown = " ".join(f"{name}={value}" for name, value in about.items())
    if who != COMMAND:  # who types a command sees what it does
        log.info("%s: %s %s", who, what, shown)
    fields = {"who": who, "what": what, **{name: str(value) for name, value in about.items()}}
    words = [word for field in fields.items() for word in field]
    await even_if_full(store, "XADD", keys.AUDIT, "MAXLEN", MOST, "*", *words)


async def note_recipient(store: AsyncRedis, what: Action) -> None:
    """Notes what a recipient did on the privacy page. Nothing is noted of who it was."""
    await even_if_full(store, "XADD", keys.ACTIONS, "MAXLEN", MOST, "*", "who", PAGE, "what", what)
    await even_if_full(store, "HINCRBY", keys.ACTED, what, 1)


async def recipient_counts(store: AsyncRedis) -> dict[str, int]:
    """Returns how often recipients did what, since the store is there."""
    found = await store.hmget(keys.ACTED, list(get_args(Action)))
    return {what: int(count or 0) for what, count in zip(get_args(Action), found, strict=True)}


async def page(
    store: AsyncRedis, before: str | None, limit: int, name: Log = "audit"
) -> tuple[list[dict[str, str]], str | None]:
    """(lines of this log, newest first, each with its `id` of `ms-number`; the cursor of the next page)."""
    end = "+" if before is None else f"({before}"
    found = await store.xrevrange(LOGS[name], end, "-", limit + 1)
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
