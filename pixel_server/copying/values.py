"""Reads and writes whole keys, many in one round trip. The type of each key is that of its kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pixel_server.store.key import RedisType
from pixel_server.store.protocols import AsyncRedis, Pipeline, Value

_READ: dict[RedisType, tuple[str, tuple[Value, ...]]] = {
    "string": ("GET", ()),
    "hll": ("GET", ()),
    "hash": ("HGETALL", ()),
    "set": ("SMEMBERS", ()),
    "zset": ("ZRANGE", (0, -1, "WITHSCORES")),
    "stream": ("XRANGE", ("-", "+")),
}
CHUNK = 1000
"""Items of one key in one command."""


class Stored(NamedTuple):
    """A key with its value. expires_at: ms since 1970, -1 for never.

    value: bytes of a string, a dict of a hash, a set; of a sorted set, members and scores in turn; of a
    stream, pairs of an id and a dict of fields.
    """

    name: str
    value: Any
    expires_at: int


async def read(store: AsyncRedis, names: Sequence[tuple[str, RedisType]]) -> list[Stored]:
    """Reads keys. Leaves out those that do not exist."""
    pipe = store.pipeline(transaction=False)
    for name, redis_type in names:
        command, words = _READ[redis_type]
        pipe.execute_command(command, name, *words)
        pipe.execute_command("PEXPIRETIME", name)
    replies = await pipe.execute()
    found = zip(names, replies[::2], replies[1::2], strict=True)
    return [Stored(name, value, int(expires)) for (name, _), value, expires in found if expires != -2]


def queue_write(pipe: Pipeline, name: str, redis_type: RedisType, value: Any, expires_at: int) -> None:
    """Queues the commands that write a key. They add to the fields, members or entries that it has."""
    if redis_type in ("string", "hll"):
        pipe.execute_command("SET", name, value)
    else:
        for words in _pieces(redis_type, value):
            pipe.execute_command(*_ADD[redis_type], name, *words)
    if expires_at >= 0:
        pipe.execute_command("PEXPIREAT", name, expires_at)


_ADD: dict[RedisType, tuple[str, ...]] = {
    "hash": ("HSET",),
    "set": ("SADD",),
    "zset": ("ZADD",),
    "stream": ("XADD",),
}


def _pieces(redis_type: RedisType, value: Any) -> Iterable[list[Value]]:
    """Returns the words that follow the name, for each command that is needed."""
    if redis_type == "stream":
        return ([entry, *_flat(fields)] for entry, fields in value)
    words: list[Value]
    if redis_type == "hash":
        words = _flat(value)
    elif redis_type == "zset":  # ZADD takes the score first
        words = [
            word for member, score in zip(value[::2], value[1::2], strict=True) for word in (score, member)
        ]
    else:
        words = list(value)
    return (words[i : i + 2 * CHUNK] for i in range(0, len(words), 2 * CHUNK))


def _flat(pairs: Mapping[Any, Value]) -> list[Value]:
    return [word for pair in pairs.items() for word in pair]
