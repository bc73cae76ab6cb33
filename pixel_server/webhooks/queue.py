"""The queue of an endpoint: the events that wait, and the requests that carry them.

An event is queued once, under its id. What is sent, and tried again, is a unit: one event, or a list of
events that were claimed together. A unit is fixed by the script that claims it for the first time, so that
each of its tries has the same id and the same events. The unit of one event has the event's id.

    keys.hook_events    id of an event: mark of its recipient (8 bytes, or zeros), stored event
    keys.hook_units     id of a unit: "0 1790000000000 evt_1f evt_2b", that is, the number of its tries, the
                        time (ms) when its oldest event was queued, its events
    keys.hook_due       id of a unit, by the time (ms) of its next try
    keys.hook_aside     id of a unit that is tried no more, by the time (ms) when it was set aside

A claimed unit is left alone for LEASE_SECONDS. If the process that claimed it dies, the unit is then due
again, and the endpoint may get it twice, under the same id. No event on a recipient who has withdrawn is
queued or sent: the scripts look into the list of withdrawals, which lies in the same slot.
"""

from __future__ import annotations

import secrets as random
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis, Value
from pixel_server.store.script import EVEN_IF_FULL, ScriptCall, script_call
from pixel_server.times import DAY, DAY_MS
from pixel_server.webhooks import deliveries, event
from pixel_server.webhooks.deliveries import Delivery
from pixel_server.webhooks.endpoint import Endpoint
from pixel_server.webhooks.event import Event

MARK_BYTES = 8
NO_MARK = bytes(MARK_BYTES)
"""Mark of an event that stays when a recipient withdraws."""
LEASE_SECONDS = 20
"""Seconds for which a claimed unit is left alone. Longer than any try, see `request.TIMEOUT_SECONDS`."""
MAX_AGE_SECONDS = DAY
"""Seconds after which a unit that cannot be delivered is set aside."""
MAX_ASIDE = 10_000
"""Largest number of units that are set aside. Beyond that, the oldest are dropped and counted."""
MAX_ADDED = 500
"""Largest number of events that one script adds, and of units that one script gives back."""
_PAGE = 1000
"""Number of fields that one step of a search reads."""


class Unit(NamedTuple):
    """A claimed unit. tries: number of tries before this one. events: the events that are left.

    queued, claimed: times by Redis's clock, ms.
    """

    id: str
    tries: int
    queued: int
    claimed: int
    events: list[Event]


class Length(NamedTuple):
    """The length of a queue. units: waiting. aside: set aside. oldest: time (ms) of the next try, or None."""

    units: int
    aside: int
    events: int
    oldest: int | None


_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function ms(number) return string.format('%.0f', number) end
"""
_HAS_WITHDRAWN = """
-- Returns whether the recipient of a stored event has withdrawn. An unreadable withdrawal counts.
local function has_withdrawn(withdrawn, value)
  local mark = string.sub(value, 1, 8)
  if mark == '\\0\\0\\0\\0\\0\\0\\0\\0' then return false end
  local periods = redis.call('HGET', withdrawn, mark)
  return periods and (string.sub(periods, -1) == '-' or string.sub(periods, 1, 2) ~= '1 ')
end
"""
_FORGET_OLDEST_ASIDE = """
-- Drops the unit that was set aside first. Returns the number of its events.
local function forget_oldest(aside, units, events)
  local unit, dropped = redis.call('ZPOPMIN', aside)[1], 0
  if not unit then return 0 end
  local text = redis.call('HGET', units, unit) or ''
  for id in string.gmatch(text, ' (%a%S+)') do dropped = dropped + redis.call('HDEL', events, id) end
  redis.call('HDEL', units, unit)
  return dropped
end
"""

_ADD = (
    EVEN_IF_FULL
    + _NOW
    + _HAS_WITHDRAWN
    + _FORGET_OLDEST_ASIDE
    + """
-- KEYS: webhooks, withdrawn, due, units, events, aside, state. ARGV: endpoint, largest number of events, then
-- ids and values of events. Returns (added, dropped). Adds nothing if the endpoint was deleted.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return {0, 0} end
local added, dropped, length = 0, 0, redis.call('HLEN', KEYS[5])
for i = 3, #ARGV, 2 do
  local id, value = ARGV[i], ARGV[i + 1]
  if redis.call('HEXISTS', KEYS[5], id) == 0 and not has_withdrawn(KEYS[2], value) then
    if length >= tonumber(ARGV[2]) then
      local freed = forget_oldest(KEYS[6], KEYS[4], KEYS[5])
      length, dropped = length - freed, dropped + freed
    end
    if length >= tonumber(ARGV[2]) then
      dropped = dropped + 1
    else
      redis.call('HSET', KEYS[5], id, value)
      redis.call('HSET', KEYS[4], id, '0 ' .. ms(now) .. ' ' .. id)
      redis.call('ZADD', KEYS[3], ms(now), id)
      length, added = length + 1, added + 1
    end
  end
end
if dropped > 0 then redis.call('HINCRBY', KEYS[7], 'dropped', dropped) end
return {added, dropped}
"""
)

_CLAIM = (
    EVEN_IF_FULL
    + _NOW
    + _HAS_WITHDRAWN
    + """
-- KEYS: withdrawn, due, units, events, state. ARGV: lease (ms), largest number of events, id of a new unit.
-- Returns {} or {unit, tries, time queued (ms), time now (ms), values of its events}. Drops events of
-- recipients who have withdrawn, and units without events.
if now < tonumber(redis.call('HGET', KEYS[5], 'paused_until') or '0') then return {} end
local max, parts, ids, values = tonumber(ARGV[2]), {}, {}, {}
local first_queued, tries = nil, 0
for _, unit in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ms(now), 'LIMIT', 0, max + 100)) do
  local text = redis.call('HGET', KEYS[3], unit) or '0 0'
  local tried, queued, rest = string.match(text, '^(%d+) (%d+) ?(.*)$')
  local kept, kept_values, count = {}, {}, 0
  for id in string.gmatch(rest, '%S+') do
    count = count + 1
    local value = redis.call('HGET', KEYS[4], id)
    if value and has_withdrawn(KEYS[1], value) then
      redis.call('HDEL', KEYS[4], id)
    elseif value then
      kept[#kept + 1], kept_values[#kept_values + 1] = id, value
    end
  end
  local is_fresh = tried == '0' and count == 1
  if #kept == 0 then
    redis.call('ZREM', KEYS[2], unit)
    redis.call('HDEL', KEYS[3], unit)
  elseif #parts == 0 or (is_fresh and tries == 0) then
    parts[#parts + 1] = unit
    for i = 1, #kept do ids[#ids + 1], values[#values + 1] = kept[i], kept_values[i] end
    first_queued = math.min(first_queued or tonumber(queued), tonumber(queued))
    tries = tonumber(tried)
    if not is_fresh or #parts >= max then break end
  end
end
if #parts == 0 then return {} end
local unit = parts[1]
if #parts > 1 then
  unit = ARGV[3]
  redis.call('ZREM', KEYS[2], unpack(parts))
  redis.call('HDEL', KEYS[3], unpack(parts))
  redis.call('HSET', KEYS[3], unit, '0 ' .. ms(first_queued) .. ' ' .. table.concat(ids, ' '))
end
redis.call('ZADD', KEYS[2], ms(now + ARGV[1]), unit)
return {unit, tries, ms(first_queued), ms(now), unpack(values)}
"""
)

_DELIVERED = (
    EVEN_IF_FULL
    + _NOW
    + f"""
-- KEYS: webhooks, due, units, events, state, log, aside. ARGV: endpoint, unit, number of events, words of the
-- log. Removes the unit. If tries had failed before, all waiting units are due at once.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local text = redis.call('HGET', KEYS[3], ARGV[2]) or ''
for id in string.gmatch(text, ' (%a%S+)') do redis.call('HDEL', KEYS[4], id) end
redis.call('HDEL', KEYS[3], ARGV[2])
redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('ZREM', KEYS[7], ARGV[2])
if redis.call('HDEL', KEYS[5], 'failures', 'failing_since', 'paused_until') > 0 then
  for _, unit in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], ms(now + {LEASE_SECONDS * 1000}), '+inf',
                                   'LIMIT', 0, {MAX_ADDED})) do
    redis.call('ZADD', KEYS[2], ms(now), unit)
  end
end
redis.call('HINCRBY', KEYS[5], 'sent', ARGV[3])
redis.call('HSET', KEYS[5], 'success', ms(now))
redis.call('XADD', KEYS[6], 'MAXLEN', '~', {deliveries.MAX_LINES}, '*', unpack(ARGV, 4))
return 1
"""
)

_FAILED = (
    EVEN_IF_FULL
    + _NOW
    + _FORGET_OLDEST_ASIDE
    + f"""
-- KEYS: webhooks, due, units, events, state, log, aside. ARGV: endpoint, unit, ms until the next try or -1 to
-- set the unit aside, ms for which the endpoint is paused, error, words of the log.
-- Returns the number of tries that failed since the last success.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local text = redis.call('HGET', KEYS[3], ARGV[2])
if text then
  local tries, rest = string.match(text, '^(%d+)( .*)$')
  redis.call('HSET', KEYS[3], ARGV[2], ms(tries + 1) .. rest)
  if ARGV[3] == '-1' then
    redis.call('ZREM', KEYS[2], ARGV[2])
    redis.call('ZADD', KEYS[7], ms(now), ARGV[2])
    if redis.call('ZCARD', KEYS[7]) > {MAX_ASIDE} then
      redis.call('HINCRBY', KEYS[5], 'dropped', forget_oldest(KEYS[7], KEYS[3], KEYS[4]))
    end
  else
    redis.call('ZADD', KEYS[2], ms(now + ARGV[3]), ARGV[2])
  end
end
redis.call('HINCRBY', KEYS[5], 'failed', 1)
redis.call('HSETNX', KEYS[5], 'failing_since', ms(now))
redis.call('HSET', KEYS[5], 'failure', ms(now), 'error', ARGV[5], 'paused_until', ms(now + ARGV[4]))
redis.call('XADD', KEYS[6], 'MAXLEN', '~', {deliveries.MAX_LINES}, '*', unpack(ARGV, 6))
return redis.call('HINCRBY', KEYS[5], 'failures', 1)
"""
)

_SEND_AGAIN = (
    EVEN_IF_FULL
    + _NOW
    + """
-- KEYS: due, units, aside, state. ARGV: units. Makes them due now, as if they were new. Ends a pause.
-- Returns the number of units found.
local found = 0
for _, unit in ipairs(ARGV) do
  local text = redis.call('HGET', KEYS[2], unit)
  if text then
    local events = string.match(text, '^%d+ %d+ (.*)$')
    redis.call('HSET', KEYS[2], unit, '0 ' .. ms(now) .. ' ' .. events)
    redis.call('ZREM', KEYS[3], unit)
    redis.call('ZADD', KEYS[1], ms(now), unit)
    found = found + 1
  end
end
if found > 0 then redis.call('HDEL', KEYS[4], 'paused_until') end
return found
"""
)

_AGE = (
    EVEN_IF_FULL
    + _NOW
    + _FORGET_OLDEST_ASIDE
    + """
-- KEYS: due, units, events, aside, log. ARGV: largest age of a waiting unit (ms); largest age of a unit set
-- aside and of a line of the log (ms); units. Sets those aside that have waited too long, and removes what
-- was set aside too long ago. Returns the number set aside.
local moved = 0
for i = 3, #ARGV do
  local tries, queued = string.match(redis.call('HGET', KEYS[2], ARGV[i]) or '', '^(%d+) (%d+) ')
  if queued and tonumber(queued) < now - ARGV[1] and redis.call('ZREM', KEYS[1], ARGV[i]) == 1 then
    redis.call('ZADD', KEYS[4], ms(now), ARGV[i])
    moved = moved + 1
  end
end
local oldest = redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')
while oldest[2] and tonumber(oldest[2]) < now - ARGV[2] do
  forget_oldest(KEYS[4], KEYS[2], KEYS[3])
  oldest = redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')
end
redis.call('XTRIM', KEYS[5], 'MINID', ms(now - ARGV[2]))
return moved
"""
)


def mark_of(secrets: Secrets, queued: Event) -> bytes:
    """Returns the mark under which an event is found when its recipient withdraws."""
    return secrets.withdrawal_mark(queued.recipient) if event.names_person(queued) else NO_MARK


async def add(
    store: AsyncRedis, secrets: Secrets, endpoint_id: str, events: Sequence[Event], max_events: int
) -> tuple[int, int]:
    """Queues events that are not queued yet. Returns (number added, number dropped because it is full).

    max_events: PIXEL_WEBHOOK_QUEUE. Leaves out events on recipients who have withdrawn.
    """
    added = dropped = 0
    for i in range(0, len(events), MAX_ADDED):
        words: list[Value] = []
        for queued in events[i : i + MAX_ADDED]:
            words += (queued.id, mark_of(secrets, queued) + event.encode(queued))
        kinds = keys.hook_due, keys.hook_units, keys.hook_events, keys.hook_aside, keys.hook_state
        call = script_call(
            _ADD,
            keys=(keys.WEBHOOKS, keys.WITHDRAWN, *(kind(endpoint_id) for kind in kinds)),
            arguments=(endpoint_id, max_events, *words),
        )
        new, lost = await store.eval(*call)
        added, dropped = added + int(new), dropped + int(lost)
    return added, dropped


def claim_call(endpoint: Endpoint) -> ScriptCall:
    """Returns the call that claims the unit that is due first. Pass its reply to `parse_claim`."""
    kinds = keys.hook_due, keys.hook_units, keys.hook_events, keys.hook_state
    return script_call(
        _CLAIM,
        keys=(keys.WITHDRAWN, *(kind(endpoint.id) for kind in kinds)),
        arguments=(LEASE_SECONDS * 1000, endpoint.events_per_request, f"list_{random.token_hex(16)}"),
    )


def parse_claim(reply: Sequence[Any]) -> Unit | None:
    """Returns the claimed unit, or None if no unit is due. Raises ValueError if an event cannot be read."""
    if not reply:
        return None
    unit, tries, queued, now, *values = reply
    events = [event.decode(value[MARK_BYTES:]) for value in values]
    return Unit(unit.decode(), int(tries), int(queued), int(now), events)


async def claim(store: AsyncRedis, endpoint: Endpoint) -> Unit | None:
    """Claims the unit that is due first. Returns None if no unit is due."""
    return parse_claim(await store.eval(*claim_call(endpoint)))


async def note_delivered(store: AsyncRedis, endpoint_id: str, unit: Unit, delivery: Delivery) -> None:
    """Removes a unit that its endpoint has taken, and writes the line of the log."""
    arguments: tuple[Value, ...] = (
        *(endpoint_id, unit.id, len(unit.events)),
        *deliveries.words(delivery),
    )
    await store.eval(*script_call(_DELIVERED, keys=_result_keys(endpoint_id), arguments=arguments))


async def note_failed(
    store: AsyncRedis,
    endpoint_id: str,
    unit: Unit,
    delivery: Delivery,
    *,
    retry_ms: int | None,
    pause_ms: int,
) -> int:
    """Notes a try that failed. Returns the number of tries that failed since the last success.

    retry_ms: ms until the next try of this unit, None to set it aside. pause_ms: ms for which nothing is sent
    to the endpoint.
    """
    words = deliveries.words(delivery)
    error = deliveries.failure(delivery)
    arguments: tuple[Value, ...] = (
        *(endpoint_id, unit.id, -1 if retry_ms is None else retry_ms, pause_ms, error),
        *words,
    )
    call = script_call(_FAILED, keys=_result_keys(endpoint_id), arguments=arguments)
    return int(await store.eval(*call))


def _result_keys(endpoint_id: str) -> list[str]:
    kinds = (
        *(keys.hook_due, keys.hook_units, keys.hook_events),
        *(keys.hook_state, keys.hook_log, keys.hook_aside),
    )
    return [keys.WEBHOOKS, *(kind(endpoint_id) for kind in kinds)]


async def forget(store: AsyncRedis, endpoint_id: str, unit: Unit, event_ids: Collection[str]) -> None:
    """Removes events of a claimed unit that must not be sent any more, and the unit if it has no others."""
    if event_ids:
        await store.hdel(keys.hook_events(endpoint_id), *event_ids)
    if len(event_ids) == len(unit.events):
        pipe = store.pipeline(transaction=True)
        pipe.execute_command("ZREM", keys.hook_due(endpoint_id), unit.id)
        pipe.hdel(keys.hook_units(endpoint_id), unit.id)
        await pipe.execute()


async def send_again(store: AsyncRedis, endpoint_id: str, unit_ids: Sequence[str] | None = None) -> int:
    """Makes units due now, whether they wait or were set aside. Returns the number of units found.

    unit_ids: None for all that were set aside. What was delivered is not there any more.
    """
    if unit_ids is None:
        members = await store.zrangebyscore(
            keys.hook_aside(endpoint_id), "-inf", "+inf", start=0, num=MAX_ASIDE
        )
        unit_ids = [member.decode() for member in members]
    kinds = keys.hook_due, keys.hook_units, keys.hook_aside, keys.hook_state
    found = 0
    for i in range(0, len(unit_ids), MAX_ADDED):
        call = script_call(
            _SEND_AGAIN,
            keys=[kind(endpoint_id) for kind in kinds],
            arguments=unit_ids[i : i + MAX_ADDED],
        )
        found += int(await store.eval(*call))
    return found


async def read_length(store: AsyncRedis, endpoint_id: str) -> Length:
    """Returns how much waits for an endpoint."""
    return (await read_lengths(store, [endpoint_id]))[endpoint_id]


async def read_lengths(store: AsyncRedis, endpoint_ids: Iterable[str]) -> dict[str, Length]:
    """Returns how much waits for each of these endpoints, in one round trip."""
    ids, pipe = list(endpoint_ids), store.pipeline(transaction=False)
    for endpoint_id in ids:
        pipe.zcard(keys.hook_due(endpoint_id))
        pipe.zcard(keys.hook_aside(endpoint_id))
        pipe.hlen(keys.hook_events(endpoint_id))
        pipe.execute_command("ZRANGE", keys.hook_due(endpoint_id), 0, 0, "WITHSCORES")
    replies = await pipe.execute() if ids else []
    return {
        endpoint_id: Length(int(units), int(aside), int(events), int(float(oldest[1])) if oldest else None)
        for endpoint_id, (units, aside, events, oldest) in zip(
            ids, zip(*[iter(replies)] * 4, strict=True), strict=True
        )
    }


async def set_old_aside(store: AsyncRedis, endpoint_id: str, keep_days: int) -> int:
    """Sets aside what has waited too long, and removes what was set aside too long ago.

    keep_days: PIXEL_KEEP_DAYS_WEBHOOKS, also for the log. Returns the number of units set aside.
    """
    kinds = keys.hook_due, keys.hook_units, keys.hook_events, keys.hook_aside, keys.hook_log
    moved, cursor = 0, 0
    while True:
        cursor, units = await store.hscan(keys.hook_units(endpoint_id), cursor, count=_PAGE)
        call = script_call(
            _AGE,
            keys=[kind(endpoint_id) for kind in kinds],
            arguments=(int(MAX_AGE_SECONDS * 1000), keep_days * DAY_MS, *units),
        )
        moved += int(await store.eval(*call))
        if not cursor:
            return moved


async def purge(
    store: AsyncRedis, endpoint_ids: Iterable[str], marks: Collection[bytes], campaign: str = ""
) -> int:
    """Removes the queued events of recipients, or of a campaign. Returns their number.

    marks: of the recipients. campaign: id, or "" to remove only by recipient.
    """
    wanted_marks = set(marks)

    def has_to_go(value: bytes) -> bool:
        if value[:MARK_BYTES] in wanted_marks:
            return True
        return bool(campaign) and event.decode(value[MARK_BYTES:]).campaign == campaign

    removed = 0
    for endpoint_id in endpoint_ids:
        async for ids in _find(store, endpoint_id, has_to_go):
            removed += int(await store.hdel(keys.hook_events(endpoint_id), *ids))
    return removed


async def _find(
    store: AsyncRedis, endpoint_id: str, has_to_go: Callable[[bytes], bool]
) -> AsyncIterator[list[bytes]]:
    """Yields the ids of the queued events whose stored values have to go."""
    cursor = 0
    while True:
        cursor, values = await store.hscan(keys.hook_events(endpoint_id), cursor, count=_PAGE)
        if ids := [event_id for event_id, value in values.items() if has_to_go(value)]:
            yield ids
        if not cursor:
            return


class DisabledError(ValueError):
    """The endpoint is disabled, so that nothing is sent to it."""

    def __init__(self) -> None:
        super().__init__("this webhook is disabled: enable it first")


async def send_test(store: AsyncRedis, secrets: Secrets, endpoint: Endpoint, max_events: int) -> str:
    """Queues a test event for an endpoint, whatever events it wants. Returns its id.

    max_events: PIXEL_WEBHOOK_QUEUE. Raises DisabledError.
    """
    if not endpoint.is_enabled:
        raise DisabledError
    now_s, micros = await store.time()
    made = event.make(
        event.new_id(),
        event.TEST,
        int(now_s) * 1000 + int(micros) // 1000,
        message="This is a test: the webhook works.",
    )
    await add(store, secrets, endpoint.id, [made], max_events)
    return made.id
