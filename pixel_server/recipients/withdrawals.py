"""Withdrawals: recipients who must not be recorded, in any campaign, even by links in mails already sent.

The store holds one field for each such recipient. The field's name is a mark: a keyed hash of the recipient
key, made with a secret that is used only for marks. The value is text, a format and then periods in ms:

    1 1790000000000-1790000600000 1790003600000-

These are a withdrawal of ten minutes, and a withdrawal that is still in force. An erasure is a period from 0,
so a hit from before the erasure is never counted, even if it waits in a spool or stream.

A web process checks only the marks (`withdrawn_set`). The roll-up checks the periods, and drops a hit whose
time lies in a period. So totals do not depend on when a roll-up runs. Each withdrawal raises the generation
of the recipient's shard, so that a roll-up that has read the earlier withdrawals cannot commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Any

from pixel_server.counters.stored_format import NewerFormat
from pixel_server.secret import Secrets
from pixel_server.store import aof_rewrite, checkpoint, keys, raw_replies
from pixel_server.store.protocols import AsyncRedis, Pipeline, Value
from pixel_server.store.readers import Reader
from pixel_server.store.script import EVEN_IF_FULL, ScriptCall, script_call
from pixel_server.store.shards import shard_of
from pixel_server.webhooks import event, notices, storage
from pixel_server.webhooks.purge import purge_recipients

FORMAT = "1"
ERASED = b"1 0-"
"""Stored value of a recipient who was erased and has not allowed recording since."""
MARK_BYTES = 8
_MAX_STREAM_CHANGES = 100_000
"""Number of changes kept in the stream. A process that missed more of them reads all withdrawals again."""
_MAX_PERIODS = 16
"""Largest number of periods kept of a recipient."""
_KNOWN_FORMAT = b"%b " % FORMAT.encode()
_CHUNK = 1000
"""Largest number of recipients handled by one command."""

Periods = list[tuple[int, int | None]]
"""Withdrawals of a recipient, oldest first: (start, end) in ms since 1970; the end is None while in force."""


_CHANGE_KEYS = (keys.WITHDRAWN, keys.WITHDRAWAL_CHANGES, keys.NOTICES)

_PUT_NOTICE = """
local function put_notice(notices, value)
  if value then redis.call('XADD', notices, '*', 'mark', string.rep('\\0', 8), 'event', value) end
end
"""

_WITHDRAW = (
    EVEN_IF_FULL
    + _PUT_NOTICE
    + f"""
-- KEYS: withdrawn, changes, notices. ARGV: start (ms), '1' for an erasure, number of marks, the marks, then a
-- notice of webhooks for each mark, or none at all.
-- Returns the number of recipients who were not withdrawn before, then the positions (from 0) of marks whose
-- value changed.
local out, marks = {{0}}, tonumber(ARGV[3])
for i = 4, 3 + marks do
  local kept = redis.call('HGET', KEYS[1], ARGV[i])
  local in_force = kept and string.sub(kept, -1) == '-'
  if not in_force then out[1] = out[1] + 1 end
  local value = nil
  if ARGV[2] == '1' then value = '{FORMAT} 0-'
  elseif not in_force then value = (kept or '{FORMAT}') .. ' ' .. ARGV[1] .. '-' end
  -- If there are too many periods, join the oldest two. Hits from between these two were counted long ago.
  if value and select(2, string.gsub(value, ' ', '')) > {_MAX_PERIODS} then
    value = string.gsub(value, '^(%S+) (%d+)%-%d+ %d+%-', '%1 %2-', 1)
  end
  if value and value ~= kept then
    redis.call('HSET', KEYS[1], ARGV[i], value)
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', {_MAX_STREAM_CHANGES}, '*', 'mark', ARGV[i])
    put_notice(KEYS[3], ARGV[i + marks])
    out[#out + 1] = i - 4
  end
end
return out
"""
)


def _withdraw_call(
    marks: Sequence[bytes], notices: Sequence[bytes], *, start_ms: int, is_erasure: bool
) -> ScriptCall:
    arguments: tuple[Value, ...] = (start_ms, int(is_erasure), len(marks), *marks, *notices)
    return script_call(_WITHDRAW, keys=_CHANGE_KEYS, arguments=arguments)


_ALLOW = (
    EVEN_IF_FULL
    + _PUT_NOTICE
    + f"""
-- KEYS: withdrawn, changes, notices. ARGV: end (ms), number of marks, the marks, then a notice of webhooks
-- for each mark, or none at all.
-- Returns the number of recipients who were withdrawn, then the positions (from 0) of their marks.
local out, marks = {{0}}, tonumber(ARGV[2])
for i = 3, 2 + marks do
  local kept = redis.call('HGET', KEYS[1], ARGV[i])
  if kept and string.sub(kept, -1) == '-' then
    out[1] = out[1] + 1
    out[#out + 1] = i - 3
    redis.call('HSET', KEYS[1], ARGV[i], kept .. ARGV[1])
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', {_MAX_STREAM_CHANGES}, '*', 'mark', ARGV[i])
    put_notice(KEYS[3], ARGV[i + marks])
  end
end
return out
"""
)


def _allow_call(marks: Sequence[bytes], notices: Sequence[bytes], *, end_ms: int) -> ScriptCall:
    return script_call(_ALLOW, keys=_CHANGE_KEYS, arguments=(end_ms, len(marks), *marks, *notices))


async def withdraw(
    store: AsyncRedis,
    secrets: Secrets,
    recipients: Sequence[bytes],
    now: float,
    shard_count: int,
    *,
    erase: bool = False,
) -> int:
    """Stops recording these recipient keys from `now` (s). Returns how many of them were recorded until now.

    Raises the generation only of shards in which something changed. Otherwise anyone with the link of a mail
    could keep roll-ups from committing.
    """
    call = partial(_withdraw_call, start_ms=int(now * 1000), is_erasure=erase)
    state = notices.ERASED if erase else notices.WITHDRAWN
    new, changed = await _change(store, secrets, recipients, call, state, now)
    for shard in {shard_of(recipient, shard_count) for recipient in changed}:
        await checkpoint.raise_generation(store, shard)
    if changed and await purge_recipients(store, secrets, changed, shard_count) and erase:
        await aof_rewrite.request(store)
    return new


async def allow(store: AsyncRedis, secrets: Secrets, recipients: Sequence[bytes], now: float) -> int:
    """Lets hits of these recipient keys be recorded again from `now` (s).

    Returns how many of the recipients were withdrawn.
    """
    call = partial(_allow_call, end_ms=int(now * 1000))
    ended, _ = await _change(store, secrets, recipients, call, notices.ALLOWED, now)
    return ended


async def _change(
    store: AsyncRedis,
    secrets: Secrets,
    recipients: Sequence[bytes],
    call: Callable[[Sequence[bytes], Sequence[bytes]], ScriptCall],
    state: str,
    now: float,
) -> tuple[int, list[bytes]]:
    """Runs the script `call` on the recipients' marks, a chunk at a time. state: for webhooks. now: s.

    Returns how many recipients were withdrawn or allowed, and the recipients whose value changed.
    """
    total, changed = 0, []
    are_wanted = (await storage.wanted(store)).has(event.WITHDRAWAL) if recipients else False
    for i in range(0, len(recipients), _CHUNK):
        chunk = recipients[i : i + _CHUNK]
        marks = [secrets.withdrawal_mark(recipient) for recipient in chunk]
        made = [notices.withdrawal(secrets, one, state, now) for one in chunk] if are_wanted else []
        number, *positions = await store.eval(*call(marks, made))
        total += int(number)
        changed += [recipients[i + position] for position in positions]
    return total, changed


async def is_erased(store: AsyncRedis, secrets: Secrets, recipient: bytes) -> bool:
    """Returns whether a recipient was erased and has not allowed recording since."""
    value: bytes | None = await store.hget(keys.WITHDRAWN, secrets.withdrawal_mark(recipient))
    return value == ERASED


async def get_periods(store: AsyncRedis, secrets: Secrets, recipient: bytes) -> Periods:
    """Returns the withdrawals of a recipient key."""
    return parse_periods(await store.hget(keys.WITHDRAWN, secrets.withdrawal_mark(recipient)))


async def withdrawn_now(store: AsyncRedis, secrets: Secrets, recipients: Iterable[bytes]) -> set[bytes]:
    """Returns the recipient keys that are withdrawn now."""
    recipient_keys = list(recipients)
    marks = secrets.withdrawal_marks(recipient_keys)
    chunks = [marks[i : i + _CHUNK] for i in range(0, len(marks), _CHUNK)]
    replies = await raw_replies.read(store, [("HMGET", keys.WITHDRAWN, *chunk) for chunk in chunks])
    values = chain.from_iterable(replies)
    return {
        recipient
        for recipient, value in zip(recipient_keys, values, strict=True)
        if value is not None and counts_as_withdrawn(value)
    }


async def page(store: AsyncRedis, cursor: int, limit: int) -> tuple[list[tuple[bytes, Periods]], int]:
    """Returns about `limit` marks with their periods, and the cursor of the next page (0 after the last)."""
    next_cursor, values = await store.hscan(keys.WITHDRAWN, cursor, count=limit)
    return [(mark, _shown_periods(value)) for mark, value in values.items()], int(next_cursor)


def _shown_periods(value: bytes) -> Periods:
    """Returns the periods of a stored value. An unreadable value counts as withdrawn since 1970."""
    try:
        return parse_periods(value)
    except NewerFormat:
        return [(0, None)]


def periods_by_recipient(
    pipe: Pipeline, secrets: Secrets, recipients: Iterable[bytes]
) -> Reader[dict[bytes, Periods]]:
    """Returns the periods of each of these recipient keys that was ever withdrawn. Raises NewerFormat."""
    recipient_keys = list(recipients)
    if not recipient_keys:
        return {}
    pipe.exists(keys.WITHDRAWN)
    (exists,) = yield
    if not exists:
        return {}
    pipe.hmget(keys.WITHDRAWN, [secrets.withdrawal_mark(key) for key in recipient_keys])
    (values,) = yield
    pairs = zip(recipient_keys, values, strict=True)
    return {key: parse_periods(value) for key, value in pairs if value is not None}


def covers(periods: Periods, time: int) -> bool:
    """Returns whether a time (ms) lies in one of the periods."""
    return any(start <= time and (end is None or time < end) for start, end in periods)


def was_erased(periods: Periods, time: int) -> bool:
    """Returns whether an erasure covers a hit of this time (ms). All data of such a hit must be removed."""
    return bool(periods) and periods[0][0] == 0 and covers(periods[:1], time)


def is_withdrawn(periods: Periods) -> bool:
    """Returns whether the newest withdrawal is still in force."""
    return bool(periods) and periods[-1][1] is None


def parse_periods(value: bytes | None) -> Periods:
    """Returns the periods of a stored value, and [] for None. Raises NewerFormat for an unreadable value."""
    if value is None:
        return []
    stored_format, *parts = value.decode(errors="replace").split() or [""]
    if stored_format != FORMAT:
        raise NewerFormat(f"withdrawal of format {stored_format[:20]!r}, this version reads {FORMAT}")
    ends = (part.partition("-") for part in parts)
    try:
        return [(int(start), int(end) if end else None) for start, _, end in ends]
    except ValueError:
        raise NewerFormat("withdrawal that cannot be read") from None


def counts_as_withdrawn(value: Any) -> bool:
    """Returns whether a recipient with this stored value counts as withdrawn: True if unreadable."""
    if not isinstance(value, bytes):
        return value is not None
    return value.endswith(b"-") or is_newer(value)


def is_newer(value: bytes) -> bool:
    """Returns whether a stored value has a format that this version does not know."""
    return not value.startswith(_KNOWN_FORMAT)
