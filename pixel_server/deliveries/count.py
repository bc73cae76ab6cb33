"""Counts what mail services tell: distinct recipients by state, see `counters.delivery_record`.

The facts of a recipient lie beside the other data of the campaign's recipients, in the recipient's shard.
One script adds facts and changes the totals, so a total is always the number of recipients with its facts.
The script is idempotent: if its reply is lost, or a provider sends an event again, the second run changes
nothing.

As in `recipients.lists`, the script writes only if the shard's generation is the same as before the campaign
and the withdrawals were read. Erasure, retention and deletion raise the generation before they remove data.
So an event cannot bring removed data back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pixel_server.campaigns import retention, storage
from pixel_server.counters import delivery_record
from pixel_server.counters.delivery_record import Kind
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.recipients import lists, withdrawals
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import checkpoint, keys
from pixel_server.store.checkpoint import IF_SAME_GENERATION, Generation
from pixel_server.store.noted_changes import NOTE_CHANGES
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import ScriptCall, script_call
from pixel_server.store.shards import shard_of

FactsByKey = Mapping[bytes, int]
"""Facts of recipients, by recipient key. See `delivery_record.FACTS`."""
MAX_AT_ONCE = 1000
"""Largest number of recipients that one call of `add` should have. A script then takes some milliseconds."""


class Added(NamedTuple):
    """Numbers of recipients: with a new fact, with known facts only, and left out because they withdrew."""

    new: int = 0
    known: int = 0
    withdrawn: int = 0


_ADD = (
    IF_SAME_GENERATION
    + NOTE_CHANGES
    + f"""
-- KEYS: checkpoint, total, changed. ARGV: generation as read, prefix of the keys of the hashes, number of
-- hashes, then for each recipient the recipient key (8 bytes) and the facts (1 byte), all in one string.
-- Returns the number of recipients with a new fact. Returns -2, and does nothing, if a newer version wrote
-- one of the records.
local HARD, SOFT, COMPLAINED, UNSUBSCRIBED = {delivery_record.BOUNCED_HARD}, {delivery_record.BOUNCED_SOFT},
  {delivery_record.COMPLAINED}, {delivery_record.UNSUBSCRIBED}
local byte, sub, has = string.byte, string.sub, bit.band
local function state(facts)
  if has(facts, HARD) ~= 0 then return 'bounced_hard' end
  return facts == SOFT and 'bounced_soft' or 'delivered'
end
local records = {{}}
for i = 1, #ARGV[4], 9 do
  local key = sub(ARGV[4], i, i + 7)
  local bucket = (byte(key, 5) * 256 + byte(key, 6)) % tonumber(ARGV[3])
  local name = ARGV[2] .. string.format('%03x', bucket)
  local value = redis.call('HGET', name, key)
  if value and (#value ~= 2 or byte(value, 1) > {delivery_record.FORMAT}) then return -2 end
  local before = value and byte(value, 2) or 0
  records[#records + 1] = {{name, key, before, bit.bor(before, byte(ARGV[4], i + 8))}}
end
local sums, new = {{}}, 0
local function count(total, number) sums[total] = (sums[total] or 0) + number end
for _, record in ipairs(records) do
  local name, key, before, after = unpack(record)
  if after ~= before then
    new = new + 1
    redis.call('HSET', name, key, string.char({delivery_record.FORMAT}, after))
    if before ~= 0 then count(state(before), -1) end
    count(state(after), 1)
    if has(after, COMPLAINED) > has(before, COMPLAINED) then count('complained', 1) end
    if has(after, UNSUBSCRIBED) > has(before, UNSUBSCRIBED) then count('unsubscribed', 1) end
  end
end
if new == 0 then return 0 end
for total, number in pairs(sums) do
  if number ~= 0 then redis.call('HINCRBY', KEYS[2], total, number) end
end
local names = {{}}
note_change(names, KEYS[2])
store_changes(KEYS[3], names)
return new
"""
)


def _add_call(shard: int, campaign: str, facts: FactsByKey, *, generation: Generation) -> ScriptCall:
    packed = b"".join(key + bytes((fact,)) for key, fact in facts.items())
    return script_call(
        _ADD,
        keys=(keys.checkpoint(shard), keys.total(shard, campaign), keys.changed(shard)),
        arguments=(
            generation.word(),
            keys.deliveries.prefix(shard, campaign),
            keys.PEOPLE_BUCKETS,
            packed,
        ),
        undeclared=shard,
    )


async def begin(store: AsyncRedis, campaign: str, settings: Settings, now: float) -> None:
    """Opens a campaign for events. Call it before the first `add`.

    The first event counts as a use of the campaign, so that retention removes its recipients some day. Later
    events do not prolong their time. Raises UnknownCampaign, or ListClosed if the campaign keeps, or from now
    on keeps, no recipients.
    """
    stored, uses = await storage.get_uses(store, campaign)
    lists.refuse_closed(stored, with_names=False)
    sent_at = retention.sending_time(stored, uses)
    days = retention.campaign_days(settings, stored)
    if retention.is_over(sent_at, days.recipients, now):
        raise lists.ListClosed("this campaign's time to keep recipients is over")
    if sent_at is None:
        await storage.note_upload(store, campaign, now)
    if stored.leaving.recipients or stored.gone.recipients:
        await storage.amend(store, campaign, lists.reopen_without_names, is_announced=False)


async def add(store: AsyncRedis, secrets: Secrets, campaign: str, facts: FactsByKey, shards: int) -> Added:
    """Adds facts of recipients of a campaign. Leaves out recipients who withdrew.

    Raises UnknownCampaign, ListClosed as `begin`, and NewerFormat if a newer version wrote a record.
    """
    waiting: dict[int, dict[bytes, int]] = {}  # facts by shard
    for key, fact in facts.items():
        waiting.setdefault(shard_of(key, shards), {})[key] = fact
    new = withdrawn = 0
    while waiting:
        generations = {shard: await checkpoint.read_generation(store, shard) for shard in waiting}
        stored = await storage.get(store, campaign)
        lists.refuse_closed(stored, with_names=False)
        if stored.leaving.recipients:
            raise lists.ListClosed("this campaign's time to keep recipients is over")
        waiting_keys = [key for shard_facts in waiting.values() for key in shard_facts]
        left_out = await withdrawals.withdrawn_now(store, secrets, waiting_keys)
        pipe = store.pipeline(transaction=False)
        for shard, shard_facts in waiting.items():
            allowed = {key: fact for key, fact in shard_facts.items() if key not in left_out}
            pipe.eval(*_add_call(shard, campaign, allowed, generation=generations[shard]))
        for shard, added in zip(list(waiting), await pipe.execute(), strict=True):
            if added == -2:
                raise NewerFormat(f"deliveries of {campaign} in a newer format")
            if added >= 0:
                new += added
                withdrawn += len(left_out.intersection(waiting.pop(shard)))
    return Added(new, len(facts) - new - withdrawn, withdrawn)


def merge_facts(kinds: list[tuple[bytes, Kind]]) -> dict[bytes, int]:
    """Returns the facts of each recipient key. kinds: pairs of a recipient key and a kind of event."""
    facts: dict[bytes, int] = {}
    for key, kind in kinds:
        facts[key] = facts.get(key, 0) | delivery_record.FACTS[kind]
    return facts
