"""Adopting a store that was emptied or replaced: what the data directory knows is put back, then it is ours.

The mark comes last. Web processes and workers use the store as soon as they see it, and by then all that
keeps people from being recorded is there again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import msgspec

from pixel_server.auth import api_keys
from pixel_server.campaigns import storage
from pixel_server.campaigns.cache import PLAIN, SAVED, Directory
from pixel_server.campaigns.campaign import Campaign, UnreadableCampaign
from pixel_server.consent import Consent, mode
from pixel_server.recipients import withdrawals, withdrawals_file
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import audit_log, keys, store_mark
from pixel_server.store.client import StoreEmptiedError
from pixel_server.store.compatibility import check
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import StoreMark

_CHUNK = 1000

_PUT = """
-- KEYS: withdrawn, changes. ARGV: pairs of a mark and a value. Sets each value, but where the store's own
-- says that the recipient is withdrawn. Returns how many were set.
local set = 0
for i = 1, #ARGV, 2 do
  local kept = redis.call('HGET', KEYS[1], ARGV[i])
  if not kept or string.sub(kept, -1) ~= '-' then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', 100000, '*', 'mark', ARGV[i])
    set = set + 1
  end
end
return set
"""


class Adopted(NamedTuple):
    """How much was put back. has_key: whether there is an API key."""

    withdrawals: int
    campaigns: int
    deleted: int
    has_key: bool


async def adopt(client: AsyncRedis, url: str, settings: Settings, secrets: Secrets) -> Adopted | None:
    """Returns what was put back; None if the store is the known one. Raises StoreError if it does not fit."""
    mark = StoreMark(settings.data)
    try:
        await check(client, url, settings.shards, secrets, mark)
        return None
    except StoreEmptiedError:
        await check(client, url, settings.shards, secrets)
    restored = await _withdrawals(client, settings)
    made, deleted = await _campaigns(client, settings)
    await api_keys.use_environment(client, settings.api_key)
    await audit_log.note(client, audit_log.COMMAND, "store.adopted")
    mark.learn(await store_mark.adopt(client, settings.shards, mark.known))
    return Adopted(restored, made, deleted, bool(await api_keys.listed(client)))


async def _withdrawals(client: AsyncRedis, settings: Settings) -> int:
    held = dict(withdrawals_file.read(settings.data))
    pairs: Iterable[tuple[bytes, bytes]] = iter(held.items())
    while part := list(islice(pairs, _CHUNK)):
        arguments = [text for pair in part for text in pair]
        await client.eval(_PUT, 2, keys.WITHDRAWN, keys.WITHDRAWALS, *arguments)
    return sum(withdrawals.may_hold(value) for value in held.values())


async def _campaigns(client: AsyncRedis, settings: Settings) -> tuple[int, int]:
    """Puts back deleted campaigns, and all others by what a web process knew of them."""
    known = Directory(client, Consent(settings))
    known.restore(settings.data / SAVED)
    for name in sorted(known.gone):
        try:
            await storage.delete(client, name, settings.shards)
        except storage.UnknownCampaign:
            await client.sadd(keys.GONE, name)
            await client.xadd(keys.CHANGES, {"id": name}, maxlen=10_000)
    made = 0
    for name, kind in sorted(known.kinds.items()):
        rule, web = known.rules.get(name), known.web.get(name, PLAIN)
        campaign = Campaign(
            id=name,
            name=name,
            kind=kind,
            mode=known.mode(name).name.lower(),
            gpc=None if rule is None else rule.signals,
            identity=web.identity,
            origins=web.origins,
            time_zone=settings.time_zone,
            created=int(time.time()),
        )
        try:
            await storage.create(client, campaign)
            made += 1
        except storage.CampaignExists:
            await _lower(client, campaign)
    return made, len(known.gone)


async def _lower(client: AsyncRedis, campaign: Campaign) -> None:
    """Lowers the mode of a campaign that a hit has made meanwhile to the one that was known."""

    def lower(before: Campaign) -> Campaign:
        lowest = min(before.mode, campaign.mode, key=mode)
        return msgspec.structs.replace(before, mode=lowest, gpc=campaign.gpc or before.gpc)

    try:
        await storage.amend(client, campaign.id, lower)
    except (storage.UnknownCampaign, storage.SealedField, UnreadableCampaign):
        return
