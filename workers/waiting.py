"""What waits in a shard's stream, read for one pass: bounded by its hits, however many lie in an entry."""

from __future__ import annotations

from typing import NamedTuple

from pixel_server import hit, keys
from pixel_server.hit import Hit, Unreadable
from pixel_server.store import Redis

Entry = tuple[bytes, list[bytes]]
"""(id, names and values in turn)"""

_READ = """
-- KEYS: hits. ARGV: id of the entry before the first; hits at which it stops; entries at most.
-- Returns entries as XRANGE does. How many hits an entry holds stands in the head of its batch, a msgpack
-- array; what is none is taken for one.
local out, hits, from = {}, 0, '(' .. ARGV[1]
local most, entries = tonumber(ARGV[2]), tonumber(ARGV[3])
while hits < most and #out < entries do
  local found = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', math.min(8, entries - #out))
  if #found == 0 then break end
  for _, entry in ipairs(found) do
    if hits >= most then break end
    out[#out + 1] = entry
    for i = 2, #entry[2], 2 do
      local head, high, low = string.byte(entry[2][i], 1, 3)
      if head == 0xdc and low then hits = hits + high * 256 + low
      elseif head and head > 0x90 and head < 0xa0 then hits = hits + head - 0x90
      else hits = hits + 1 end
    end
    from = '(' .. entry[1]
  end
end
return {out, hits}
"""


class Decoded(NamedTuple):
    """last: id of the last entry taken, None: not even the first. newer: id of one of a newer format."""

    hits: list[Hit]
    unreadable: list[Unreadable]
    last: str | None
    newer: str


def read(store: Redis, shard: int, last: str, hits: int, entries: int) -> tuple[list[Entry], bool]:
    """The entries after this one, and whether it stopped with so many hits or entries.

    The last entry may go beyond; a recorder writes at most 1,000 hits in one.
    """
    found, held = store.eval(_READ, 1, keys.hits(shard), last, hits, entries)
    return found, held >= hits or len(found) >= entries


def decode(entries: list[Entry]) -> Decoded:
    hits: list[Hit] = []
    unreadable: list[Unreadable] = []
    last: str | None = None
    for entry, fields in entries:
        for name, data in zip(fields[::2], fields[1::2], strict=True):
            if name.isdigit() and int(name) > hit.FORMAT:
                return Decoded(hits, unreadable, last, entry.decode())
            if name != b"%d" % hit.FORMAT:
                unreadable.append(Unreadable(data, f"entry: field {name[:20]!r}"))
                continue
            good, bad = hit.decode_batch(data)
            hits += good
            unreadable += bad
        last = entry.decode()
    return Decoded(hits, unreadable, last, "")
