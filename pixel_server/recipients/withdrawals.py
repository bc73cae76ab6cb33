"""Withdrawals: who is not to be recorded, over all campaigns, links already sent included.

What is kept of such a person is one field: a hash of the recipient key under a key of its own (`mark`), and
since when. Its value is text: format, then periods of ms, `1 FROM-UNTIL FROM-`; the last one is open while
the withdrawal holds. An erasure is a period from 0: no hit from before it counts again, wherever it waited.

A web process goes by the marks alone (`Withdrawn`), the roll-up by the periods (`periods`): a hit is dropped
if its own time lies in one. So totals do not depend on when a roll-up runs. After a withdrawal the generation
of the person's shard is raised: a roll-up that had read the list before cannot commit.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from copy import copy
from pathlib import Path
from struct import Struct
from typing import Any

import redis

from pixel_server import tasks
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.recipients import withdrawals_file
from pixel_server.recipients.withdrawals_file import WithdrawalsFile
from pixel_server.secret import Secrets
from pixel_server.store import checkpoint, keys, shards
from pixel_server.store.client import StoreEmptiedError
from pixel_server.store.protocols import AsyncRedis, Redis
from pixel_server.store.store_mark import StoreMark

log = logging.getLogger("pixel_server.recipients.withdrawals")

FORMAT = "1"
ERASED = b"1 0-"
"""What is kept of one who was erased and has not allowed since."""
REFRESH = 0.25
"""Seconds between two looks of a web process at what was changed elsewhere."""
_LOG = 100_000
"""Changes kept; a process that missed more reads all anew."""
_KNOWN = b"%b " % FORMAT.encode()
_MOST = 16
"""Periods kept of one recipient."""
PARTS = 1024
_MARK = 8
"""Bytes of a mark."""
_first = Struct(">I4x").unpack
_CHUNK = 1000

Periods = list[tuple[int, int | None]]
"""(from, until) in ms since 1970; until None: it holds."""


_WITHDRAW = f"""#!lua flags=allow-oom
-- KEYS: withdrawn, changes. ARGV: ms from which, '1' if what is kept is erased, then marks.
-- Returns how many were not withdrawn before, then which of the marks changed, counted from 0.
local out = {{0}}
for i = 3, #ARGV do
  local kept = redis.call('HGET', KEYS[1], ARGV[i])
  local open = kept and string.sub(kept, -1) == '-'
  if not open then out[1] = out[1] + 1 end
  local value = nil
  if ARGV[2] == '1' then value = '{FORMAT} 0-'
  elseif not open then value = (kept or '{FORMAT}') .. ' ' .. ARGV[1] .. '-' end
  -- Of too many, the oldest two become one: hits between them have long been counted.
  if value and select(2, string.gsub(value, ' ', '')) > {_MOST} then
    value = string.gsub(value, '^(%S+) (%d+)%-%d+ %d+%-', '%1 %2-', 1)
  end
  if value and value ~= kept then
    redis.call('HSET', KEYS[1], ARGV[i], value)
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', {_LOG}, '*', 'mark', ARGV[i])
    out[#out + 1] = i - 3
  end
end
return out
"""

_ALLOW = f"""#!lua flags=allow-oom
-- KEYS: withdrawn, changes. ARGV: ms until which, then marks.
-- Returns how many were withdrawn, then which of the marks these were, counted from 0.
local out = {{0}}
for i = 2, #ARGV do
  local kept = redis.call('HGET', KEYS[1], ARGV[i])
  if kept and string.sub(kept, -1) == '-' then
    out[1] = out[1] + 1
    out[#out + 1] = i - 2
    redis.call('HSET', KEYS[1], ARGV[i], kept .. ARGV[1])
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', {_LOG}, '*', 'mark', ARGV[i])
  end
end
return out
"""


async def withdraw(
    store: AsyncRedis,
    secrets: Secrets,
    recipients: Sequence[bytes],
    now: float,
    count: int,
    *,
    erase: bool = False,
) -> int:
    """From now (s) on nothing of these recipient keys is recorded. Returns how many were recorded until now.

    count: of shards. Raises the generation only of shards for which something changed: else anyone with the
    link of a mail could keep roll-ups from committing.
    """
    new, changed = await _change(store, secrets, recipients, _WITHDRAW, (int(now * 1000), int(erase)))
    for shard in {shards.of_key(recipient, count) for recipient in changed}:
        await checkpoint.raise_generation(store, shard)
    return new


async def allow(store: AsyncRedis, secrets: Secrets, recipients: Sequence[bytes], now: float) -> int:
    """From now (s) on these are recorded again. How many were withdrawn."""
    ended, _ = await _change(store, secrets, recipients, _ALLOW, (int(now * 1000),))
    return ended


async def _change(
    store: AsyncRedis, secrets: Secrets, recipients: Sequence[bytes], script: str, first: tuple[int, ...]
) -> tuple[int, list[bytes]]:
    """Returns (how many were withdrawn or allowed, the recipients for whom something changed)."""
    total, changed = 0, []
    for i in range(0, len(recipients), _CHUNK):
        marks = [secrets.withdrawal_mark(recipient) for recipient in recipients[i : i + _CHUNK]]
        number, *which = await store.eval(script, 2, keys.WITHDRAWN, keys.WITHDRAWALS, *first, *marks)
        total += int(number)
        changed += [recipients[i + place] for place in which]
    return total, changed


async def is_erased(store: AsyncRedis, secrets: Secrets, recipient: bytes) -> bool:
    """Returns whether a recipient was erased and has not allowed recording since."""
    value: bytes | None = await store.hget(keys.WITHDRAWN, secrets.withdrawal_mark(recipient))
    return value == ERASED


async def of(store: AsyncRedis, secrets: Secrets, recipient: bytes) -> Periods:
    """The withdrawals of one recipient key, oldest first."""
    return parse(await store.hget(keys.WITHDRAWN, secrets.withdrawal_mark(recipient)))


async def held(store: AsyncRedis, secrets: Secrets, recipients: Iterable[bytes]) -> set[bytes]:
    """Of these recipient keys, those that are withdrawn now."""
    wanted, found = list(recipients), set()
    for i in range(0, len(wanted), _CHUNK):
        part = wanted[i : i + _CHUNK]
        values = await store.hmget(keys.WITHDRAWN, [secrets.withdrawal_mark(one) for one in part])
        found |= {one for one, value in zip(part, values, strict=True) if may_hold(value)}
    return found


async def page(store: AsyncRedis, cursor: int, limit: int) -> tuple[list[tuple[bytes, Periods]], int]:
    """About `limit` (mark, periods), and the cursor of the next page, 0 after the last."""
    following, found = await store.hscan(keys.WITHDRAWN, cursor, count=limit)
    return [(mark, _shown(value)) for mark, value in found.items()], int(following)


def _shown(value: bytes) -> Periods:
    """Returns the periods of a kept value; since 1970 if it cannot be read, for it is taken as withdrawn."""
    try:
        return parse(value)
    except NewerFormat:
        return [(0, None)]


def periods(store: Redis, secrets: Secrets, recipients: Iterable[bytes]) -> dict[bytes, Periods]:
    """Of these recipient keys, those that are or were withdrawn."""
    wanted = list(recipients)
    if not wanted or not store.exists(keys.WITHDRAWN):
        return {}
    values = store.hmget(keys.WITHDRAWN, [secrets.withdrawal_mark(recipient) for recipient in wanted])
    return {key: parse(value) for key, value in zip(wanted, values, strict=True) if value is not None}


def covers(found: Periods, time: int) -> bool:
    """Whether a hit of this time (ms) lies in one of the periods."""
    return any(start <= time and (end is None or time < end) for start, end in found)


def erased(found: Periods, time: int) -> bool:
    """Whether a hit of this time (ms) is one of those that an erasure took: nothing of it may stay."""
    return bool(found) and found[0][0] == 0 and covers(found[:1], time)


def holds(found: Periods) -> bool:
    return bool(found) and found[-1][1] is None


def parse(value: bytes | None) -> Periods:
    """NewerFormat: a newer version wrote it."""
    if value is None:
        return []
    form, *parts = value.decode(errors="replace").split() or [""]
    if form != FORMAT:
        raise NewerFormat(f"withdrawal of format {form[:20]!r}, this version reads {FORMAT}")
    ends = (part.partition("-") for part in parts)
    try:
        return [(int(start), int(end) if end else None) for start, _, end in ends]
    except ValueError:
        raise NewerFormat("withdrawal that cannot be read") from None


def may_hold(value: Any) -> bool:
    """Whether a kept value says that the recipient is withdrawn now, or cannot be read: to be safe."""
    if not isinstance(value, bytes):
        return value is not None
    return value.endswith(b"-") or not value.startswith(_KNOWN)


class Withdrawn:
    """The marks that hold, in the memory of a web process: 8 bytes each, sorted in PARTS short arrays.

    Before them stands a map of 2 MB with a bit for the first 24 bits of each mark: most recipients are not in
    it, and need no search. Learns of changes within REFRESH seconds; while Redis is away, or its store is not
    the known one (`mark`), keeps what it has. file: where they are kept for a start without Redis.
    unreadable: values that this version cannot read; their recipients are taken as withdrawn.
    """

    def __init__(
        self,
        store: AsyncRedis,
        secrets: Secrets,
        mark: StoreMark | None = None,
        file: WithdrawalsFile | None = None,
    ) -> None:
        self._store = store
        self._store_mark = mark or StoreMark()
        self._file = file
        self.unreadable = 0
        self._mark = secrets.withdrawal_mark
        self._hash = secrets.withdrawal_hash()
        self._seen = "0-0"
        self.loaded = False
        self._forget()

    def _forget(self) -> None:
        self._parts = [array("Q") for _ in range(PARTS)]
        self._bits = bytearray()

    def __contains__(self, recipient: bytes) -> bool:
        """recipient: its key."""
        if not self._bits:
            return False
        made = self._hash.copy()
        made.update(recipient)
        data = made.digest()
        (first,) = _first(data)
        if not self._bits[first >> 11] >> (first >> 8 & 7) & 1:
            return False
        mark = int.from_bytes(data, "big")
        part = self._parts[mark % PARTS]
        at = bisect_left(part, mark)
        return at < len(part) and part[at] == mark

    @property
    def size(self) -> int:
        """Bytes of memory of the list and its map."""
        return sum(map(sys.getsizeof, self._parts)) + len(self._bits)

    def learn(self, recipient: bytes, withdrawn: bool) -> None:
        """What this process was told just now."""
        self._learn(self._mark(recipient), withdrawn)

    def _learn(self, data: bytes, withdrawn: bool) -> None:
        mark = int.from_bytes(data, "big")
        part = self._parts[mark % PARTS]
        at = bisect_left(part, mark)
        known = at < len(part) and part[at] == mark
        if withdrawn and not known:
            part.insert(at, mark)
            self._bits = self._bits or bytearray(1 << 21)
            self._bits[mark >> 43] |= 1 << (mark >> 40 & 7)
        elif known and not withdrawn:
            del part[at]  # its bit stays: another mark may share it

    async def load(self) -> None:
        """Reads all of it, in short steps. What was known holds until then.

        Raises StoreEmptiedError, and changes nothing, if the store is not the known one.
        """
        if self._file is not None:
            await asyncio.to_thread(self._file.lead)
        last = await self._store.xrevrange(keys.WITHDRAWALS, "+", "-", 1)
        seen = last[0][0].decode() if last else "0-0"
        whole = copy(self)
        whole._forget()
        file = self._file if self._file is not None and self._file.leads else None
        if file is not None:
            await asyncio.to_thread(file.begin)
        cursor = unreadable = 0
        while True:
            cursor, found = await self._store.hscan(keys.WITHDRAWN, cursor, count=_CHUNK)
            good = {mark: value for mark, value in found.items() if len(mark) == _MARK}
            for mark, value in good.items():
                unreadable += not value.startswith(_KNOWN)
                if may_hold(value):
                    whole._learn(mark, True)
            if file is not None:
                await asyncio.to_thread(file.add, good.items())
            if not cursor:
                break
        await self._store_mark.look(self._store)
        if file is not None:
            await asyncio.to_thread(file.finish)
        if unreadable and unreadable != self.unreadable:
            log.error(
                "withdrawals: %d are of a newer version; nothing of these is recorded: update", unreadable
            )
        # What changed meanwhile stands in the log after `seen`, and is learnt again from there.
        self._parts, self._bits = whole._parts, whole._bits
        self._seen, self.loaded, self.unreadable = seen, True, unreadable

    async def refresh(self) -> None:
        """Reads what has changed since the last look; all of it if that cannot be told. As `load`."""
        if not self.loaded or (self._file is not None and self._file.is_due):
            return await self.load()
        while True:
            first = "-" if self._seen == "0-0" else self._seen
            pipe = self._store.pipeline(transaction=False)
            pipe.xrange(keys.WITHDRAWALS, first, "+", _CHUNK)
            self._store_mark.ask(pipe)
            entries, mark_of_store = await pipe.execute()
            self._store_mark.take(mark_of_store)
            if first != "-" and (not entries or entries[0][0].decode() != self._seen):
                return await self.load()
            found = {fields.get(b"mark", b"") for entry, fields in entries if entry.decode() != self._seen}
            marks = sorted(mark for mark in found if len(mark) == _MARK)
            if marks:
                pipe.hmget(keys.WITHDRAWN, marks)
                self._store_mark.ask(pipe)
                values, mark_of_store = await pipe.execute()
                self._store_mark.take(mark_of_store)
                for mark, value in zip(marks, values, strict=True):
                    self._learn(mark, may_hold(value))
                if self._file is not None and self._file.leads:
                    kept = [(mark, value) for mark, value in zip(marks, values, strict=True) if value]
                    await asyncio.to_thread(self._file.append, kept)
            if entries:
                self._seen = entries[-1][0].decode()
            if len(entries) < _CHUNK:
                return None

    def restore(self, data: Path) -> None:
        """Takes what the file in the data directory says, unless Redis has been read."""
        if not self.loaded:
            for mark, value in withdrawals_file.read(data):
                self._learn(mark, may_hold(value))

    async def follow(self) -> None:
        """Keeps up with changes until cancelled; keeps the file, if no other process does."""

        async def refresh() -> None:
            if self._file is not None and await asyncio.to_thread(self._file.lead):
                await self.load()
            await self.refresh()

        try:
            await tasks.repeat(refresh, REFRESH, _report_failed_refresh, pauses_first=True)
        finally:
            if self._file is not None:
                self._file.close()


def _report_failed_refresh(error: Exception) -> None:
    if isinstance(error, StoreEmptiedError):
        return  # `StoreMark.take` has logged it
    if isinstance(error, redis.RedisError | OSError):
        log.warning("withdrawals: Redis does not answer, going by what is known: %s", error)
    else:  # whatever the store holds, this process goes on
        log.error("withdrawals: they cannot be read, going by what is known: %r", error)
