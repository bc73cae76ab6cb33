"""Writing batches into a shard's stream, each once: the idempotent producer.

Each batch carries (producer id, sequence number of that shard). A producer has one batch of a shard on
its way at a time and repeats it, unchanged, until it is answered; so a number not above the last one
seen is a repeat. Ids begin with the time they were made (12 hex digits of ms, then 16 random), so that
one that was pruned after 30 idle days can be told from a new one: it lies below the floor.

Clocks may be wrong for a while. An id from the future is not pruned before its time, or the floor would lie
above all that are made from then on; and who is refused is told the floor, and makes an id above it.
"""

from __future__ import annotations

import secrets

IDLE_MS = 30 * 86_400_000

APPEND = """
-- KEYS: stream, producers. ARGV: producer id, sequence number, ms now, name of the field, batch; the mark of
-- the store as the producer knows it, '' or nothing for any. Error NOTOURS: the store has another mark,
-- so it was emptied or replaced; nothing was appended.
-- Returns the number last seen from that producer before this (0: none); below 0: the producer is unknown and
-- older than the floor, see `floor`. Appends only if the number is above the last one.
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
if tonumber(ARGV[2]) <= seen then return seen end
redis.call('XADD', KEYS[1], '*', ARGV[4], ARGV[5])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
return seen
"""

PRUNE = """
-- KEYS: producers. ARGV: ms, before which an idle producer made before goes. Returns how many went.
-- The floor rises to just above the newest that went, never falls.
local gone, floor = {}, redis.call('HGET', KEYS[1], 'floor') or ''
local all, before = redis.call('HGETALL', KEYS[1]), string.format('%012x', ARGV[1])
for i = 1, #all, 2 do
  local idle = tonumber(string.match(all[i + 1], ' (%d+)$') or 'x')
  if all[i] ~= 'floor' and idle and idle < tonumber(ARGV[1]) and all[i] < before then
    gone[#gone + 1] = all[i]
    if all[i] >= floor then floor = all[i] .. '~' end
  end
end
if #gone == 0 then return 0 end
redis.call('HSET', KEYS[1], 'floor', floor)
for _, id in ipairs(gone) do redis.call('HDEL', KEYS[1], id) end
return #gone
"""

OLDEST = """
-- KEYS: stream. Returns the id of its first entry, or ''. Entries go as they are counted.
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
return first and first[1] or ''
"""


def new_id(now: float, floor: int = 0) -> str:
    """A producer id made at `now` (s), or above this floor (ms) if that is later."""
    return f"{max(int(now * 1000), floor + 1):012x}{secrets.token_hex(8)}"


def floor(refused: int) -> int:
    """The floor (ms) that a producer lies below. refused: what APPEND answered, below 0."""
    return -1 - refused
