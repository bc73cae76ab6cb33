"""The turn of a shard: how every writer of its counters keeps out of every other's way.

A turn is (n, id): a number that each writer raises, and the id of the last stream entry that is in the
counters. A writer reads the turn, or knows it from its own last commit, then reads all else that it goes by,
and commits: one script, which does nothing if n has moved, else raises it and carries out the writer's
commands. Scripts are atomic, also in the append-only file. A full store carries this one out, too
(`allow-oom`): it first takes away the entries that it counts, and else the store would stay full. A
command that Redis refuses for another reason, as for a key of another type, ends the script where it stands:
what came before it stays. No writer makes such a command.

A roll-up that lost its turn several times takes a short lead (`take_lead`): other writers then wait, at most
LEAD_MS, so that many small writes cannot keep it from counting. The lead is advice, not a lock: nothing
becomes wrong if a writer does not heed it, and it ends by itself if its holder dies.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

import redis

from pixel_server.store import keys
from pixel_server.store.client import AsyncRedis, Redis

LEAD_MS = 1500
"""Milliseconds that a lead holds at most, and that another writer waits for it at most."""
_LEAD_PAUSE = 0.03
"""Seconds between two looks of a writer that waits for a lead to end."""

Turn = tuple[int, str, int]
"""(n, id, newest): id is 0-0 before the first entry; newest: time of the shard's newest hit, ms."""
Command = tuple[str | bytes, ...]
Records = dict[str, list[bytes]]
"""By what the names of the hashes begin with: recipient key, length in one byte, value, and so on."""

_COMMIT = """#!lua flags=allow-oom
-- KEYS: turn, hits. ARGV: n as read; id of the last entry counted, or ''; number of hashes that records are
-- spread over; how many pairs follow; pairs: what the names of these hashes begin with, and records, each a
-- key of 8 bytes, the length of a value in 1 byte, and the value; then commands, each the number of its
-- arguments and these.
-- Returns the new n, or -1 if the turn has moved: then nothing was done.
local call, byte, format, sub = redis.call, string.byte, string.format, string.sub
local n = tonumber(call('HGET', KEYS[1], 'n') or '0')
if n ~= tonumber(ARGV[1]) then return -1 end
if ARGV[2] ~= '' then
  local ms, number = string.match(ARGV[2], '^(%d+)-(%d+)$')
  call('XTRIM', KEYS[2], 'MINID', ms .. '-' .. format('%.0f', number + 1))
  call('HSET', KEYS[1], 'id', ARGV[2])
end
call('HSET', KEYS[1], 'n', n + 1)
local buckets, at = tonumber(ARGV[3]), 5 + 2 * tonumber(ARGV[4])
for i = 5, at - 1, 2 do
  local prefix, records, from = ARGV[i], ARGV[i + 1], 1
  while from < #records do
    local a, b, _, _, size = byte(records, from + 4, from + 8)
    call('HSET', prefix .. format('%03x', (a * 256 + b) % buckets),
      sub(records, from, from + 7), sub(records, from + 9, from + 8 + size))
    from = from + 9 + size
  end
end
while at < #ARGV do
  local last = at + tonumber(ARGV[at])
  call(unpack(ARGV, at + 1, last))
  at = last + 1
end
return n + 1
"""


def read(store: Redis, shard: int) -> Turn:
    n, last, newest = store.hmget(keys.turn(shard), ["n", "id", "newest"])
    return int(n or 0), (last or b"0-0").decode(), int(newest or 0)


def commit(
    store: Redis,
    shard: int,
    n: int,
    last: str,
    commands: Iterable[Command],
    records: Records | None = None,
) -> bool:
    """Carries out the commands if the turn still is n. last: the entry counted by them, or ''; entries up to
    it are trimmed.

    records: of recipients, to be set; there are many, and a command each would take longer.
    """
    return int(store.eval(*_arguments(shard, n, last, commands, records))) > 0


def take_lead(store: Redis, shard: int) -> None:
    """Makes other writers of this shard wait, for at most LEAD_MS. Does nothing while there is a lead."""
    with suppress(redis.ResponseError):  # a full store refuses it
        store.set(keys.lead(shard), b"1", px=LEAD_MS, nx=True)


def end_lead(store: Redis, shard: int) -> None:
    """Lets other writers go on."""
    store.delete(keys.lead(shard))


async def raise_turn(store: AsyncRedis, shard: int) -> None:
    """Raises the turn, so that no writer that has read it before can commit.

    Another writer may raise it between the two commands: that serves as well.
    """
    n = await _number(store, shard)
    await store.eval(*_arguments(shard, n, "", ()))


async def write(store: AsyncRedis, shard: int, commands: Iterable[Command]) -> None:
    """Carries out commands that hold whatever others write meanwhile; those others then fail to commit."""
    wanted = list(commands)

    async def same() -> list[Command]:
        return wanted

    await change(store, shard, same)


async def change(store: AsyncRedis, shard: int, made: Callable[[], Awaitable[list[Command]]]) -> None:
    """Carries out what `made` makes of what it reads; once more if another was first."""
    while True:
        n = await _number(store, shard)
        if int(await store.eval(*_arguments(shard, n, "", await made()))) > 0:
            return


async def _number(store: AsyncRedis, shard: int) -> int:
    """Returns n once no roll-up has the lead, or after LEAD_MS."""
    until = time.monotonic() + LEAD_MS / 1000
    while True:
        pipe = store.pipeline(transaction=False)
        pipe.exists(keys.lead(shard))
        pipe.hget(keys.turn(shard), "n")
        is_led, n = await pipe.execute()
        if not is_led or time.monotonic() >= until:
            return int(n or 0)
        await asyncio.sleep(_LEAD_PAUSE)


def _arguments(
    shard: int, n: int, last: str, commands: Iterable[Command], records: Records | None = None
) -> tuple[Any, ...]:
    found: list[str | bytes] = []
    for command in commands:
        found.append(str(len(command)))
        found += command
    pairs: list[str | bytes] = []
    for prefix, values in (records or {}).items():
        pairs += (prefix, b"".join(values))
    first = (_COMMIT, 2, keys.turn(shard), keys.hits(shard), n, last, keys.PEOPLE_BUCKETS, len(pairs) // 2)
    return *first, *pairs, *found
