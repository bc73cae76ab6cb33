"""Erasure: removes a recipient from all campaigns. The sums of campaigns stay as they are.

An erasure first withdraws the recipient (`withdrawals`), so that hits in the backlog cannot store the
recipient again, not even in campaigns that are created later. Then it searches all campaigns for the
recipient's data. The search takes longer the more campaigns exist. Anyone with a link from a mail can ask for
an erasure, so a recipient's data is searched for at most once an hour. `request_erasure` notes that the
erasure is owed. If there are many campaigns, or the hour is not over, `run_owed` does the search later. It
does a limited number of erasures each minute. A recipient who was erased, and has not allowed recording
since, has no data anywhere: `request_erasure` then changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from enum import Enum
from typing import NamedTuple

from pixel_server.counters import burst_window, recipient_record
from pixel_server.recipients import withdrawals
from pixel_server.secret import Secrets
from pixel_server.store import aof_rewrite, audit_log, checkpoint, keys, replication
from pixel_server.store.protocols import AsyncRedis, Value
from pixel_server.store.script import ScriptCall, even_if_full, script_call
from pixel_server.store.shards import shard_of
from pixel_server.webhooks.purge import purge_recipients

INTERVAL_SECONDS = 3600
"""Smallest number of seconds between two searches that a recipient asks for."""
MAX_CAMPAIGNS_AT_ONCE = 200
"""Largest number of campaigns that are searched while the recipient waits for the answer."""
MAX_OWED = 100
"""Largest number of owed erasures done in one round of maintenance, which runs each minute."""
_CHUNK = 1000
"""Largest number of commands in one commit, and of dead letters read by one command."""
_CAMPAIGNS_PER_SCRIPT = 250
"""Number of campaigns searched by one script. The script then takes about a millisecond."""


class Erased(NamedTuple):
    """Result of an erasure. campaigns: ids of campaigns that had data. removed: numbers of values by kind."""

    campaigns: list[str]
    removed: dict[str, int]


class Outcome(Enum):
    """Outcome of a recipient's request to be erased."""

    NOTHING = "nothing"
    """The recipient was erased before, and nothing has been stored since."""
    DONE = "done"
    OWED = "owed"
    """Recording has stopped. The stored data will be removed later."""


_FIND_VALUES = """
-- KEYS: checkpoint of the shard. ARGV: recipient key, number of its bucket, number of minutes, keys of the
-- minutes' hashes, number of kinds, prefixes of the keys of the kinds' hashes, then campaigns.
-- Returns a triple for each value of a recipient: position from 1; 1 for a minute, 0 for a kind; campaign.
-- {2, 0, 'spring'} is a value of the second kind. {2, 1, 'spring'} is a value of the second minute.
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


def _find_values_call(
    shard: int,
    recipient: bytes,
    campaigns: Sequence[bytes],
    *,
    minutes: Sequence[str],
    prefixes: Sequence[str],
) -> ScriptCall:
    bucket = f"{recipient_record.people_bucket(recipient):03x}"
    counted_lists: list[Value] = [len(minutes), *minutes, len(prefixes), *prefixes]
    return script_call(
        _FIND_VALUES,
        keys=(keys.checkpoint(shard),),
        arguments=(recipient, bucket, *counted_lists, *campaigns),
        undeclared=shard,
    )


async def erase(
    store: AsyncRedis, secrets: Secrets, recipient: bytes, now: float, shards: int, who: str
) -> Erased:
    """Withdraws a recipient and removes the recipient's data. now: seconds. shards: number of shards.

    who: name of the caller, for the audit log. An erasure that changes nothing is not logged there. Raises
    NotReplicatedError if no replica has confirmed the erasure.
    """
    was_erased = await withdrawals.is_erased(store, secrets, recipient)
    if not was_erased:
        await audit_log.note(store, who, "recipient.erased")
    await withdrawals.withdraw(store, secrets, [recipient], now, shards, erase=True)
    erased = await _remove(store, secrets, recipient, shards)
    if was_erased and any(erased.removed.values()):
        await audit_log.note(store, who, "recipient.erased")
    return erased


async def request_erasure(
    store: AsyncRedis, secrets: Secrets, recipient: bytes, now: float, shards: int
) -> Outcome:
    """Stops recording a recipient, and removes the recipient's data now or later.

    now: seconds. shards: number of shards. The number of commands does not grow with the number of campaigns.
    """
    mark = secrets.withdrawal_mark(recipient)
    owed = await store.zscore(keys.OWED_ERASURES, _masked(secrets, recipient))
    if await withdrawals.is_erased(store, secrets, recipient):
        return Outcome.NOTHING if owed is None else Outcome.OWED
    erased_at = await store.zscore(keys.ERASURE_TIMES, mark)
    due = now if erased_at is None else max(now, erased_at + INTERVAL_SECONDS)
    # Note the owed erasure first: if this process dies after this line, `run_owed` does the rest.
    await even_if_full(store, "ZADD", keys.OWED_ERASURES, "NX", due, _masked(secrets, recipient))
    await withdrawals.withdraw(store, secrets, [recipient], now, shards, erase=True)
    await audit_log.note_recipient(store, "recipient.erased")
    if due > now or await store.zcard(keys.CAMPAIGNS) > MAX_CAMPAIGNS_AT_ONCE:
        return Outcome.OWED
    try:
        await _remove_owed(store, secrets, recipient, now, shards)
    except replication.NotReplicatedError:
        return Outcome.OWED
    return Outcome.DONE


async def is_owed(store: AsyncRedis, secrets: Secrets, recipient: bytes) -> bool:
    """Returns whether an erasure was promised to a recipient and is not done yet."""
    return await store.zscore(keys.OWED_ERASURES, _masked(secrets, recipient)) is not None


async def run_owed(store: AsyncRedis, secrets: Secrets, now: float, shards: int) -> int:
    """Does at most MAX_OWED owed erasures that are due. Returns their number. shards: number of shards."""
    due = await store.zrangebyscore(keys.OWED_ERASURES, "-inf", now, start=0, num=MAX_OWED)
    for member in due:
        await _remove_owed(store, secrets, _unmasked(secrets, member), now, shards)
    await store.zremrangebyscore(keys.ERASURE_TIMES, "-inf", now - INTERVAL_SECONDS)
    # A time in the future was written by a clock that was ahead.
    await store.zremrangebyscore(keys.ERASURE_TIMES, now + INTERVAL_SECONDS, "+inf")
    return len(due)


async def _remove_owed(
    store: AsyncRedis, secrets: Secrets, recipient: bytes, now: float, shards: int
) -> None:
    """Removes the data of a recipient whose erasure is owed, and records the time of the erasure."""
    await _remove(store, secrets, recipient, shards)
    await even_if_full(store, "ZADD", keys.ERASURE_TIMES, now, secrets.withdrawal_mark(recipient))
    await store.zrem(keys.OWED_ERASURES, _masked(secrets, recipient))


def _masked(secrets: Secrets, recipient: bytes) -> bytes:
    """Returns the recipient's mark and the masked recipient key. The plain key must not be on disk."""
    mark = secrets.withdrawal_mark(recipient)
    return mark + _xor(recipient, secrets.withdrawal_mark(mark + b"erasing"))


def _unmasked(secrets: Secrets, member: bytes) -> bytes:
    """Returns the recipient key of a `_masked` value."""
    mark, masked = member[: withdrawals.MARK_BYTES], member[withdrawals.MARK_BYTES :]
    return _xor(masked, secrets.withdrawal_mark(mark + b"erasing"))


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


async def _remove(store: AsyncRedis, secrets: Secrets, recipient: bytes, shards: int) -> Erased:
    """Removes the data of a withdrawn recipient. Asks for a rewrite of the AOF if there was any data.

    First raises the generation again: a promoted replica may lack the generation that the withdrawal raised,
    and a roll-up from before the withdrawal could then commit there. Raises NotReplicatedError if no replica
    has confirmed the removal. The removal must then be repeated.
    """
    shard, bucket = shard_of(recipient, shards), recipient_record.people_bucket(recipient)
    await checkpoint.raise_generation(store, shard)
    kinds = ("opens", "listed", "names", "deliveries", "consents", "last_open_day", "dead_letters")
    erased = Erased([], dict.fromkeys(kinds, 0))
    commands: list[checkpoint.Command] = []
    async for campaign_ids in _campaigns(store):
        commands += await _removal_commands(store, shard, recipient, campaign_ids, erased)
    if await store.hexists(keys.last(shard, bucket), recipient):
        commands.append(("HDEL", keys.last(shard, bucket), recipient))
        erased.removed["last_open_day"] = 1
    if commands:
        await aof_rewrite.request(store)
    for i in range(0, len(commands), _CHUNK):
        await checkpoint.commit_always(store, shard, commands[i : i + _CHUNK])
    erased.removed["dead_letters"] = await _remove_dead_letters(store, recipient, shards)
    events = await purge_recipients(store, secrets, [recipient], shards)
    if commands or events or erased.removed["dead_letters"]:
        await aof_rewrite.request(store)
    await replication.confirm(store, shards)
    return erased


async def _campaigns(store: AsyncRedis) -> AsyncIterator[list[bytes]]:
    """Yields the ids of all campaigns, _CAMPAIGNS_PER_SCRIPT at a time."""
    start = "-"
    while ids := await store.zrangebylex(keys.CAMPAIGNS, start, "+", start=0, num=_CAMPAIGNS_PER_SCRIPT):
        yield ids
        start = f"({ids[-1].decode()}"


async def _removal_commands(
    store: AsyncRedis, shard: int, recipient: bytes, campaign_ids: list[bytes], erased: Erased
) -> list[checkpoint.Command]:
    """Returns the commands that remove a recipient from these campaigns. Notes the removals in `erased`."""
    bucket = recipient_record.people_bucket(recipient)
    places = {
        "opens": keys.people,
        "listed": keys.listed,
        "names": keys.names,
        "deliveries": keys.deliveries,
        "consents": keys.consents,
    }
    newest = await checkpoint.read_newest_ms(store, shard)
    minutes = [keys.evidence(shard, minute) for minute in burst_window.kept_minutes(newest)]
    prefixes = [key.kind_prefix(shard) for key in places.values()]
    call = _find_values_call(shard, recipient, campaign_ids, minutes=minutes, prefixes=prefixes)
    triples = await store.eval(*call)
    commands: list[checkpoint.Command] = []
    for number, is_minute, campaign_id in triples:
        campaign = campaign_id.decode()
        if is_minute:
            commands.append(("HDEL", minutes[number - 1], burst_window.field(recipient, campaign)))
            continue
        kind = list(places)[number - 1]
        commands.append(("HDEL", places[kind](shard, campaign, bucket), recipient))
        erased.removed[kind] += 1
        if campaign not in erased.campaigns[-1:]:
            erased.campaigns.append(campaign)
    return commands


async def _remove_dead_letters(store: AsyncRedis, recipient: bytes, shards: int) -> int:
    """Removes the dead letters whose bytes contain a recipient key, and returns their number.

    A dead letter cannot be decoded, so its bytes are searched for the key.
    """
    removed = 0
    for shard in range(shards):
        first = "-"
        while letters := await store.xrange(keys.dead(shard), first, "+", _CHUNK):
            matching = [entry for entry, fields in letters if recipient in fields.get(b"data", b"")]
            if matching:
                removed += int(await store.xdel(keys.dead(shard), *matching))
            first = f"({letters[-1][0].decode()}"
    return removed
