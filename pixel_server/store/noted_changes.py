"""Notes which values of a shard changed, for `merged`, in the script that changes them."""

from __future__ import annotations

from collections.abc import Sequence

from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import EVEN_IF_FULL, script_call

WHOLE_KINDS = ("total", "rules", "web", "buckets", "addresses", "visitors")
"""Kinds of keys whose whole value is merged at once. Of `months` and `breakdown` each field is merged."""

NOTE_CHANGES = """
-- Adds the name of a value to `names` if the value is merged over all shards.
local whole_kinds = {total = 1, rules = 1, web = 1, buckets = 1, addresses = 1, visitors = 1}
local function note_change(names, key, field)
  local kind, rest = string.match(key, '^px:{%d+}:(%a+):(.+)$')
  if kind == 'months' or kind == 'breakdown' then
    names[kind .. ':' .. rest .. ' ' .. field] = true
  elseif whole_kinds[kind] then
    names[kind .. ':' .. rest] = true
  end
end
-- Stores the names under the next number. Does nothing if the shard's values are not merged.
local function store_changes(changed, names, mark)
  local newest = redis.call('ZREVRANGE', changed, 0, 0, 'WITHSCORES')
  if #newest == 0 then return end
  if not mark then
    local now = redis.call('TIME')
    mark = now[1] .. '.' .. now[2]
  end
  local number = string.format('%.0f', newest[2] + 1)
  for name in pairs(names) do redis.call('ZADD', changed, number, name) end
  redis.call('ZADD', changed, number, '=' .. mark)
end
"""
"""Functions for scripts that change values."""

_REMOVE = (
    EVEN_IF_FULL
    + NOTE_CHANGES
    + """
-- KEYS: changed. ARGV: names of keys. Removes the keys, and notes those that existed. Returns their number.
local names, removed = {}, 0
for _, key in ipairs(ARGV) do
  if redis.call('UNLINK', key) == 1 then
    removed = removed + 1
    note_change(names, key)
  end
end
if removed > 0 then store_changes(KEYS[1], names) end
return removed
"""
)


async def remove(store: AsyncRedis, shard: int, key_names: Sequence[str]) -> int:
    """Removes keys of a shard, and notes those of WHOLE_KINDS. Returns the number of removed keys."""
    noted = [name for name in key_names if name.split(":")[2] in WHOLE_KINDS]
    others = [name for name in key_names if name.split(":")[2] not in WHOLE_KINDS]
    removed = int(await store.unlink(*others)) if others else 0
    if noted:
        call = script_call(_REMOVE, keys=(keys.changed(shard),), arguments=noted, undeclared=shard)
        removed += int(await store.eval(*call))
    return removed
