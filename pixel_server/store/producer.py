"""The idempotent producer: writes each batch into a shard's stream exactly once.

Each batch carries a producer id and a sequence number of that producer and shard. A producer repeats a batch,
unchanged, until it gets a reply. So a number that is not above the last number seen is a repeat.

A producer may have several batches of a shard under way. Each batch but the first names the number before its
own (`after`), and is appended only if Redis has seen that number. So when a batch fails, no later batch
is appended, whatever the network delays, loses or reorders. Otherwise the repeat of the failed batch would be
taken for a duplicate, and its hits would be lost. The first batch names no number: if Redis came back without
its newest data, the batch is appended all the same, and the number that Redis had seen shows the gap.

An id begins with the time at which it was made: 12 hexadecimal digits of milliseconds, then 16 random digits.
A producer that is idle for 30 days is pruned, and the shard's floor, the lowest id that may be new, rises
above the pruned id. So an id that was pruned can be told from a new id: the pruned id lies below the floor.

Redis's clock tells when a producer was last seen. Other clocks may be wrong for a while. An id whose time is
in the future is not pruned before that time: otherwise the floor would lie above all ids that are made until
then. A producer that is refused gets the floor in the reply, and makes an id above it.
"""

from __future__ import annotations

import secrets

from pixel_server.store import keys
from pixel_server.store.key import Tag
from pixel_server.store.protocols import Pipeline, Redis
from pixel_server.store.script import EVEN_IF_FULL, ScriptCall, script_call

IDLE_MS = 30 * 86_400_000
"""Milliseconds after which an idle producer is pruned."""
MAX_PRODUCERS = 4096
"""Producers that a shard keeps. If there are more, the producers that were idle longest are pruned, but none
that was seen within CROWDED_IDLE_MS."""
CROWDED_IDLE_MS = 7 * 86_400_000
"""Milliseconds for which every producer is kept, even above MAX_PRODUCERS. A batch that waits longer in the
spool may be set aside."""

APPEND = """
-- KEYS: stream, producers. ARGV: producer id; sequence number; name of the field; batch; `after`, the number
-- that must have been seen, or 0; the mark of the store as the producer knows it, or '' or nothing for any
-- store; any word if WAIT follows. Fails with NOTOURS if the store has another mark: it was emptied or
-- replaced, and nothing was appended.
-- Returns the last sequence number seen from that producer before this batch, 0 for a new producer. Returns a
-- number below 0 if the producer is unknown and older than the floor (see `floor`). Appends the batch only if
-- its sequence number is above the last number seen, and the last number seen is not below `after`.
local known = redis.call('HGET', KEYS[2], ARGV[1])
if not known then
  local mark = ARGV[6] or ''
  if mark ~= '' and redis.call('HGET', KEYS[2], 'mark') ~= mark then
    return redis.error_reply('NOTOURS the store was emptied, or is another one')
  end
  local floor = redis.call('HGET', KEYS[2], 'floor')
  if floor and ARGV[1] < floor then return -1 - tonumber(string.sub(floor, 1, 12), 16) end
end
local seen = known and tonumber(string.match(known, '^%d+')) or 0
if tonumber(ARGV[2]) <= seen then
  -- WAIT waits for the last write of its own connection only, so a repeat must write too.
  if ARGV[7] then redis.call('HSET', KEYS[2], ARGV[1], known) end
  return seen
end
if seen < tonumber(ARGV[5]) then return seen end
redis.call('XADD', KEYS[1], '*', ARGV[3], ARGV[4])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. ' ' .. redis.call('TIME')[1] .. '000')
return seen
"""

_PRUNE = (
    EVEN_IF_FULL
    + """
-- KEYS: producers. ARGV: a time (ms); a number; a later time (ms). Prunes the producers that were made and
-- last seen before the first time. If more producers than the number are left, also prunes those that were
-- idle longest, but none that was made or seen at the later time or afterwards. Returns how many producers
-- were pruned. The floor rises to just above the newest pruned id, and never falls.
local pruned, floor, crowd = {}, redis.call('HGET', KEYS[1], 'floor') or '', {}
local all, before = redis.call('HGETALL', KEYS[1]), string.format('%012x', ARGV[1])
local recent = tonumber(ARGV[3])
local made_before = string.format('%012x', recent)
local function drop(id)
  pruned[#pruned + 1] = id
  if id >= floor then floor = id .. '~' end
end
for i = 1, #all, 2 do
  local seen_at = tonumber(string.match(all[i + 1], ' (%d+)$') or 'x')
  if all[i] ~= 'floor' and seen_at then
    if seen_at < tonumber(ARGV[1]) and all[i] < before then
      drop(all[i])
    elseif seen_at < recent and all[i] < made_before then
      crowd[#crowd + 1] = {seen_at, all[i]}
    end
  end
end
table.sort(crowd, function(a, b) return a[1] < b[1] end)
local many = #all / 2 - #pruned - tonumber(ARGV[2])
for i = 1, math.min(many, #crowd) do drop(crowd[i][2]) end
if #pruned == 0 then return 0 end
redis.call('HSET', KEYS[1], 'floor', floor)
for _, id in ipairs(pruned) do redis.call('HDEL', KEYS[1], id) end
return #pruned
"""
)

MAX_WAIT_SECONDS = 60
"""Largest number of seconds that a hit may wait to be counted before the operator is warned."""

_OLDEST_ENTRY = """
-- KEYS: stream. Returns the id of its first entry, or ''.
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
return first and first[1] or ''
"""

_COUNTED_UNTIL = """
-- KEYS: stream. Returns an instant (ms): the time of its first entry, or else the time of this node.
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if first then return tonumber(string.match(first[1], '^%d+')) end
local now = redis.call('TIME')
return now[1] * 1000 + math.floor(now[2] / 1000)
"""


def prune(store: Redis, shard: int, *, idle_since_ms: int, max_producers: int = MAX_PRODUCERS) -> int:
    """Removes a shard's producers that were last seen before `idle_since_ms`.

    If more than `max_producers` would stay, also removes producers that were idle longest. Returns the number
    of removed producers.
    """
    return int(store.eval(*prune_call(shard, idle_since_ms=idle_since_ms, max_producers=max_producers)))


def prune_call(shard: int, *, idle_since_ms: int, max_producers: int = MAX_PRODUCERS) -> ScriptCall:
    """Returns the call of the script that `prune` runs."""
    crowded_since_ms = idle_since_ms + IDLE_MS - CROWDED_IDLE_MS
    arguments = idle_since_ms, max_producers, crowded_since_ms
    return script_call(_PRUNE, keys=(keys.producers(shard),), arguments=arguments)


def queue_oldest_entry(pipe: Pipeline, shard: int) -> None:
    """Queues a command whose reply is the id of the oldest entry that a shard has not counted, or `b""`."""
    pipe.eval(*script_call(_OLDEST_ENTRY, keys=(keys.hits(shard),)))


def queue_counted_until(pipe: Pipeline, shard: Tag) -> None:
    """Queues a command whose reply is an instant (ms). Every hit that reached the shard before that instant
    is counted.

    The instant is by the clock of the shard's own node, as are the ids of the entries.
    """
    pipe.eval(*script_call(_COUNTED_UNTIL, keys=(keys.hits(shard),)))


def new_id(now: float, floor: int = 0) -> str:
    """Returns a producer id made at `now` (s), or above this floor (ms) if the floor is later.

    `"018f39b09f00"` and 16 random digits are an id made at 1714659827456 ms.
    """
    return f"{max(int(now * 1000), floor + 1):012x}{secrets.token_hex(8)}"


def floor(refusal: int) -> int:
    """Returns the floor (ms) that a refused producer lies below. refusal: a reply of APPEND below 0."""
    return -1 - refusal
