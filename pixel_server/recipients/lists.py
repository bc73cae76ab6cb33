"""Lists of the recipients to whom a campaign was sent. An upload adds recipients to a list, and so does a
request for their links.

A list has an entry for each recipient. The value of an entry is the day of the recipient's last mail, in days
since 1970 (`20781` is 2026-11-24), or empty if no mail is known. In mode `identified` an upload also stores
names. An upload may bring references of consent, see `consents`. The field `mailed` of a campaign's totals
counts the entries with a day. If a campaign does not tell its recipients apart, the field counts the
campaign's mails.

Upload and roll-up never write the same field of a key, so an upload does not raise the shard's generation.
The upload reads the generation, then the campaign and the withdrawals, and writes only if the generation is
still the same. Erasure, retention and deletion first record what they will remove, then raise the generation,
then remove the data. So an upload cannot bring removed data back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from pixel_server.campaigns import retention, storage
from pixel_server.campaigns.campaign import Campaign
from pixel_server.consent import Consent, mode_named
from pixel_server.consent_ref import ConsentRef
from pixel_server.counters.stored_format import refuse_newer
from pixel_server.recipients import consents, withdrawals
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import checkpoint, keys
from pixel_server.store.checkpoint import IF_SAME_GENERATION, Generation
from pixel_server.store.noted_changes import NOTE_CHANGES
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import ScriptCall, script_call
from pixel_server.store.shards import shard_of
from pixel_server.times import DAY
from pixel_server.tokens import Mode

FORMAT = 1

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, str, str | None]).decode


class ListEntry(NamedTuple):
    """A recipient to put on a list, and the recipient's name and consent.

    If the campaign keeps names, the store holds recipient and name as msgpack of [format, recipient, name].
    The day of the last mail and the consent are stored apart. Add new stored fields only at the end.
    """

    recipient: str
    name: str | None
    consent: ConsentRef | None = None


class PutResult(NamedTuple):
    """Numbers of entries: new on the list, known before, and left out because the recipient withdrew."""

    new: int
    known: int
    withdrawn: int


class ListClosed(ValueError):
    """The campaign does not keep, or no longer keeps, recipients or names. The message says which."""


KEEPS_NONE = "only an email campaign of mode `pseudonymous` or `identified` keeps recipients"


def keeps_recipients(campaign: Campaign, consent: Consent) -> bool:
    """Returns whether the campaign tells its recipients apart."""
    return campaign.kind == "email" and consent.rule(campaign.mode, None).mode >= Mode.PSEUDONYMOUS


def keeps_names(campaign: Campaign, consent: Consent) -> bool:
    """Returns whether the campaign keeps names. Raises ListClosed if it does not tell recipients apart."""
    if not keeps_recipients(campaign, consent):
        raise ListClosed(KEEPS_NONE)
    return consent.rule(campaign.mode, None).mode == Mode.IDENTIFIED


_PUT = (
    IF_SAME_GENERATION
    + NOTE_CHANGES
    + """
-- KEYS: checkpoint, total, changed. ARGV: generation as read, prefixes of the keys of the hashes of the list,
-- of names and of consents, number of hashes of each, day of the mails or '', recipient keys of 8 bytes each,
-- then for each of these recipients a packed name and a packed consent, '' for none, or nothing at all.
-- Returns how many recipients are new on the list.
local new, mailed, day = 0, 0, ARGV[6]
for i = 1, #ARGV[7], 8 do
  local key = string.sub(ARGV[7], i, i + 7)
  local bucket = (string.byte(key, 5) * 256 + string.byte(key, 6)) % tonumber(ARGV[5])
  local number = string.format('%03x', bucket)
  if day == '' then
    new = new + redis.call('HSETNX', ARGV[2] .. number, key, '')
  else
    local old_day = redis.call('HGET', ARGV[2] .. number, key)
    if not old_day then new = new + 1 end
    if not old_day or old_day == '' then mailed = mailed + 1 end
    if tonumber(day) > (tonumber(old_day or '') or -1) then
      redis.call('HSET', ARGV[2] .. number, key, day)
    end
  end
  local name, consent = ARGV[8 + (i - 1) / 4], ARGV[9 + (i - 1) / 4]
  if consent and consent ~= '' then redis.call('HSET', ARGV[4] .. number, key, consent) end
  if name and name ~= '' then
    -- An entry without a name ends in msgpack's nil, 0xc0, a byte that UTF-8 never has. HSETNX then keeps the
    -- stored name.
    redis.call(string.byte(name, -1) == 0xc0 and 'HSETNX' or 'HSET', ARGV[3] .. number, key, name)
  end
end
if new > 0 then redis.call('HINCRBY', KEYS[2], 'listed', new) end
if mailed > 0 then redis.call('HINCRBY', KEYS[2], 'mailed', mailed) end
local names = {}
note_change(names, KEYS[2])
if new + mailed > 0 then store_changes(KEYS[3], names) end
return new
"""
)


def _put_call(
    shard: int,
    campaign: str,
    recipients: Sequence[bytes],
    details: Sequence[bytes],
    *,
    generation: Generation,
    mail_day: str,
) -> ScriptCall:
    """Returns the call that puts recipients on a list.

    details: for each recipient a packed name and a packed consent, each perhaps b"", or an empty list.
    """
    prefixes = [kind.prefix(shard, campaign) for kind in (keys.listed, keys.names, keys.consents)]
    packed_keys = b"".join(recipients)
    return script_call(
        _PUT,
        keys=(keys.checkpoint(shard), keys.total(shard, campaign), keys.changed(shard)),
        arguments=(generation.word(), *prefixes, keys.PEOPLE_BUCKETS, mail_day, packed_keys, *details),
        undeclared=shard,
    )


def pack(entry: ListEntry) -> bytes:
    """Returns the stored bytes of an entry and its name."""
    return _encode((FORMAT, entry.recipient, entry.name))


def unpack(value: bytes) -> ListEntry:
    """Returns the entry in stored bytes. Raises NewerFormat if a newer version wrote them."""
    refuse_newer(value, FORMAT, "name")
    _, recipient, name = _decode(value)
    return ListEntry(recipient, name)


def refuse_closed(campaign: Campaign, with_names: bool) -> None:
    """Raises ListClosed if the campaign takes no list, or if `with_names` is True and it takes no names."""
    if campaign.closed_at is not None:
        raise ListClosed("this campaign is closed: its time to keep recipients is over")
    if mode_named(campaign.mode) < Mode.PSEUDONYMOUS:
        raise ListClosed("this campaign keeps no recipients any more")
    if with_names and mode_named(campaign.mode) < Mode.IDENTIFIED:
        raise ListClosed("this campaign keeps no names any more")


async def count_listed(store: AsyncRedis, campaign: str, shards: int) -> int:
    """Returns how many recipients were ever on the list."""
    pipe = store.pipeline(transaction=False)
    for shard in range(shards):
        pipe.hget(keys.total(shard, campaign), "listed")
    return sum(int(value or 0) for value in await pipe.execute())


async def begin(store: AsyncRedis, campaign: str, with_names: bool, settings: Settings, now: float) -> None:
    """Opens the list for entries, and records the upload. Call it before the first `put`.

    with_names: whether entries may have names. Raises UnknownCampaign, or ListClosed if the campaign takes
    no list.
    """
    stored, uses = await storage.get_uses(store, campaign)
    refuse_closed(stored, with_names=False)
    days, sent_at = retention.campaign_days(settings, stored), retention.sending_time(stored, uses)
    if retention.is_over(sent_at, days.recipients, now):
        raise ListClosed("this campaign's time to keep recipients is over")
    if with_names and retention.is_over(stored.sent_at, days.names, now):
        raise ListClosed("this campaign's time to keep names is over")
    await storage.note_upload(store, campaign, now)
    await storage.amend(store, campaign, _reopen if with_names else reopen_without_names, is_announced=False)


def _reopen(campaign: Campaign) -> Campaign:
    """Returns the campaign with its recipients and names marked as present.

    Raises ListClosed while retention is removing them.
    """
    for kind in ("recipients", "names"):
        if getattr(campaign.leaving, kind) and not getattr(campaign.gone, kind):
            raise ListClosed(f"this campaign's {kind} are being removed just now; try again in a minute")
    return msgspec.structs.replace(
        campaign,
        leaving=msgspec.structs.replace(campaign.leaving, recipients=False, names=False),
        gone=msgspec.structs.replace(campaign.gone, recipients=False, names=False),
    )


def reopen_without_names(campaign: Campaign) -> Campaign:
    """Returns the campaign with its recipients marked as present. Does not mark its names."""
    reopened = _reopen(campaign)
    return msgspec.structs.replace(
        reopened,
        leaving=msgspec.structs.replace(reopened.leaving, names=campaign.leaving.names),
        gone=msgspec.structs.replace(reopened.gone, names=campaign.gone.names),
    )


async def put(
    store: AsyncRedis,
    secrets: Secrets,
    campaign: str,
    entries: Sequence[ListEntry],
    shards: int,
    with_names: bool,
    *,
    mailed_at: float | None = None,
) -> PutResult:
    """Puts entries on a campaign's list.

    A new name or consent replaces the stored one. An entry without it does not change it. mailed_at:
    time (s) at which mails to these recipients went out, if known. Raises UnknownCampaign, or ListClosed if
    the campaign takes no list.
    """
    keyed = [(secrets.recipient_key(entry.recipient), entry) for entry in entries]
    by_key = dict(sorted(keyed, key=_has_name))  # of a recipient's entries, the last entry with a name wins
    packed_consents = {key: consents.pack(entry.consent) for key, entry in keyed if entry.consent}
    waiting: dict[int, list[bytes]] = {}  # recipient keys by shard
    for key in by_key:
        waiting.setdefault(shard_of(key, shards), []).append(key)
    new = 0
    left_out: set[bytes] = set()
    while waiting:
        generations = {shard: await checkpoint.read_generation(store, shard) for shard in waiting}
        stored = await storage.get(store, campaign)
        refuse_closed(stored, with_names)
        if stored.leaving.recipients or (with_names and stored.leaving.names):
            raise ListClosed("this campaign's time to keep recipients or names is over")
        waiting_keys = [key for shard_keys in waiting.values() for key in shard_keys]
        withdrawn = await withdrawals.withdrawn_now(store, secrets, waiting_keys)
        pipe = store.pipeline(transaction=False)
        for shard, shard_keys in waiting.items():
            allowed = [key for key in shard_keys if key not in withdrawn]
            details = [
                detail
                for key in allowed
                for detail in (pack(by_key[key]) if with_names else b"", packed_consents.get(key, b""))
            ]
            if not (with_names or packed_consents):
                details = []
            day = "" if mailed_at is None else str(int(mailed_at // DAY))
            generation = generations[shard]
            pipe.eval(*_put_call(shard, campaign, allowed, details, generation=generation, mail_day=day))
        for shard, added in zip(list(waiting), await pipe.execute(), strict=True):
            if added >= 0:
                new += added
                left_out |= withdrawn.intersection(waiting.pop(shard))
    number_left_out = sum(key in left_out for key, _ in keyed)
    return PutResult(new, len(entries) - number_left_out - new, number_left_out)


def _has_name(keyed: tuple[bytes, ListEntry]) -> bool:
    return keyed[1].name is not None


_COUNT_MAILS = (
    IF_SAME_GENERATION
    + NOTE_CHANGES
    + """
-- KEYS: checkpoint, total, changed. ARGV: generation as read, number of mails. Returns the new
-- total of mails.
local total, names = redis.call('HINCRBY', KEYS[2], 'mailed', ARGV[2]), {}
note_change(names, KEYS[2])
store_changes(KEYS[3], names)
return total
"""
)


def _count_mails_call(shard: int, campaign: str, number: int, *, generation: Generation) -> ScriptCall:
    script_keys = (keys.checkpoint(shard), keys.total(shard, campaign), keys.changed(shard))
    return script_call(_COUNT_MAILS, keys=script_keys, arguments=(generation.word(), number))


async def count_mails(store: AsyncRedis, campaign: str, number: int) -> None:
    """Adds `number` mails to the total of a campaign without a list. Raises UnknownCampaign."""
    total = -1
    while total < 0:
        generation = await checkpoint.read_generation(store, 0)
        await storage.get(store, campaign)
        total = await store.eval(*_count_mails_call(0, campaign, number, generation=generation))


def mail_day(value: bytes) -> int | None:
    """Returns the day of a recipient's last mail, in days since 1970, from the stored value of the list."""
    return int(value) if value else None
