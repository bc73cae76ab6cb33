"""Values merged over all shards, so that figures cost the same with many shards as with few.

If a store has more than MERGED_ABOVE shards, workers keep a copy of the values that figures read: under the
tag {all}, each value merged over all shards. `px:{all}:total:spring` holds the sums of `px:{0}:total:spring`,
`px:{1}:total:spring` and so on. The copy holds nothing that cannot be made again from the shards.

Each shard notes which of its values change, in the sorted set `changed`. A member is the name of a value, for
example `total:spring`, or with a field `months:spring 202611`. The scripts that change a value note it in the
same instant. Each change has a number, the score of its members, and a mark: the member `=9f86d081884c7d65`.
The mark is that of the commit, see `checkpoint`; other changes take theirs from the time.

A merge (`workers.merge`) reads the names from the position of the last merge on, reads these values from all
shards, and writes the merged values. Then it stores the new position of each shard, (number, mark), and
removes the names. It writes whole values and never differences. So a merge that ends at any step is repeated
without harm.

A shard whose position is no longer in its set has lost changes, for example because a replica took over.
A shard whose newest commit is not in the set has a writer of an earlier version, which notes nothing. In both
cases all values are merged anew. Until then figures are read from the shards.

`as_of` is read from all shards before their names are read. So every hit that reached its shard before
`as_of` is in the merged values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pixel_server.store import keys
from pixel_server.store.checkpoint import Command
from pixel_server.store.protocols import AsyncRedis, Pipeline, Redis
from pixel_server.store.script import GLOBAL, ScriptCall, script_call

MERGED_ABOVE = 8
"""Largest number of shards whose values are not merged. Figures then read all shards."""
STALE_SECONDS = 120.0
"""Seconds after which figures are read from the shards again, because no worker merges."""
LEASE_MS = 10_000
"""Milliseconds after its last write for which a merge keeps other merges from starting."""
FORMAT = 1
"""Format of the merged values, the field `format` of `keys.MERGED`."""


def is_merged(shards: int) -> bool:
    """Returns whether workers merge the values of a store with this number of shards."""
    return shards > MERGED_ABOVE


class Position(NamedTuple):
    """The last change of a shard that is merged: its number and its mark."""

    number: int
    mark: str


class Look(NamedTuple):
    """Answer of a shard when a merge begins.

    counted_until_ms: see `producer.queue_counted_until`. is_noted: whether the newest commit is in `changed`.
    names: names and marks with their numbers, from the position of the last merge on.
    """

    counted_until_ms: int
    is_noted: bool
    names: list[tuple[str, int]]

    def has(self, position: Position) -> bool:
        """Returns whether the shard has lost nothing since this position."""
        return self.is_noted and self.names[:1] == [(f"={position.mark}", position.number)]

    def newest(self) -> Position:
        """Returns the position after all these names."""
        number, mark = max((number, name[1:]) for name, number in self.names if name[0] == "=")
        return Position(number, mark)


_LOOK = """
-- KEYS: hits, checkpoint, changed. ARGV: a number. Returns (time (ms) until which all hits are counted,
-- whether the newest commit is noted, names with their numbers from that number on).
local first, now = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1], redis.call('TIME')
local now_ms = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
local mark = redis.call('HGET', KEYS[2], 'mark') or ''
return {
  first and string.match(first[1], '^%d+') or now_ms,
  redis.call('ZSCORE', KEYS[3], '=' .. mark) and 1 or 0,
  redis.call('ZRANGEBYSCORE', KEYS[3], ARGV[1], '+inf', 'WITHSCORES'),
}
"""

_START = """
-- KEYS: checkpoint, changed. Begins to note changes, from number 0 on. Returns the mark of that number.
local mark = redis.call('HGET', KEYS[1], 'mark') or ''
redis.call('DEL', KEYS[2])
redis.call('ZADD', KEYS[2], 0, '=' .. mark)
return mark
"""

_TRIM = """
-- KEYS: checkpoint, changed. ARGV: a number. Removes the names below that number. Keeps the newest commit.
local newest = redis.call('ZSCORE', KEYS[2], '=' .. (redis.call('HGET', KEYS[1], 'mark') or ''))
if not newest then return 0 end
local below = math.min(tonumber(newest), tonumber(ARGV[1]))
return redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('(%.0f', below))
"""

_READ = """
-- KEYS: none. ARGV: prefix of the shard's keys; names of values, one a line. Returns the value of each name:
-- all fields of a hash, or one field, or a string.
local hashes, out = {total = 1, rules = 1, web = 1}, {}
for name in string.gmatch(ARGV[2], '[^\\n]+') do
  local path, field = string.match(name, '^(%S+) ?(.*)$')
  if field ~= '' then
    out[#out + 1] = redis.call('HGET', ARGV[1] .. path, field)
  elseif hashes[string.match(path, '^%a+')] then
    out[#out + 1] = redis.call('HGETALL', ARGV[1] .. path)
  else
    out[#out + 1] = redis.call('GET', ARGV[1] .. path)
  end
end
return out
"""

_BEGIN = """
-- KEYS: merged. ARGV: owner, lease in ms. Returns all fields, or nothing if another merge is under way.
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
if now_ms < tonumber(redis.call('HGET', KEYS[1], 'busy_until') or 0) then return {} end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'busy_until', string.format('%.0f', now_ms + ARGV[2]))
return redis.call('HGETALL', KEYS[1])
"""

_WRITE = """
-- KEYS: merged, gone. ARGV: owner, lease in ms, commands, each the number of its words and the words.
-- Returns -1, and does nothing, if another merge has begun. The command UNITE adds HyperLogLogs to a key.
-- Writes nothing of a deleted campaign.
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return -1 end
local now = redis.call('TIME')
local until_ms = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2]
redis.call('HSET', KEYS[1], 'busy_until', string.format('%.0f', until_ms))
local at = 3
while at < #ARGV do
  local last, command, key = at + tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
  local campaign = string.match(key, '^px:{all}:%a+:([^:]+)')
  local is_gone = campaign and redis.call('SISMEMBER', KEYS[2], campaign) == 1
  if is_gone and command ~= 'DEL' and command ~= 'HDEL' then
    command = ''
  elseif command == 'UNITE' then
    for i = at + 3, last do
      redis.call('SET', key .. ':part', ARGV[i])
      redis.call('PFMERGE', key, key .. ':part')
    end
    redis.call('DEL', key .. ':part')
  else
    redis.call(command, unpack(ARGV, at + 2, last))
  end
  at = last + 1
end
return 1
"""


def look(store: Redis, positions: Mapping[int, Position], shards: int) -> list[Look]:
    """Returns what each shard says. positions: by shard, those of the last merge."""
    pipe = store.pipeline(transaction=False)
    for shard in range(shards):
        number = positions[shard].number if shard in positions else 0
        names = keys.hits(shard), keys.checkpoint(shard), keys.changed(shard)
        pipe.eval(*script_call(_LOOK, keys=names, arguments=(number,)))
    return [
        Look(
            int(until),
            bool(is_noted),
            [(n.decode(), int(s)) for n, s in zip(rows[::2], rows[1::2], strict=True)],
        )
        for until, is_noted, rows in pipe.execute()
    ]


def start(store: Redis, shards: Iterable[int]) -> dict[int, Position]:
    """Makes shards note their changes from now on. Returns the positions at which they begin."""
    chosen, pipe = list(shards), store.pipeline(transaction=False)
    for shard in chosen:
        pipe.eval(*script_call(_START, keys=(keys.checkpoint(shard), keys.changed(shard))))
    marks = pipe.execute()
    return {shard: Position(0, mark.decode()) for shard, mark in zip(chosen, marks, strict=True)}


def trim(store: Redis, positions: Mapping[int, Position]) -> None:
    """Removes the names of merged changes."""
    pipe = store.pipeline(transaction=False)
    for shard, position in positions.items():
        names = keys.checkpoint(shard), keys.changed(shard)
        pipe.eval(*script_call(_TRIM, keys=names, arguments=(position.number,)))
    pipe.execute()


def queue_values(pipe: Pipeline, shard: int, names: Iterable[str]) -> None:
    """Queues a command whose reply is the values of these names in a shard."""
    arguments = f"px:{{{shard}}}:", "\n".join(names)
    pipe.eval(*script_call(_READ, keys=(), arguments=arguments, undeclared=shard))


def begin(store: Redis, owner: str) -> dict[str, str] | None:
    """Begins a merge. Returns the fields of `keys.MERGED`, or None if another merge is under way.

    owner: a random word. A merge that takes longer than LEASE_MS between two writes can be overtaken. It then
    cannot write any more.
    """
    fields = store.eval(*script_call(_BEGIN, keys=(keys.MERGED,), arguments=(owner, LEASE_MS)))
    texts = [field.decode() for field in fields]
    return dict(zip(texts[::2], texts[1::2], strict=True)) or None


def write(store: Redis, owner: str, commands: Iterable[Command], lease_ms: int) -> bool:
    """Writes merged values. Returns False, and writes nothing, if another merge has begun.

    lease_ms: milliseconds for which no other merge begins.
    """
    return int(store.eval(*_write_call(owner, commands, lease_ms=lease_ms))) > 0


def _write_call(owner: str, commands: Iterable[Command], *, lease_ms: int) -> ScriptCall:
    words: list[str | bytes] = []
    for command in commands:
        words += (str(len(command)), *command)
    arguments = owner, lease_ms, *words
    return script_call(_WRITE, keys=(keys.MERGED, keys.GONE), arguments=arguments, undeclared=GLOBAL)


def positions(fields: Mapping[str, str]) -> dict[int, Position]:
    """Returns the positions of the last merge, by shard. fields: of `keys.MERGED`."""
    stored = {int(name): value.split(" ") for name, value in fields.items() if name.isdecimal()}
    return {shard: Position(int(number), mark) for shard, (number, mark) in stored.items()}


def end_commands(as_of_ms: int, now_ms: int, new: Mapping[int, Position]) -> list[Command]:
    """Returns the commands that end a merge. new: the positions that have changed."""
    words = [
        word for shard, position in new.items() for word in (str(shard), f"{position.number} {position.mark}")
    ]
    times = "as_of", str(as_of_ms), "merged_at", str(now_ms), "format", str(FORMAT)
    return [("HSET", keys.MERGED, *times, *words)]


NOT_MERGED: Sequence[Command] = [("HDEL", keys.MERGED, "as_of")]
"""Commands that make figures read the shards until the next merge has ended."""


async def read_as_of(store: AsyncRedis) -> int | None:
    """Returns the time (ms) until which all hits are in the merged values, None if they cannot be used."""
    pipe: Any = store.pipeline(transaction=False)
    pipe.hmget(keys.MERGED, ["as_of", "merged_at", "format"])
    pipe.time()
    (as_of, merged_at, stored_format), (now, _) = await pipe.execute()
    if as_of is None or int(stored_format) != FORMAT or now - int(merged_at) / 1000 > STALE_SECONDS:
        return None
    return int(as_of)
