"""The checkpoint of a shard, by which its writers commit one at a time, and count each hit once.

A checkpoint is (generation, last entry): a number that each commit raises, and the id of the last stream
entry whose hits are in the counters. A writer reads the checkpoint, or knows it from its own last commit.
Then the writer reads all else that its commands depend on, and commits. A commit is one script: it does
nothing if the generation has changed, and otherwise raises the generation and carries out the writer's
commands. Scripts are atomic, also in the append-only file. A full Redis carries out this script too
(`allow-oom`), because the script first removes the entries that it counts; a full Redis would stay full
otherwise.

If Redis refused a command in the middle of the script, the commands before it would stay done. So the script
first checks the type of each command's key, and each number that a command raises. If somebody has put
another value there by hand, the script fails and nothing has changed. The hashes of recipients' records are
not checked: the roll-up has just read each of them.

A roll-up whose commits failed several times takes a short lead (`take_lead`). Other writers then wait, at
most LEAD_MS, so that many small writes cannot keep the roll-up from counting. The lead is advice, not a lock:
nothing goes wrong if a writer ignores it, and it expires if its holder dies.

The fields keep the names that they were first stored under: `n` is the generation, `id` is the last entry and
`newest` is the time of the shard's newest hit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

import redis

from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis, Redis
from pixel_server.store.script import EVEN_IF_FULL, ScriptCall, script_call

LEAD_MS = 1500
"""Milliseconds until a lead expires. Another writer waits no longer than that."""
_LEAD_POLL_SECONDS = 0.03
"""Seconds between two checks by a writer that waits for a lead to end."""


class Checkpoint(NamedTuple):
    """The position up to which a shard is counted, and its generation.

    last_entry: `0-0` before the first commit. newest_ms: the time of the shard's newest hit, 0 before the
    first hit.
    """

    generation: int
    last_entry: str
    newest_ms: int


Command = tuple[str | bytes, ...]
"""A Redis command: its name and arguments."""
Records = dict[str, list[bytes]]
"""Recipients' records, by the prefix of their hashes' names, for example `px:{3}:people:spring:`. A list
holds three items for each record: the recipient key (8 bytes), the record's length (1 byte), the record."""

_COMMIT = (
    EVEN_IF_FULL
    + """
-- KEYS: checkpoint, hits. ARGV: generation as read; id of the last entry counted, or ''; number of hashes
-- that records are spread over; number of pairs; pairs of the prefix of these hashes' names and the records,
-- each a recipient key of 8 bytes, the record's length in 1 byte, and the record; then commands, each the
-- number of its words and the words.
-- Returns the new generation, or -1 if the generation has changed: then nothing was done. Fails, and does
-- nothing, if a key holds another type, or a number to raise is not an integer.
local call, byte, format, sub = redis.call, string.byte, string.format, string.sub
local generation = tonumber(call('HGET', KEYS[1], 'n') or '0')
if generation ~= tonumber(ARGV[1]) then return -1 end
local first = 5 + 2 * tonumber(ARGV[4])
local type_checks = {
  HSET = 'HLEN', HSETNX = 'HLEN', HDEL = 'HLEN', XADD = 'XLEN', ZADD = 'ZCARD', ZREM = 'ZCARD',
}
local at = first
while at < #ARGV do
  local command, key = ARGV[at + 1], ARGV[at + 2]
  if command == 'HINCRBY' then
    local number = call('HGET', key, ARGV[at + 3])
    if number and (#number > 18 or not string.find(number, '^%-?%d+$')) then
      return redis.error_reply('ERR a number of ' .. key .. ' is not an integer')
    end
  elseif command == 'PFADD' then
    local head = call('GETRANGE', key, 0, 3)
    if head ~= '' and head ~= 'HYLL' then return redis.error_reply('WRONGTYPE ' .. key .. ' is not a HLL') end
  elseif type_checks[command] then
    call(type_checks[command], key)
  end
  at = at + 1 + tonumber(ARGV[at])
end
if ARGV[2] ~= '' then
  local ms, number = string.match(ARGV[2], '^(%d+)-(%d+)$')
  call('XTRIM', KEYS[2], 'MINID', ms .. '-' .. format('%.0f', number + 1))
  call('HSET', KEYS[1], 'id', ARGV[2])
end
call('HSET', KEYS[1], 'n', generation + 1)
local buckets = tonumber(ARGV[3])
for i = 5, first - 1, 2 do
  local prefix, records, from = ARGV[i], ARGV[i + 1], 1
  while from < #records do
    local a, b, _, _, size = byte(records, from + 4, from + 8)
    call('HSET', prefix .. format('%03x', (a * 256 + b) % buckets),
      sub(records, from, from + 7), sub(records, from + 9, from + 8 + size))
    from = from + 9 + size
  end
end
at = first
while at < #ARGV do
  local last = at + tonumber(ARGV[at])
  call(unpack(ARGV, at + 1, last))
  at = last + 1
end
return generation + 1
"""
)


def read_checkpoint(store: Redis, shard: int) -> Checkpoint:
    """Returns the checkpoint of a shard."""
    generation, last_entry, newest_ms = store.hmget(keys.checkpoint(shard), ["n", "id", "newest"])
    return Checkpoint(int(generation or 0), (last_entry or b"0-0").decode(), int(newest_ms or 0))


async def read_generation(store: AsyncRedis, shard: int) -> int:
    """Returns the generation of a shard's checkpoint, 0 before the first commit."""
    return int(await store.hget(keys.checkpoint(shard), "n") or 0)


async def read_newest_ms(store: AsyncRedis, shard: int) -> int:
    """Returns the time of a shard's newest hit (ms), 0 if no hit is known."""
    return int(await store.hget(keys.checkpoint(shard), "newest") or 0)


def commit(
    store: Redis,
    shard: int,
    generation: int,
    last_entry: str,
    commands: Iterable[Command],
    records: Records | None = None,
) -> bool:
    """Carries out commands if the shard still has this generation. Returns whether it had.

    last_entry: the id of the last entry that the commands count, or ''. Entries up to that id are removed.
    records: recipients' records to set; this is faster than a command for each record.
    """
    call = _commit_call(
        shard, generation=generation, last_entry=last_entry, commands=commands, records=records
    )
    return int(store.eval(*call)) > 0


def take_lead(store: Redis, shard: int) -> None:
    """Makes other writers of this shard wait, for at most LEAD_MS. Does nothing while there is a lead."""
    with suppress(redis.ResponseError):  # a full Redis refuses the command
        store.set(keys.lead(shard), b"1", px=LEAD_MS, nx=True)


def end_lead(store: Redis, shard: int) -> None:
    """Lets the waiting writers go on."""
    store.delete(keys.lead(shard))


async def raise_generation(store: AsyncRedis, shard: int) -> None:
    """Raises the generation, so that no writer that has read the old generation can commit.

    Another writer may raise the generation between the two commands: the effect is the same.
    """
    await store.eval(*_commit_call(shard, generation=await _await_generation(store, shard)))


async def commit_always(store: AsyncRedis, shard: int, commands: Iterable[Command]) -> None:
    """Carries out commands that do not depend on the shard's state. Other writers' open commits then fail."""
    fixed = list(commands)

    async def plan() -> list[Command]:
        return fixed

    await plan_and_commit(store, shard, plan)


async def plan_and_commit(
    store: AsyncRedis, shard: int, plan: Callable[[], Awaitable[list[Command]]]
) -> None:
    """Carries out the commands that `plan` returns; calls `plan` again if another writer was first."""
    while True:
        generation = await _await_generation(store, shard)
        call = _commit_call(shard, generation=generation, commands=await plan())
        if int(await store.eval(*call)) > 0:
            return


async def _await_generation(store: AsyncRedis, shard: int) -> int:
    """Returns the generation once no roll-up has the lead, or after LEAD_MS."""
    deadline = time.monotonic() + LEAD_MS / 1000
    while True:
        pipe = store.pipeline(transaction=False)
        pipe.exists(keys.lead(shard))
        pipe.hget(keys.checkpoint(shard), "n")
        is_led, generation = await pipe.execute()
        if not is_led or time.monotonic() >= deadline:
            return int(generation or 0)
        await asyncio.sleep(_LEAD_POLL_SECONDS)


def _commit_call(
    shard: int,
    *,
    generation: int,
    last_entry: str = "",
    commands: Iterable[Command] = (),
    records: Records | None = None,
) -> ScriptCall:
    """Returns the call of _COMMIT."""
    words: list[str | bytes] = []
    for command in commands:
        words.append(str(len(command)))
        words += command
    pairs: list[str | bytes] = []
    for prefix, values in (records or {}).items():
        pairs += (prefix, b"".join(values))
    counts = keys.PEOPLE_BUCKETS, len(pairs) // 2
    return script_call(
        _COMMIT,
        keys=(keys.checkpoint(shard), keys.hits(shard)),
        arguments=(generation, last_entry, *counts, *pairs, *words),
    )
