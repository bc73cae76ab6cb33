"""Reads the stream entries of one pass, and decodes their hits. A pass is bounded by the number of hits."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from pixel_server.hit import FORMAT, Hit, UnreadableData, decode_batch
from pixel_server.store import keys
from pixel_server.store.checkpoint import Checkpoint, unpack_checkpoint
from pixel_server.store.protocols import Redis
from pixel_server.store.script import ScriptCall, script_call

Entry = tuple[bytes, dict[bytes, bytes]]
"""(id, fields) of a stream entry: `(b"1749546000000-0", {b"1": batch})`. A field's name is its format."""

READ_BYTES = 1 << 20
"""Bytes of entries after which one round trip reads no more. A recorder writes up to 640 KB in one entry."""
FIRST_ENTRIES, MAX_ENTRIES = 8, 128
"""Number of entries that the script reads first, and largest number that it reads at once."""
LONG_HIT_BYTES = 1024
"""Bytes of a batch that count as at least one hit. So the memory of a pass is bounded, too."""
MAX_AHEAD_MS = 60_000
"""Milliseconds that a hit's time may be ahead of Redis's time when Redis stored the hit."""
_ARRAY_16 = 0xDC
"""First byte of a msgpack array whose length follows in 2 bytes."""

_READ = f"""
-- KEYS: checkpoint, hits. ARGV: id to read after, '' for the id of the checkpoint; largest number of entries.
-- Returns the checkpoint's fields n, mark, id and newest; entries of about READ_BYTES; 1 if more may wait, or
-- -1 if the stream lacks the entry to read after: then the store has lost entries.
local call, min = redis.call, math.min
local fields = call('HMGET', KEYS[1], 'n', 'mark', 'id', 'newest')
if ARGV[1] ~= '' and #call('XRANGE', KEYS[2], ARGV[1], ARGV[1]) == 0 then return {{fields, {{}}, -1}} end
local after = ARGV[1] ~= '' and ARGV[1] or fields[3] or '0-0'
local most, entries, size, step, has_more = tonumber(ARGV[2]), {{}}, 0, {FIRST_ENTRIES}, 1
while #entries < most and size < {READ_BYTES} do
  local count = min(step, most - #entries)
  local part = call('XRANGE', KEYS[2], '(' .. after, '+', 'COUNT', count)
  for _, entry in ipairs(part) do
    entries[#entries + 1] = entry
    for _, word in ipairs(entry[2]) do size = size + #word end
  end
  if #part < count then
    has_more = 0
    break
  end
  after = entries[#entries][1]
  step = min({MAX_ENTRIES}, 1 + math.floor(({READ_BYTES} - size) * #entries / size))
end
return {{fields, entries, has_more}}
"""


def _read_call(shard: int, *, after: str, max_entries: int) -> ScriptCall:
    return script_call(_READ, keys=(keys.checkpoint(shard), keys.hits(shard)), arguments=(after, max_entries))


class Decoded(NamedTuple):
    """The hits of some entries.

    unreadable: hits that cannot be decoded. last_entry: id of the last entry decoded, or None if the first
    entry has a newer format. newer_entry: id of the first entry of a newer format, or "" without such an
    entry. ahead: number of hits whose time was ahead of Redis's time.
    """

    hits: list[Hit]
    unreadable: list[UnreadableData]
    last_entry: str | None
    newer_entry: str
    ahead: int


def read_pass(
    store: Redis, shard: int, max_hits: int, max_entries: int
) -> tuple[Checkpoint, list[Entry], bool]:
    """Returns the checkpoint of a shard, the entries after it, and whether the reading stopped at a limit.

    The last entry may go beyond `max_hits`. See LONG_HIT_BYTES. If the shard has changed between two round
    trips, the later entries may not follow the earlier entries, and are left out.
    """
    checkpoint, after = None, ""
    entries: list[Entry] = []
    hits = 0
    while True:
        fields, part, has_more = store.eval(
            *_read_call(shard, after=after, max_entries=max_entries - len(entries))
        )
        present = unpack_checkpoint(fields)
        checkpoint = checkpoint or present
        if present.generation != checkpoint.generation or has_more < 0:
            return checkpoint, entries, True
        for entry, flat_fields in part:
            if hits < max_hits:
                entries.append((entry, dict(zip(flat_fields[::2], flat_fields[1::2], strict=True))))
                hits += sum(map(_estimate_hits, flat_fields[1::2]))
        is_limited = hits >= max_hits or len(entries) >= max_entries
        if is_limited or not has_more:
            return checkpoint, entries, is_limited
        after = part[-1][0].decode()


def _estimate_hits(batch: bytes) -> int:
    """Returns the number of hits in a batch, from the head of its msgpack array.

    A long hit counts as several hits (LONG_HIT_BYTES). A value that is not a batch counts as one hit.
    """
    head = batch[0] if batch else 0
    hits = int.from_bytes(batch[1:3], "big") if head == _ARRAY_16 else head & 0x0F if head >> 4 == 9 else 1
    return max(1, hits, len(batch) // LONG_HIT_BYTES)


def decode_entries(entries: list[Entry], max_ahead_ms: int = MAX_AHEAD_MS) -> Decoded:
    """Returns the hits of these entries, up to the first entry of a newer format.

    A hit whose time is more than `max_ahead_ms` after that of its entry has the time of a wrong clock. The
    hit gets the time of its entry, which is Redis's: otherwise all other hits would be late beside it. The
    result depends neither on the time of reading nor on the reader's clock.
    """
    ahead = 0
    hits: list[Hit] = []
    unreadable: list[UnreadableData] = []
    last_entry: str | None = None
    for entry, fields in entries:
        for name, data in fields.items():
            if name.isdigit() and int(name) > FORMAT:
                return Decoded(hits, unreadable, last_entry, entry.decode(), ahead)
            if name != b"%d" % FORMAT:
                unreadable.append(UnreadableData(data, f"entry: field {name[:20]!r}"))
                continue
            batch, unreadable_hits = decode_batch(data)
            stored_ms = int(entry.partition(b"-")[0])
            latest_ms = stored_ms + max_ahead_ms
            for i, hit in enumerate(batch):
                if hit.time > latest_ms:
                    batch[i] = msgspec.structs.replace(hit, time=stored_ms)
                    ahead += 1
            hits += batch
            unreadable += unreadable_hits
        last_entry = entry.decode()
    return Decoded(hits, unreadable, last_entry, "", ahead)
