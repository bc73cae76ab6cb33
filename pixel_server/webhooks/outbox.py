"""Outboxes: where an event lies from the script that makes it true until it is in the queues.

Each shard has an outbox, into which the commit of a roll-up writes. Events that belong to no shard are
notices, in the slot of {all}: the script that stores a withdrawal writes its notice there. An entry is one
of three kinds, by its fields:

    mark, event     the mark of the event's recipient (or zeros), and the stored event
    look            id of a campaign whose opens may have reached a milestone
    lost            number of events that found the outbox full
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.checkpoint import Command
from pixel_server.store.nodes import answers_of_nodes
from pixel_server.store.protocols import AsyncRedis
from pixel_server.webhooks import event
from pixel_server.webhooks.event import Event
from pixel_server.webhooks.queue import mark_of

MAX_ENTRIES = 100_000
"""Largest number of entries of all outboxes. A roll-up that finds its outbox full drops events and counts
them, and counts hits as ever."""
READ_ENTRIES = 1000
"""Number of entries that are read of an outbox at once."""
_PURGED_AT_ONCE = 1000


class Entry(NamedTuple):
    """An entry of an outbox. id: in the stream. event: None in an entry of another kind.

    look: id of a campaign, or "". lost: number of events. fault: why it cannot be read, "" if it can.
    """

    id: bytes
    event: Event | None = None
    look: str = ""
    lost: int = 0
    fault: str = ""


def max_entries(shards: int) -> int:
    """Returns the largest number of entries of one shard's outbox."""
    return MAX_ENTRIES // shards + 1


def commands(
    secrets: Secrets, shard: int, events: Sequence[Event], looks: Iterable[str], length: int, shards: int
) -> list[Command]:
    """Returns the commands that put events into a shard's outbox.

    looks: ids of campaigns whose opens may have reached a milestone. length: number of its entries now.
    """
    key, room = keys.outbox(shard), max(0, max_entries(shards) - length)
    put: list[Command] = []
    if length < 2 * max_entries(shards):
        put += [("XADD", key, "*", "look", campaign) for campaign in looks]
    put += [
        ("XADD", key, "*", "mark", mark_of(secrets, made), "event", event.encode(made))
        for made in events[:room]
    ]
    lost = len(events) - room
    if lost > 0 and length < 2 * max_entries(shards):
        put.append(("XADD", key, "*", "lost", str(lost)))
    return put


async def read(store: AsyncRedis, shards: int) -> dict[str, list[Entry]]:
    """Returns the oldest entries of each outbox that has any, and of the notices, by their key.

    Leaves out outboxes on nodes of a cluster that do not answer. Raises redis.RedisError if none answers.
    """
    names = [keys.NOTICES, *map(keys.outbox, range(shards))]
    pipe = store.pipeline(transaction=False)
    for name in names:
        pipe.xrange(name, "-", "+", READ_ENTRIES)
    replies = answers_of_nodes(await pipe.execute(raise_on_error=False))
    return {
        name: [_decode(entry, fields) for entry, fields in entries]
        for name, entries in zip(names, replies, strict=True)
        if entries
    }


def _decode(entry: bytes, fields: dict[bytes, bytes]) -> Entry:
    try:
        if b"look" in fields:
            return Entry(entry, look=fields[b"look"].decode())
        if b"lost" in fields:
            return Entry(entry, lost=int(fields[b"lost"]))
        return Entry(entry, event.decode(fields.get(b"event", b"")))
    except ValueError as error:
        return Entry(entry, fault=str(error) or type(error).__name__)


async def remove(store: AsyncRedis, name: str, entries: Iterable[Entry]) -> None:
    """Removes entries of the outbox with this key. By their ids, because new entries may come before them
    when a replica takes over."""
    await store.xdel(name, *(entry.id for entry in entries))


async def purge(store: AsyncRedis, shards: Iterable[int], marks: Collection[bytes]) -> int:
    """Removes the events of recipients from the outboxes of these shards. Returns their number.

    marks: of the recipients.
    """
    wanted, removed = set(marks), 0
    for shard in shards:
        first = "-"
        while entries := await store.xrange(keys.outbox(shard), first, "+", _PURGED_AT_ONCE):
            found = [entry for entry, fields in entries if fields.get(b"mark") in wanted]
            if found:
                removed += int(await store.xdel(keys.outbox(shard), *found))
            first = f"({entries[-1][0].decode()}"
    return removed
