"""The salts that visitors without a cookie are hashed with: random, one a local day, destroyed soon after.

A visitor of a day is a hash of campaign, address and user agent under the salt of that day, so that nobody
can tell who it was, nor find the same one again on another day. A salt follows from no secret that is kept.
It is named by the instant at which its day ends, as days of several zones may end at the same time. It goes
KEPT seconds after that, from the keys and then from the append-only file; by itself it ends at EXPIRES.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from zoneinfo import ZoneInfo

from pixel_server.counters.series import QUARTER
from pixel_server.store import aof_rewrite, checkpoint, keys
from pixel_server.store.protocols import AsyncRedis, Redis
from pixel_server.store.script import even_if_full

HOUR = 3600
KEPT, EXPIRES = 47 * HOUR, 48 * HOUR
"""Seconds after the end of its day. The hour between is for the rewrite of the append-only file."""

Salts = Mapping[int, bytes]
"""By the end of their day, seconds."""


@lru_cache(10_000)
def day(start: int, zone: ZoneInfo) -> tuple[str, int, int]:
    """(YYYYMMDD, when it begins, when it ends, seconds) of the local day that a bucket lies in.

    Every zone's offset is a multiple of 15 minutes.
    """
    date = datetime.fromtimestamp(start, zone).date()
    first, after = (
        int(datetime(one.year, one.month, one.day, tzinfo=zone).timestamp())
        for one in (date, date + timedelta(days=1))
    )
    return date.strftime("%Y%m%d"), first, after


def read(store: Redis, shard: int, ends: Iterable[int], now: float) -> tuple[Salts, list[checkpoint.Command]]:
    """The salts of days that end at these instants, and the commands that keep those made here.

    Those whose day has ended too long ago are missing, and are not made again.
    """
    wanted = sorted(end for end in ends if now < end + KEPT)
    if not wanted:
        return {}, []
    found: dict[int, bytes] = {}
    commands: list[checkpoint.Command] = []
    for end, kept in zip(wanted, store.mget([keys.salt(shard, end) for end in wanted]), strict=True):
        found[end] = kept or secrets.token_bytes(32)
        if kept is None:
            commands.append(("SET", keys.salt(shard, end), found[end], "EX", str(int(end + EXPIRES - now))))
    return found, commands


def hashing(salt: bytes, campaign: str) -> blake2b:
    """What a day's visitors of a campaign are hashed with: to copy, and feed with address and agent."""
    return blake2b(campaign.encode() + b"\0", digest_size=8, key=salt)


async def remove_old(store: AsyncRedis, shards: int, now: float) -> int:
    """Removes those whose time is over, and asks for a rewrite of the append-only file. How many went.

    Whoever was cut off in the middle, or away for so long that some ended by themselves, asks once more.
    """
    before = await store.hget(keys.REWRITE, "salts")
    owed = before is not None and int(before) < now - (EXPIRES - KEPT)
    last = int(now - KEPT) // QUARTER * QUARTER
    names = range(last, int(now - EXPIRES) - QUARTER, -QUARTER)
    gone = 0
    for shard in range(shards):
        held = [keys.salt(shard, end) for end in names]
        if there := int(await store.exists(*held)):
            await even_if_full(store, "HSET", keys.REWRITE, "salts", 0)
            await aof_rewrite.ask(store)
            await checkpoint.commit_always(store, shard, [("UNLINK", *held)])
            gone += there
    if gone or owed:
        await aof_rewrite.ask(store)
    await even_if_full(store, "HSET", keys.REWRITE, "salts", int(now))
    return gone
