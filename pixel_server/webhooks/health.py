"""Events on the health of the server: a trouble begins, and is over.

The troubles are those that `/readyz` warns of, read from the same keys: a shard stands still, hits wait too
long to be counted, hits lie in a spool.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from pixel_server.store import hosts, keys, producer
from pixel_server.store.protocols import AsyncRedis, Value
from pixel_server.store.script import EVEN_IF_FULL, script_call
from pixel_server.webhooks import event
from pixel_server.webhooks.event import Event

FIELD = "troubles"
"""Field of `keys.HOOK_MARKS` with the troubles of the last events, as JSON: {"shard 3": "..."}."""
_MAX_TEXT_CHARACTERS = 300

Troubles = dict[str, str]
"""Sentence for the operator, by trouble: `"shard 3"`, `"backlog"` or `"spool"`."""


_decode_troubles = msgspec.json.Decoder(Troubles).decode


class Change(NamedTuple):
    """A trouble that began or is over. text: sentence for the operator."""

    trouble: str
    has_begun: bool
    text: str


async def read(store: AsyncRedis, shards: int, now: float) -> Troubles:
    """Returns the troubles that there are. now: Redis's time, s.

    Raises redis.RedisError if a node does not answer.
    """
    pipe = store.pipeline(transaction=False)
    pipe.hgetall(keys.HOSTS)
    for shard in range(shards):
        pipe.get(keys.stop(shard))
        producer.queue_oldest_entry(pipe, shard)
    beats, *replies = await pipe.execute()
    stops, oldest_entries = replies[::2], replies[1::2]
    troubles = {
        f"shard {shard}": f"shard {shard} stands still: {why.decode(errors='replace')}"
        for shard, why in enumerate(stops)
        if why
    }
    ages = [now - int(entry.partition(b"-")[0]) / 1000 for entry in oldest_entries if entry]
    if max(ages, default=0.0) > producer.MAX_WAIT_SECONDS:
        troubles["backlog"] = f"a hit has waited more than {producer.MAX_WAIT_SECONDS} s to be counted"
    if spools := sorted(host.name for host in hosts.parse(beats) if host.spool_hits):
        troubles["spool"] = f"hits wait on the disk of {', '.join(spools[:5])}"
    return {trouble: text[:_MAX_TEXT_CHARACTERS] for trouble, text in troubles.items()}


def changes(before: Troubles, now: Troubles) -> list[Change]:
    """Returns the troubles that began, then those that are over."""
    begun = [Change(trouble, True, text) for trouble, text in now.items() if trouble not in before]
    over = [Change(trouble, False, text) for trouble, text in before.items() if trouble not in now]
    return begun + over


def make_event(change: Change, now_ms: int) -> Event:
    """Returns the event on a change."""
    details: dict[str, Any] = {"problem": change.trouble, "state": "over"}
    kind, _, shard = change.trouble.partition(" ")
    if shard:
        details |= {"problem": "shard_stopped" if kind == "shard" else kind, "shard": int(shard)}
    if change.has_begun:
        details |= {"state": "begun", "text": change.text}
    return event.make(event.new_id(), event.HEALTH, now_ms, **details)


_NOTE = (
    EVEN_IF_FULL
    + """
-- KEYS: marks, notices. ARGV: field, value as read, new value, events. Stores the new value with its events.
-- Returns 0, and does nothing, if the value has changed since.
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
for i = 4, #ARGV do redis.call('XADD', KEYS[2], '*', 'mark', string.rep('\\0', 8), 'event', ARGV[i]) end
return 1
"""
)


async def note(store: AsyncRedis, shards: int, now: float) -> list[Change]:
    """Reads the troubles, and puts an event into the notices for each change since the last call.

    Returns the changes: each process that calls it may be the first to see one, and only that one gets it.
    now: Redis's time, s.
    """
    stored = (await store.hget(keys.HOOK_MARKS, FIELD)) or b""
    before = _decode(stored)
    troubles = await read(store, shards, now)
    found = changes(before, troubles)
    if not found:
        return []
    events = [event.encode(make_event(change, int(now * 1000))) for change in found]
    arguments: list[Value] = [FIELD, stored, msgspec.json.encode(troubles), *events]
    call = script_call(_NOTE, keys=(keys.HOOK_MARKS, keys.NOTICES), arguments=arguments)
    return found if await store.eval(*call) else []


def _decode(value: bytes) -> Troubles:
    try:
        return _decode_troubles(value) if value else {}
    except msgspec.MsgspecError:
        return {}
