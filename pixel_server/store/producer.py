"""Writing batches into a shard's stream, each once: the idempotent producer.

Each batch carries (producer id, sequence number of that shard). A producer repeats a batch, unchanged, until
it is answered; so a number not above the last number seen is a repeat.

A producer may have several batches of a shard on their way. Each but the first names the number before its
own (`after`), and is appended only if Redis has seen that number. So when a batch fails, none behind it is
appended, whatever the network delays, loses or reorders; otherwise the repeat of the failed batch would be
taken for a duplicate, and its hits lost. The first batch names none: if Redis came back without its newest
data, the batch is appended all the same, and what Redis had seen shows the gap.

Ids begin with the time they were made (12 hex digits of ms, then 16 random), so that an id that was pruned
after 30 idle days can be told from a new id: it lies below the floor.

When a producer was last seen is noted by Redis's clock. Other clocks may be wrong for a while. An id from the
future is not pruned before its time, or the floor would lie above all that are made from then on; and who is
refused is told the floor, and makes an id above it.
"""

from __future__ import annotations

import secrets

from pixel_server.times import DAY_MS

IDLE_MS = 30 * DAY_MS
"""Milliseconds after which an idle producer is pruned."""
MAX_PRODUCERS = 4096
"""Producers kept of a shard. Beyond that those idle longest go, if they are idle for CROWDED_IDLE_MS."""
CROWDED_IDLE_MS = 7 * DAY_MS
"""Milliseconds that a producer is kept at least: what lies in a spool for longer may be set aside."""

APPEND = """
-- KEYS: stream, producers. ARGV: producer id, sequence number, name of the field, batch, and `after`: the
-- number that must have been seen, 0 if none must; the mark of the store as the producer knows it, '' or
-- nothing for any. Error NOTOURS: the store has another mark, so it was emptied or replaced; nothing was
-- appended.
-- Returns the number last seen from that producer before this (0: none); below 0: the producer is unknown and
-- older than the floor, see `floor`. Appends only if the number is above the last number seen, and that one
-- is not below `after`.
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
if tonumber(ARGV[2]) <= seen or seen < tonumber(ARGV[5]) then return seen end
redis.call('XADD', KEYS[1], '*', ARGV[3], ARGV[4])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. ' ' .. redis.call('TIME')[1] .. '000')
return seen
"""

PRUNE = (
    f"#!lua flags=allow-oom\nlocal MOST, SOONER = {MAX_PRODUCERS}, {IDLE_MS - CROWDED_IDLE_MS}"
    + """
-- KEYS: producers. ARGV: ms, before which an idle producer made before goes. Returns how many went.
-- Where too many are left, those idle longest go, too. The floor rises to just above the newest that went,
-- never falls.
local gone, floor, crowd = {}, redis.call('HGET', KEYS[1], 'floor') or '', {}
local all, before = redis.call('HGETALL', KEYS[1]), string.format('%012x', ARGV[1])
local recent = tonumber(ARGV[1]) + SOONER
local made_before = string.format('%012x', recent)
local function drop(id)
  gone[#gone + 1] = id
  if id >= floor then floor = id .. '~' end
end
for i = 1, #all, 2 do
  local idle = tonumber(string.match(all[i + 1], ' (%d+)$') or 'x')
  if all[i] ~= 'floor' and idle then
    if idle < tonumber(ARGV[1]) and all[i] < before then
      drop(all[i])
    elseif idle < recent and all[i] < made_before then
      crowd[#crowd + 1] = {idle, all[i]}
    end
  end
end
table.sort(crowd, function(a, b) return a[1] < b[1] end)
local many = #all / 2 - #gone - MOST
for i = 1, math.min(many, #crowd) do drop(crowd[i][2]) end
if #gone == 0 then return 0 end
redis.call('HSET', KEYS[1], 'floor', floor)
for _, id in ipairs(gone) do redis.call('HDEL', KEYS[1], id) end
return #gone
"""
)

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
