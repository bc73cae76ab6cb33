"""Salts for the hashes of visitors without a cookie: random, one for each local day, destroyed soon after it.

Such a visitor is a hash of campaign, address and user agent under the salt of the day. So nobody can tell who
the visitor was, or recognise the same visitor on another day. No salt follows from a secret that is kept.

The name of a salt holds the instant at which its day ends, because days of several zones may end together.
The salt is removed KEPT_SECONDS after that instant, first from the keys and then from the append-only file.
If nothing removes it, it expires after EXPIRY_SECONDS.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from hashlib import blake2b

from pixel_server.counters.series import BUCKET_SECONDS
from pixel_server.store import aof_rewrite, checkpoint, keys
from pixel_server.store.protocols import AsyncRedis, Redis
from pixel_server.store.script import even_if_full

_HOUR = 3600
KEPT_SECONDS, EXPIRY_SECONDS = 47 * _HOUR, 48 * _HOUR
"""Seconds after the end of a salt's day. The hour between them is for the rewrite of the append-only file."""

Salts = Mapping[int, bytes]
"""Salts by the end of their day, in seconds since 1970."""


def read_or_make(
    store: Redis, shard: int, ends: Iterable[int], now: float
) -> tuple[Salts, list[checkpoint.Command]]:
    """Returns the salts of the days that end at these instants, and the commands that store the new ones.

    Leaves out days that ended more than KEPT_SECONDS ago: their salts are not made again. ends, now: seconds
    since 1970.
    """
    usable = sorted(end for end in ends if now < end + KEPT_SECONDS)
    if not usable:
        return {}, []
    salts: dict[int, bytes] = {}
    commands: list[checkpoint.Command] = []
    for end, stored in zip(usable, store.mget([keys.salt(shard, end) for end in usable]), strict=True):
        salts[end] = stored or secrets.token_bytes(32)
        if stored is None:
            expiry = str(int(end + EXPIRY_SECONDS - now))
            commands.append(("SET", keys.salt(shard, end), salts[end], "EX", expiry))
    return salts, commands


def visitor_hash(salt: bytes, campaign: str) -> blake2b:
    """Returns the hash of a day's visitors of a campaign, to copy and update with address and agent."""
    return blake2b(campaign.encode() + b"\0", digest_size=8, key=salt)


async def remove_old(store: AsyncRedis, shards: int, now: float) -> int:
    """Removes salts older than KEPT_SECONDS and asks for a rewrite of the append-only file.

    Returns how many salts were removed. Asks for one more rewrite if the call before was cut off, or was so
    long ago that salts have expired since. now: seconds since 1970.
    """
    before = await store.hget(keys.REWRITE, "salts")
    is_overdue = before is not None and int(before) < now - (EXPIRY_SECONDS - KEPT_SECONDS)
    last = int(now - KEPT_SECONDS) // BUCKET_SECONDS * BUCKET_SECONDS
    ends = range(last, int(now - EXPIRY_SECONDS) - BUCKET_SECONDS, -BUCKET_SECONDS)
    removed = 0
    for shard in range(shards):
        names = [keys.salt(shard, end) for end in ends]
        if existing := int(await store.exists(*names)):
            await even_if_full(store, "HSET", keys.REWRITE, "salts", 0)
            await aof_rewrite.request(store)
            await checkpoint.commit_always(store, shard, [("UNLINK", *names)])
            removed += existing
    if removed or is_overdue:
        await aof_rewrite.request(store)
    await even_if_full(store, "HSET", keys.REWRITE, "salts", int(now))
    return removed
