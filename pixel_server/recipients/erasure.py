"""Erasure: takes a recipient out of all campaigns. Sums of campaigns stay as they are.

First comes the withdrawal (`withdrawals`), so that nothing that waits can bring the recipient back, also in
campaigns that are made meanwhile; then all places are looked through. That costs time for each campaign. A
recipient needs nothing but the link of a mail to ask for it, so for each it is done once an hour at most:
`ask` notes that the erasure is owed, and where there are many campaigns or the hour is not over, `run_owed`
does it later, a bounded number each minute. A recipient who was erased, and has not allowed recording since,
has nothing anywhere: then `ask` changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from enum import Enum
from typing import NamedTuple

from pixel_server.counters import burst_window, recipient_record
from pixel_server.recipients import withdrawals
from pixel_server.secret import Secrets
from pixel_server.store import aof_rewrite, audit_log, checkpoint, keys, shards
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import even_if_full

log = logging.getLogger("pixel_server.recipients.erasure")

EVERY = 3600
"""Seconds between two erasures of a recipient who asks for them."""
AT_ONCE = 200
"""Campaigns up to which an erasure is done while the recipient waits for the answer."""
MOST_OWED = 100
"""Owed erasures done in one round of chores, which comes each minute."""
_MARK = 8
"""Bytes of the mark, which stands before the masked key of a recipient who is owed an erasure."""
_CHUNK = 1000
_CAMPAIGNS = 250
"""Campaigns looked through by one script, which takes about a millisecond."""


class Erased(NamedTuple):
    """What an erasure removed. campaigns: where something was. removed: how many, by kind."""

    campaigns: list[str]
    removed: dict[str, int]


class Asked(Enum):
    """What became of a recipient's wish to be erased."""

    NOTHING = "nothing"
    """Nothing was kept of the recipient, who had been erased before: nothing changed."""
    DONE = "done"
    OWED = "owed"
    """Nothing more is recorded; the erasure follows."""


_HELD = """
-- KEYS: checkpoint of the shard. ARGV: recipient key, number of its hash, number of minutes, these minutes'
-- hashes, number of kinds, what the names of their hashes begin with, then campaigns.
-- Returns triples: kind or minute (from 1), '1' for a minute, campaign.
local call, recipient, out = redis.call, ARGV[1], {}
local minutes = tonumber(ARGV[3])
local kinds = tonumber(ARGV[4 + minutes])
local traced = {}
for i = 1, minutes do
  if call('EXISTS', ARGV[3 + i]) == 1 then traced[#traced + 1] = i end
end
for at = 5 + minutes + kinds, #ARGV do
  local campaign = ARGV[at]
  for i = 1, kinds do
    if call('HEXISTS', ARGV[4 + minutes + i] .. campaign .. ':' .. ARGV[2], recipient) == 1 then
      out[#out + 1] = {i, 0, campaign}
    end
  end
  for _, i in ipairs(traced) do
    if call('HEXISTS', ARGV[3 + i], recipient .. campaign) == 1 then out[#out + 1] = {i, 1, campaign} end
  end
end
return out
"""


async def erase(
    store: AsyncRedis, secrets: Secrets, recipient: bytes, now: float, count: int, who: str
) -> Erased:
    """Withdraws a recipient, and removes what is kept of them. count: of shards. who: for the audit log."""
    known = await withdrawals.is_erased(store, secrets, recipient)
    if not known:
        await audit_log.note(store, who, "recipient.erased")
    await withdrawals.withdraw(store, secrets, [recipient], now, count, erase=True)
    erased = await _remove(store, recipient, count)
    if known and any(erased.removed.values()):
        await audit_log.note(store, who, "recipient.erased")
    return erased


async def ask(store: AsyncRedis, secrets: Secrets, recipient: bytes, now: float, count: int) -> Asked:
    """Does what a recipient asked for: nothing more is recorded, and what is kept is removed or will be.

    The number of commands does not depend on the number of campaigns.
    """
    mark = secrets.withdrawal_mark(recipient)
    owed = await store.zscore(keys.ERASING, _masked(secrets, recipient))
    if await withdrawals.is_erased(store, secrets, recipient):
        return Asked.NOTHING if owed is None else Asked.OWED
    done = await store.zscore(keys.ERASURES, mark)
    due = now if done is None else max(now, done + EVERY)
    # Owed first, so that a process that dies in the middle leaves the rest to `run_owed`.
    await even_if_full(store, "ZADD", keys.ERASING, "NX", due, _masked(secrets, recipient))
    await withdrawals.withdraw(store, secrets, [recipient], now, count, erase=True)
    await audit_log.note_recipient(store, "recipient.erased")
    if due > now or await store.zcard(keys.CAMPAIGNS) > AT_ONCE:
        return Asked.OWED
    await _settle(store, secrets, recipient, now, count)
    return Asked.DONE


async def is_owed(store: AsyncRedis, secrets: Secrets, recipient: bytes) -> bool:
    """Returns whether something may still be kept of a recipient who was promised an erasure."""
    return await store.zscore(keys.ERASING, _masked(secrets, recipient)) is not None


async def run_owed(store: AsyncRedis, secrets: Secrets, now: float, count: int) -> int:
    """Does erasures that are due, at most MOST_OWED. Returns how many. count: of shards."""
    due = await store.zrangebyscore(keys.ERASING, "-inf", now, start=0, num=MOST_OWED)
    for member in due:
        await _settle(store, secrets, _unmasked(secrets, member), now, count)
    await store.zremrangebyscore(keys.ERASURES, "-inf", now - EVERY)
    await store.zremrangebyscore(keys.ERASURES, now + EVERY, "+inf")  # of a clock that was ahead
    return len(due)


async def _settle(store: AsyncRedis, secrets: Secrets, recipient: bytes, now: float, count: int) -> None:
    """Does an erasure that is owed, and notes when it was done."""
    await _remove(store, recipient, count)
    await even_if_full(store, "ZADD", keys.ERASURES, now, secrets.withdrawal_mark(recipient))
    await store.zrem(keys.ERASING, _masked(secrets, recipient))


def _masked(secrets: Secrets, recipient: bytes) -> bytes:
    """Returns what the store holds instead of a recipient key, which must not come onto the disk."""
    mark = secrets.withdrawal_mark(recipient)
    return mark + _mix(recipient, secrets.withdrawal_mark(mark + b"erasing"))


def _unmasked(secrets: Secrets, member: bytes) -> bytes:
    mark, hidden = member[:_MARK], member[_MARK:]
    return _mix(hidden, secrets.withdrawal_mark(mark + b"erasing"))


def _mix(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


async def _remove(store: AsyncRedis, recipient: bytes, count: int) -> Erased:
    """Removes what is kept of a recipient who is withdrawn; asks for a rewrite if there was anything."""
    shard, bucket = shards.of_key(recipient, count), recipient_record.people_bucket(recipient)
    erased = Erased([], {"opens": 0, "listed": 0, "names": 0, "last_open_day": 0, "dead_letters": 0})
    gone: list[checkpoint.Command] = []
    async for names in _campaigns(store):
        gone += await _held(store, shard, recipient, names, erased)
    if await store.hexists(keys.last(shard, bucket), recipient):
        gone.append(("HDEL", keys.last(shard, bucket), recipient))
        erased.removed["last_open_day"] = 1
    if gone:
        await aof_rewrite.ask(store)
    for i in range(0, len(gone), _CHUNK):
        await checkpoint.commit_always(store, shard, gone[i : i + _CHUNK])
    erased.removed["dead_letters"] = await _drop_dead(store, recipient, count)
    if gone or erased.removed["dead_letters"]:
        await aof_rewrite.ask(store)
    return erased


async def _campaigns(store: AsyncRedis) -> AsyncIterator[list[bytes]]:
    """Yields the ids of all campaigns, some at a time."""
    start = "-"
    while names := await store.zrangebylex(keys.CAMPAIGNS, start, "+", start=0, num=_CAMPAIGNS):
        yield names
        start = f"({names[-1].decode()}"


async def _held(
    store: AsyncRedis, shard: int, recipient: bytes, names: list[bytes], erased: Erased
) -> list[checkpoint.Command]:
    """Returns the commands that remove a recipient from these campaigns. Adds to `erased` what there was."""
    bucket = recipient_record.people_bucket(recipient)
    places = {"opens": keys.people, "listed": keys.listed, "names": keys.names}
    newest = await checkpoint.read_newest_ms(store, shard)
    minutes = [keys.evidence(shard, minute) for minute in burst_window.kept_minutes(newest)]
    prefixes = [key.kind_prefix(shard) for key in places.values()]
    found = await store.eval(
        _HELD,
        1,
        keys.checkpoint(shard),
        recipient,
        f"{bucket:03x}",
        len(minutes),
        *minutes,
        len(prefixes),
        *prefixes,
        *names,
    )
    commands: list[checkpoint.Command] = []
    for number, is_trace, name in found:
        campaign = name.decode()
        if is_trace:
            commands.append(("HDEL", minutes[number - 1], burst_window.field(recipient, campaign)))
            continue
        kind = list(places)[number - 1]
        commands.append(("HDEL", places[kind](shard, campaign, bucket), recipient))
        erased.removed[kind] += 1
        if campaign not in erased.campaigns[-1:]:
            erased.campaigns.append(campaign)
    return commands


async def _drop_dead(store: AsyncRedis, recipient: bytes, count: int) -> int:
    """Removes the dead letters that hold this key. They cannot be read, so all that hold its bytes go."""
    gone = 0
    for shard in range(count):
        first = "-"
        while letters := await store.xrange(keys.dead(shard), first, "+", _CHUNK):
            held = [entry for entry, fields in letters if recipient in fields.get(b"data", b"")]
            if held:
                gone += int(await store.xdel(keys.dead(shard), *held))
            first = f"({letters[-1][0].decode()}"
    return gone
