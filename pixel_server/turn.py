"""The turn of a shard: how every writer of its counters keeps out of every other's way.

A turn is (n, id): a number that each writer raises, and the id of the last stream entry that is in the
counters. A writer reads the turn, then all else that it goes by, and commits: one script, which does
nothing if n has moved, else raises it and carries out the writer's commands. Scripts are atomic, also in
the append-only file; the first command is one that a full store refuses, so nothing is half done then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from struct import Struct
from typing import Any

from pixel_server import keys
from pixel_server.store import AsyncRedis, Redis

Command = tuple[str | bytes, ...]

_COMMIT = """
-- KEYS: turn. ARGV: n as read; id of the last entry counted, or ''; commands, one after the other: number of
-- arguments, then length and bytes of each; all numbers in 4 bytes.
-- Returns the new n, or -1 if the turn has moved: then nothing was done.
local n = tonumber(redis.call('HGET', KEYS[1], 'n') or '0')
if n ~= tonumber(ARGV[1]) then return -1 end
redis.call('HSET', KEYS[1], 'n', n + 1)
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'id', ARGV[2]) end
local at, text = 1, ARGV[3]
while at <= #text do
  local count, command = 0, {}
  count, at = struct.unpack('>I4', text, at)
  for i = 1, count do command[i], at = struct.unpack('>I4c0', text, at) end
  redis.call(unpack(command))
end
return n + 1
"""

_length = Struct(">I").pack


def read(store: Redis, shard: int) -> tuple[int, str, int]:
    """(n, id, newest) of a shard; id is 0-0 before its first entry. newest: time of its newest hit, ms."""
    n, last, newest = store.hmget(keys.turn(shard), ["n", "id", "newest"])
    return int(n or 0), (last or b"0-0").decode(), int(newest or 0)


def commit(store: Redis, shard: int, n: int, last: str, commands: Iterable[Command]) -> bool:
    """Carries out the commands if the turn still is n. last: the entry counted by them, or ''."""
    return int(store.eval(*_arguments(shard, n, last, commands))) > 0


async def raise_turn(store: AsyncRedis, shard: int) -> None:
    """Raises the turn, so that no writer that has read it before can commit."""
    await write(store, shard, ())


async def write(store: AsyncRedis, shard: int, commands: Iterable[Command]) -> None:
    """Carries out commands that hold whatever others write meanwhile; those others then fail to commit."""
    wanted = list(commands)

    async def same() -> list[Command]:
        return wanted

    await change(store, shard, same)


async def change(store: AsyncRedis, shard: int, made: Callable[[], Awaitable[list[Command]]]) -> None:
    """Carries out what `made` makes of what it reads; once more if another was first."""
    while True:
        n = int(await store.hget(keys.turn(shard), "n") or 0)
        if int(await store.eval(*_arguments(shard, n, "", await made()))) > 0:
            return


def _arguments(shard: int, n: int, last: str, commands: Iterable[Command]) -> tuple[Any, ...]:
    return _COMMIT, 1, keys.turn(shard), n, last, _pack(commands)


def _pack(commands: Iterable[Command]) -> bytes:
    packed: list[bytes] = []
    for command in commands:
        packed.append(_length(len(command)))
        for argument in command:
            data = argument.encode() if isinstance(argument, str) else argument
            packed += (_length(len(data)), data)
    return b"".join(packed)
