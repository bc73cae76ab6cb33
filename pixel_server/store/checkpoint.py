"""The checkpoint of a shard, by which its writers commit one at a time, and count each hit once.

A checkpoint is (generation, last entry). The generation is a number that each commit raises, and a random
mark that each commit leaves. The last entry is the id of the last stream entry whose hits are in the
counters. A writer reads the checkpoint. Then it reads all else that its commands depend on, and commits. A
commit is one script: it does nothing if the generation has changed, and otherwise raises the generation and
carries out the writer's commands. Scripts are atomic, also in the append-only file. A full Redis carries out
this script too (`allow-oom`), because the script removes the entries that it counts; a full Redis would stay
full otherwise.

A store that lost its newest commits, for example when a replica takes over, later gives their numbers to
other commits. The mark tells two commits with the same number apart. A store can also lose its newest entries
and no commit. To notice this, a commit does nothing if the last entry that it counts is not in the stream.

It is not enough that the commit compares the generation, because a lost commit can be read before it is lost:

    1. Writer A reads the checkpoint, which has generation 22.
    2. Writer B commits generation 23 on the same primary. No replica receives this commit.
    3. Writer A reads a recipient's record. The record contains the hits of generation 23.
    4. A replica takes over. Its generation is 22, and its stream has the hits of generation 23 again.
    5. Writer A commits on the new primary, which compares 22 with 22: these hits are in the record twice.

So each read of a shard's values also compares the generation, in the same script (`read_call`). The values of
a generation are the same on every node, because its mark names one commit. So a writer that has compared the
generation at each read and at the commit has read the values that it changes, whichever nodes answered.

If Redis refused a command in the middle of the script, the commands before it would not be undone. So the
script first checks the type of each command's key, and each number that a command raises. If somebody has
stored a value of another type by hand, the script fails and nothing has changed. The hashes of recipients'
records are not checked: the roll-up has just read each of them.

A roll-up whose commits failed several times takes a short lead (`take_lead`). Other writers then wait, at
most LEAD_MS, so that many small writes cannot keep the roll-up from counting. The lead is advice, not a lock:
nothing goes wrong if a writer ignores it, and it expires if its holder dies.

The fields keep the names that they were first stored under: `n` is the generation's number, `mark` is its
mark, `id` is the last entry and `newest` is the time of the shard's newest hit. Earlier versions stored no
mark.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar, cast

import redis
from redis.commands import CoreCommands

from pixel_server.store import keys, readers
from pixel_server.store.cluster_calls import QueuedCommands
from pixel_server.store.noted_changes import NOTE_CHANGES
from pixel_server.store.protocols import AsyncRedis, Pipeline, Redis, Value
from pixel_server.store.readers import Reader
from pixel_server.store.script import EVEN_IF_FULL, ScriptCall, script_call

T = TypeVar("T")

LEAD_MS = 1500
"""Milliseconds until a lead expires. Another writer waits no longer than that."""
_LEAD_POLL_SECONDS = 0.03
"""Seconds between two checks by a writer that waits for a lead to end."""


class Generation(NamedTuple):
    """The number of a shard's commits so far, and the mark of the last commit.

    mark: 16 hexadecimal digits, "" if the commit left no mark.
    """

    number: int
    mark: str

    def next(self) -> Generation:
        """Returns a generation for the next commit, with a new mark."""
        return Generation(self.number + 1, secrets.token_hex(8))

    def word(self) -> str:
        """Returns the generation as the scripts compare it: `"7 9f86d081884c7d65"`."""
        return f"{self.number} {self.mark}"


class Checkpoint(NamedTuple):
    """The position up to which a shard is counted, and its generation.

    last_entry: `0-0` before the first commit. newest_ms: the time of the shard's newest hit, 0 before the
    first hit.
    """

    generation: Generation
    last_entry: str
    newest_ms: int


Command = tuple[str | bytes, ...]
"""A Redis command: its name and arguments."""
ReadCommand = tuple[Value, ...]
"""A Redis command that changes nothing, or a `records_command`."""
Records = dict[str, list[bytes]]
"""Recipients' records, by the prefix of their hashes' names, for example `px:{3}:people:spring:`. A list
holds three items for each record: the recipient key (8 bytes), the record's length (1 byte), the record."""


class GenerationChangedError(Exception):
    """A shard's generation is not the generation that the caller has read. The caller reads all again."""


IF_SAME_GENERATION = """
-- KEYS: checkpoint, ... ARGV: generation as read, see `Generation.word`, ...
-- Returns -1, and does nothing, if the generation has changed.
local stored = redis.call('HMGET', KEYS[1], 'n', 'mark')
if (stored[1] or '0') .. ' ' .. (stored[2] or '') ~= ARGV[1] then return -1 end
"""
"""Beginning of each script whose changes depend on what its caller has read of the shard."""

_READ_RECORDS = "RECORDS"
"""Name of the command of `records_command`."""
_READ = (
    EVEN_IF_FULL
    + IF_SAME_GENERATION
    + f"""
-- KEYS: checkpoint. ARGV: generation as read; the commands, each the number of its words and the words.
-- Returns the reply to each command.
local call, byte, format, sub = redis.pcall, string.byte, string.format, string.sub
local function read_records(prefix, recipients, buckets)
  local records = {{}}
  for i = 1, #recipients, 8 do
    local a, b = byte(recipients, i + 4, i + 5)
    local record = call('HGET', prefix .. format('%03x', (a * 256 + b) % buckets), sub(recipients, i, i + 7))
    if type(record) == 'table' then return record end  -- an error
    records[#records + 1] = record
  end
  return records
end
local replies, at = {{}}, 2
while at < #ARGV do
  local last, command, key = at + ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local reply
  if command == '{_READ_RECORDS}' then
    reply = read_records(key, ARGV[at + 3], ARGV[at + 4])
  else
    reply = call(unpack(ARGV, at + 1, last))
  end
  if type(reply) == 'table' and reply.err then
    return redis.error_reply(reply.err .. ' (' .. command .. ' ' .. key .. ')')
  end
  replies[#replies + 1] = reply
  at = last + 1
end
return replies
"""
)

_COMMIT = (
    EVEN_IF_FULL
    + IF_SAME_GENERATION
    + NOTE_CHANGES
    + """
-- KEYS: checkpoint, hits, changed. ARGV: generation as read; number and mark of the new generation; id of
-- the last entry counted, or ''; number of hashes that records are spread over; number of pairs; the pairs,
-- each a prefix of these hashes' names and a string of records; the commands, each the number of its words
-- and the words. The string has for each record: recipient key (8 bytes), the record's length (1 byte), the
-- record.
-- Returns 1, or -1 if the last entry is not in the stream: then the store has lost entries, and nothing was
-- done. Fails, and does nothing, if a key holds another type, or a number to raise is not an integer.
local call, byte, format, sub = redis.call, string.byte, string.format, string.sub
if ARGV[4] ~= '' and #call('XRANGE', KEYS[2], ARGV[4], ARGV[4]) == 0 then return -1 end
local first = 7 + 2 * tonumber(ARGV[6])
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
if ARGV[4] ~= '' then
  local ms, number = string.match(ARGV[4], '^(%d+)-(%d+)$')
  call('XTRIM', KEYS[2], 'MINID', ms .. '-' .. format('%.0f', number + 1))
  call('HSET', KEYS[1], 'id', ARGV[4])
end
call('HSET', KEYS[1], 'n', ARGV[2], 'mark', ARGV[3])
local buckets = tonumber(ARGV[5])
for i = 7, first - 1, 2 do
  local prefix, records, from = ARGV[i], ARGV[i + 1], 1
  while from < #records do
    local a, b, _, _, size = byte(records, from + 4, from + 8)
    call('HSET', prefix .. format('%03x', (a * 256 + b) % buckets),
      sub(records, from, from + 7), sub(records, from + 9, from + 8 + size))
    from = from + 9 + size
  end
end
at = first
local is_merged, names = call('EXISTS', KEYS[3]) == 1, {}
while at < #ARGV do
  local last = at + tonumber(ARGV[at])
  local reply = call(unpack(ARGV, at + 1, last))
  if is_merged and not (ARGV[at + 1] == 'PFADD' and reply == 0) then
    note_change(names, ARGV[at + 2], ARGV[at + 3])
  end
  at = last + 1
end
if is_merged then store_changes(KEYS[3], names, ARGV[3]) end
return 1
"""
)


def read_checkpoint(store: Redis, shard: int) -> Checkpoint:
    """Returns the checkpoint of a shard."""
    return unpack_checkpoint(store.hmget(keys.checkpoint(shard), ["n", "mark", "id", "newest"]))


def unpack_checkpoint(fields: Sequence[bytes | None]) -> Checkpoint:
    """Returns the checkpoint with these values of the fields `n`, `mark`, `id` and `newest`."""
    last_entry, newest_ms = fields[2:]
    return Checkpoint(_generation(fields), (last_entry or b"0-0").decode(), int(newest_ms or 0))


async def read_generation(store: AsyncRedis, shard: int) -> Generation:
    """Returns the generation of a shard's checkpoint."""
    return _generation(await store.hmget(keys.checkpoint(shard), ["n", "mark"]))


def _generation(fields: Sequence[bytes | None]) -> Generation:
    """Returns the generation. fields: the values of `n` and `mark`, perhaps followed by others."""
    return Generation(int(fields[0] or 0), (fields[1] or b"").decode())


def read_call(shard: int, generation: Generation, commands: Iterable[ReadCommand]) -> ScriptCall:
    """Returns the call that reads values of a shard at one instant. Pass its reply to `read_replies`.

    generation: of the checkpoint that the caller has read before. commands: at most 7,000 words each.
    """
    arguments = generation.word(), *_counted_words(commands)
    return script_call(_READ, keys=(keys.checkpoint(shard),), arguments=arguments, undeclared=shard)


def read_replies(reply: Any) -> list[Any]:
    """Returns the replies to the commands of `read_call`, as Redis sends them.

    Raises GenerationChangedError if the shard does not have the generation any more.
    """
    if reply == -1:
        raise GenerationChangedError
    replies: list[Any] = reply
    return replies


def records_command(prefix: str, recipients: Iterable[bytes], buckets: int) -> ReadCommand:
    """Returns a command for `read_call`. Its reply is the value of each recipient, or None.

    prefix: beginning of the keys of the hashes, without the bucket number at their end. buckets: number of
    hashes.
    """
    return (_READ_RECORDS, prefix, b"".join(recipients), buckets)


def read_at(store: Redis, shard: int, generation: Generation, make: Callable[[Pipeline], Reader[T]]) -> T:
    """Runs a reader of one shard, as `readers.read` does. Each of its steps is one `read_call`.

    The reader gets replies as Redis sends them: for example, the reply to HGETALL is a flat list. Raises
    GenerationChangedError.
    """
    queue = _ReadQueue(is_transaction=False)

    def execute() -> list[Any]:
        commands = [words for words, _ in queue.take()]
        return read_replies(store.eval(*read_call(shard, generation, commands)))

    return readers.run(make(cast(Pipeline, queue)), execute)


class _ReadQueue(QueuedCommands, CoreCommands):
    """Queues the commands of a reader. They are sent as the arguments of a script."""

    _event_dispatcher: Any = None  # the type of CoreCommands names it


async def read_newest_ms(store: AsyncRedis, shard: int) -> int:
    """Returns the time of a shard's newest hit (ms), 0 if no hit is known."""
    return int(await store.hget(keys.checkpoint(shard), "newest") or 0)


def commit(
    store: Redis,
    shard: int,
    generation: Generation,
    last_entry: str,
    commands: Iterable[Command],
    records: Records | None = None,
) -> Generation | None:
    """Carries out commands if the shard still has this generation.

    Returns the new generation. Returns None, and does nothing, if another writer was first, or if the store
    has lost entries.
    last_entry: the id of the last entry that the commands count, or ''. Entries up to that id are removed.
    records: recipients' records to set; this is faster than a command for each record.
    """
    new = generation.next()
    call = _commit_call(
        shard, generation=generation, new=new, last_entry=last_entry, commands=commands, records=records
    )
    return new if int(store.eval(*call)) > 0 else None


def take_lead(store: Redis, shard: int) -> None:
    """Makes other writers of this shard wait, for at most LEAD_MS. Does nothing while there is a lead."""
    with suppress(redis.ResponseError):  # a full Redis refuses the command
        store.set(keys.lead(shard), b"1", px=LEAD_MS, nx=True)


def end_lead(store: Redis, shard: int) -> None:
    """Ends the lead, so that the waiting writers go on."""
    store.delete(keys.lead(shard))


async def raise_generation(store: AsyncRedis, shard: int) -> None:
    """Raises the generation, so that no writer that has read the old generation can commit.

    Another writer may raise the generation between the two commands: the effect is the same.
    """
    generation = await _await_generation(store, shard)
    await store.eval(*_commit_call(shard, generation=generation, new=generation.next()))


async def commit_always(store: AsyncRedis, shard: int, commands: Iterable[Command]) -> None:
    """Carries out commands that do not depend on the shard's state.

    Another writer that has read the old generation cannot commit afterwards.
    """
    fixed = list(commands)

    async def plan(generation: Generation) -> list[Command]:
        return fixed

    await plan_and_commit(store, shard, plan)


async def plan_and_commit(
    store: AsyncRedis, shard: int, plan: Callable[[Generation], Awaitable[list[Command]]]
) -> None:
    """Carries out the commands that `plan` returns; calls `plan` again if another writer was first.

    plan: is passed the generation, and reads the shard's values with `read_call`.
    """
    while True:
        generation = await _await_generation(store, shard)
        try:
            commands = await plan(generation)
        except GenerationChangedError:
            continue
        call = _commit_call(shard, generation=generation, new=generation.next(), commands=commands)
        if int(await store.eval(*call)) > 0:
            return


async def _await_generation(store: AsyncRedis, shard: int) -> Generation:
    """Returns the generation once no roll-up has the lead, or after LEAD_MS."""
    deadline = time.monotonic() + LEAD_MS / 1000
    while True:
        pipe = store.pipeline(transaction=False)
        pipe.exists(keys.lead(shard))
        pipe.hmget(keys.checkpoint(shard), ["n", "mark"])
        is_led, fields = await pipe.execute()
        if not is_led or time.monotonic() >= deadline:
            return _generation(fields)
        await asyncio.sleep(_LEAD_POLL_SECONDS)


def _commit_call(
    shard: int,
    *,
    generation: Generation,
    new: Generation,
    last_entry: str = "",
    commands: Iterable[Command] = (),
    records: Records | None = None,
) -> ScriptCall:
    """Returns the call of _COMMIT."""
    pairs: list[str | bytes] = []
    for prefix, values in (records or {}).items():
        pairs += (prefix, b"".join(values))
    counts = keys.PEOPLE_BUCKETS, len(pairs) // 2
    return script_call(
        _COMMIT,
        keys=(keys.checkpoint(shard), keys.hits(shard), keys.changed(shard)),
        arguments=(generation.word(), *new, last_entry, *counts, *pairs, *_counted_words(commands)),
        undeclared=shard,
    )


def _counted_words(commands: Iterable[ReadCommand]) -> list[Value]:
    """Returns the words of each command, after their number."""
    words: list[Value] = []
    for command in commands:
        words.append(len(command))
        words += command
    return words
