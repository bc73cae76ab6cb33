"""Salts for the hashes of visitors without a cookie. Each local day has a random salt, destroyed within
two days after the day's end.

A visitor is stored as a hash of campaign, address and user agent with the salt of the day. When the salt is
gone, nobody can tell who the visitor was, or recognise the same visitor on another day. No salt can be
computed from a stored secret.

The Redis key of a salt contains the instant at which the salt's day ends. Days of several zones that end
together share a salt. KEPT_SECONDS after that instant, the salt is deleted from Redis, and a rewrite then
removes it from the append-only file. If nothing deletes the salt, Redis expires it after EXPIRY_SECONDS.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from hashlib import blake2b

from pixel_server.counters.series import BUCKET_SECONDS
from pixel_server.store import aof_rewrite, checkpoint, keys
from pixel_server.store.checkpoint import Generation
from pixel_server.store.protocols import AsyncRedis, Pipeline
from pixel_server.store.readers import Reader
from pixel_server.store.script import even_if_full

_HOUR = 3600
KEPT_SECONDS, EXPIRY_SECONDS = 47 * _HOUR, 48 * _HOUR
"""Seconds from the end of a salt's day until the salt is removed, and until it expires. The hour in between
is for the rewrite of the append-only file."""

Salts = Mapping[int, bytes]
"""Salts by the end of their day, in seconds since 1970."""


def read_or_make(
    pipe: Pipeline, shard: int, generation: Generation, ends: Iterable[int], now: float
) -> Reader[tuple[Salts, list[checkpoint.Command]]]:
    """Returns the salts of the days that end at these instants, and the commands that store new salts.

    Leaves out days that ended more than KEPT_SECONDS ago: their salts are not made again. ends, now: seconds
    since 1970. Raises GenerationChangedError if the shard has another generation.
    """
    usable = sorted(end for end in ends if now < end + KEPT_SECONDS)
    if not usable:
        return {}, []
    salts: dict[int, bytes] = {}
    commands: list[checkpoint.Command] = []
    names = [keys.salt(shard, end) for end in usable]
    pipe.eval(*checkpoint.read_call(shard, generation, [("MGET", *names)]))
    (reply,) = yield
    (stored_salts,) = checkpoint.read_replies(reply)
    for end, stored in zip(usable, stored_salts, strict=True):
        salts[end] = stored or secrets.token_bytes(32)
        if stored is None:
            expiry = str(int(end + EXPIRY_SECONDS - now))
            commands.append(("SET", keys.salt(shard, end), salts[end], "EX", expiry))
    return salts, commands


def visitor_hash(salt: bytes, campaign: str) -> blake2b:
    """Returns the hash object for visitors of a campaign on a day. Update a copy with address and agent."""
    return blake2b(campaign.encode() + b"\0", digest_size=8, key=salt)


async def remove_old(store: AsyncRedis, shards: int, now: float) -> int:
    """Removes salts older than KEPT_SECONDS and asks for a rewrite of the append-only file.

    Returns the number of salts removed. Asks for another rewrite if the last call was cut off, or was so long
    ago that salts have expired since. now: seconds since 1970.
    """
    last_call = await store.hget(keys.REWRITE, "salts")
    is_overdue = last_call is not None and int(last_call) < now - (EXPIRY_SECONDS - KEPT_SECONDS)
    newest = int(now - KEPT_SECONDS) // BUCKET_SECONDS * BUCKET_SECONDS
    ends = range(newest, int(now - EXPIRY_SECONDS) - BUCKET_SECONDS, -BUCKET_SECONDS)
    removed = 0
    for shard in range(shards):
        key_names = [keys.salt(shard, end) for end in ends]
        if existing := int(await store.exists(*key_names)):
            await even_if_full(store, "HSET", keys.REWRITE, "salts", 0)
            await aof_rewrite.request(store)
            await checkpoint.commit_always(store, shard, [("UNLINK", *key_names)])
            removed += existing
    if removed or is_overdue:
        await aof_rewrite.request(store)
    await even_if_full(store, "HSET", keys.REWRITE, "salts", int(now))
    return removed
