"""Lists of recipients: who a campaign went to, as a sender uploads it or says so when links are made.

With an upload, in mode `identified`, their names. On the list stands, of a recipient whose mail was said to
be sent, the day of the last one, in days since 1970; of others nothing. The total `mailed` counts the former,
and on top the mails to recipients that may not be told apart.

Upload and roll-up never write the same key, so an upload only looks whether the generation has moved, and
does not raise it: it reads the generation, then what it goes by (the campaign, the withdrawals), then writes
if the generation is still the same. Erasure, retention and deletion raise it after they wrote down what is to
go and before they remove it: so nothing comes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from pixel_server.campaigns import retention, storage
from pixel_server.campaigns.campaign import Campaign
from pixel_server.consent import Consent, mode
from pixel_server.counters.stored_format import refuse_newer
from pixel_server.recipients import withdrawals
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import checkpoint, keys, shards
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import DAY
from pixel_server.tokens import Mode

FORMAT = 1

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, str, str | None]).decode


class Row(NamedTuple):
    """One line of a list. Stored after the format in this order: append only."""

    recipient: str
    name: str | None


class Put(NamedTuple):
    """What became of some rows. new, known: on the list before or not. withdrawn: left out."""

    new: int
    known: int
    withdrawn: int


class Closed(ValueError):
    """The campaign keeps no recipients, or no names, or no longer. The message says which."""


KEEPS_NONE = "only an email campaign of mode `pseudonymous` or `identified` keeps recipients"


def keeps(campaign: Campaign, consent: Consent) -> bool:
    """Whether its recipients are told apart."""
    return campaign.kind == "email" and consent.rule(campaign.mode, None).mode >= Mode.PSEUDONYMOUS


def may_name(campaign: Campaign, consent: Consent) -> bool:
    """Whether names stand on its lists. Closed: its recipients are not told apart at all."""
    if not keeps(campaign, consent):
        raise Closed(KEEPS_NONE)
    return consent.rule(campaign.mode, None).mode == Mode.IDENTIFIED


_PUT = """
-- KEYS: checkpoint, total. ARGV: generation as read, what the names of the hashes of lists and of names begin
-- with, number of hashes, the day of their mails or '', recipient keys of 8 bytes each, then a packed name
-- for each of them, or none at all.
-- Returns how many are new on the list; -1 if the generation has moved: then nothing was done.
if tonumber(redis.call('HGET', KEYS[1], 'n') or '0') ~= tonumber(ARGV[1]) then return -1 end
local new, mailed, day = 0, 0, ARGV[5]
for i = 1, #ARGV[6], 8 do
  local key = string.sub(ARGV[6], i, i + 7)
  local bucket = (string.byte(key, 5) * 256 + string.byte(key, 6)) % tonumber(ARGV[4])
  local number = string.format('%03x', bucket)
  if day == '' then
    new = new + redis.call('HSETNX', ARGV[2] .. number, key, '')
  else
    local known = redis.call('HGET', ARGV[2] .. number, key)
    if not known then new = new + 1 end
    if not known or known == '' then mailed = mailed + 1 end
    if tonumber(day) > (tonumber(known or '') or -1) then redis.call('HSET', ARGV[2] .. number, key, day) end
  end
  local name = ARGV[7 + (i - 1) / 8]
  if name then  -- without one (msgpack's nil at its end, which no UTF-8 has), a name that is known stays
    redis.call(string.byte(name, -1) == 0xc0 and 'HSETNX' or 'HSET', ARGV[3] .. number, key, name)
  end
end
if new > 0 then redis.call('HINCRBY', KEYS[2], 'listed', new) end
if mailed > 0 then redis.call('HINCRBY', KEYS[2], 'mailed', mailed) end
return new
"""


def pack(row: Row) -> bytes:
    """What is kept of a recipient with a name."""
    return _encode((FORMAT, row.recipient, row.name))


def unpack(value: bytes) -> Row:
    """NewerFormat: a newer version wrote it."""
    refuse_newer(value, FORMAT, "name")
    _, recipient, name = _decode(value)
    return Row(recipient, name)


def check(campaign: Campaign, is_named: bool) -> None:
    """Closed: this campaign takes no such list. is_named: it is to keep who the recipients are."""
    if campaign.closed_at is not None:
        raise Closed("this campaign is closed: its time to keep recipients is over")
    if mode(campaign.mode) < Mode.PSEUDONYMOUS:
        raise Closed("this campaign keeps no recipients any more")
    if is_named and mode(campaign.mode) < Mode.IDENTIFIED:
        raise Closed("this campaign keeps no names any more")


async def count(store: AsyncRedis, campaign: str, shards: int) -> int:
    """How many recipients were ever on the list."""
    pipe = store.pipeline(transaction=False)
    for shard in range(shards):
        pipe.hget(keys.total(shard, campaign), "listed")
    return sum(int(value or 0) for value in await pipe.execute())


async def begin(store: AsyncRedis, campaign: str, is_named: bool, settings: Settings, now: float) -> None:
    """Before the first rows are put; it is then noted that there are some.

    Closed: the campaign takes none. campaigns.Unknown: there is none.
    """
    found, uses = await storage.get_uses(store, campaign)
    check(found, is_named=False)
    days, at = retention.keep(settings, found), retention.sent(found, uses)
    if retention.is_over(at, days.recipients, now):
        raise Closed("this campaign's time to keep recipients is over")
    if is_named and retention.is_over(found.sent_at, days.names, now):
        raise Closed("this campaign's time to keep names is over")
    await storage.note_upload(store, campaign, now)
    await storage.amend(store, campaign, _reopen if is_named else _reopen_unnamed, is_announced=False)


def _reopen(campaign: Campaign) -> Campaign:
    """Recipients or names were taken away, or never came; from now on there are some."""
    for kind in ("recipients", "names"):
        if getattr(campaign.leaving, kind) and not getattr(campaign.gone, kind):
            raise Closed(f"its {kind} are being removed just now; try again in a minute")
    return msgspec.structs.replace(
        campaign,
        leaving=msgspec.structs.replace(campaign.leaving, recipients=False, names=False),
        gone=msgspec.structs.replace(campaign.gone, recipients=False, names=False),
    )


def _reopen_unnamed(campaign: Campaign) -> Campaign:
    names = campaign.leaving.names, campaign.gone.names
    found = _reopen(campaign)
    return msgspec.structs.replace(
        found,
        leaving=msgspec.structs.replace(found.leaving, names=names[0]),
        gone=msgspec.structs.replace(found.gone, names=names[1]),
    )


async def put(
    store: AsyncRedis,
    secrets: Secrets,
    campaign: str,
    rows: Sequence[Row],
    count: int,
    is_named: bool,
    *,
    mailed: float | None = None,
) -> Put:
    """Puts rows on a campaign's list; a recipient that is on it gets its new name, or keeps the one that it
    has if it comes without. count: of shards.

    mailed: when mails to them went out (s), if that is what is said. Closed: it takes none.
    campaigns.Unknown: it was deleted.
    """
    named = [(secrets.recipient_key(row.recipient), row) for row in rows]
    wanted = dict(sorted(named, key=_has_name))
    left: dict[int, list[bytes]] = {}
    for key in wanted:
        left.setdefault(shards.of_key(key, count), []).append(key)
    new = 0
    left_out: set[bytes] = set()
    while left:
        generations = {shard: await checkpoint.read_generation(store, shard) for shard in left}
        found = await storage.get(store, campaign)
        check(found, is_named)
        if found.leaving.recipients or (is_named and found.leaving.names):
            raise Closed("this campaign's time to keep recipients or names is over")
        asked = [key for part in left.values() for key in part]
        refused = await withdrawals.held(store, secrets, asked)
        pipe = store.pipeline(transaction=False)
        for shard, part in left.items():
            taken = [key for key in part if key not in refused]
            names = [pack(wanted[key]) for key in taken] if is_named else []
            day = "" if mailed is None else str(int(mailed // DAY))
            pipe.eval(_PUT, 2, *_arguments(shard, campaign, generations[shard], day, taken), *names)
        for shard, done in zip(list(left), await pipe.execute(), strict=True):
            if done >= 0:
                new += done
                left_out |= refused.intersection(left.pop(shard))
    withdrawn = sum(key in left_out for key, _ in named)
    return Put(new, len(rows) - withdrawn - new, withdrawn)


def _has_name(one: tuple[bytes, Row]) -> bool:
    return one[1].name is not None


async def count_mails(store: AsyncRedis, campaign: str, number: int) -> None:
    """So many mails went to recipients that may not be told apart. campaigns.Unknown: it was deleted."""
    done = -1
    while done < 0:
        generation = await checkpoint.read_generation(store, 0)
        await storage.get(store, campaign)
        done = await store.eval(_COUNT, 2, keys.checkpoint(0), keys.total(0, campaign), generation, number)


_COUNT = """
-- KEYS: checkpoint, total. ARGV: generation as read, mails. Returns how many there are; -1 if it has moved.
if tonumber(redis.call('HGET', KEYS[1], 'n') or '0') ~= tonumber(ARGV[1]) then return -1 end
return redis.call('HINCRBY', KEYS[2], 'mailed', ARGV[2])
"""


def day_of(value: bytes) -> int | None:
    """What stands on the list beside a recipient: the day of the last mail, in days since 1970."""
    return int(value) if value else None


def _arguments(
    shard: int, campaign: str, generation: int, day: str, taken: Sequence[bytes]
) -> tuple[str | bytes | int, ...]:
    listed, names = keys.listed.prefix(shard, campaign), keys.names.prefix(shard, campaign)
    where = (keys.checkpoint(shard), keys.total(shard, campaign))
    return *where, generation, listed, names, keys.PEOPLE_BUCKETS, day, b"".join(taken)
