"""Adopts a store that was emptied or replaced: puts back the data directory's copies, then marks the store.

The copies are of withdrawals and campaigns. The mark comes last: web processes and workers use the store as
soon as they see the mark, and by then the store knows again who must not be recorded.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import msgspec

from pixel_server.auth import api_keys
from pixel_server.campaigns import deletion, storage
from pixel_server.campaigns.cache import CACHE_FILE, DEFAULT_WEB, CampaignCache
from pixel_server.campaigns.campaign import Campaign, UnreadableCampaign
from pixel_server.consent import Consent, mode_named
from pixel_server.recipients import withdrawals, withdrawals_file
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import audit_log, keys, store_mark
from pixel_server.store.client import StoreEmptiedError
from pixel_server.store.compatibility import check_store
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import ScriptCall, script_call
from pixel_server.store.store_mark import StoreMark

_CHUNK = 1000
"""Number of withdrawals in one call of the script."""

_PUT = """
-- KEYS: withdrawn, changes. ARGV: pairs of a recipient's mark and the periods of withdrawal. Sets the
-- periods of each mark, unless the stored periods end in "-": that recipient has withdrawn already. Returns
-- the number of marks that it set.
local set = 0
for i = 1, #ARGV, 2 do
  local stored = redis.call('HGET', KEYS[1], ARGV[i])
  if not stored or string.sub(stored, -1) ~= '-' then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', 100000, '*', 'mark', ARGV[i])
    set = set + 1
  end
end
return set
"""


def _put_call(pairs: Iterable[tuple[bytes, bytes]]) -> ScriptCall:
    """Returns the call of _PUT. pairs: recipients' marks with their periods of withdrawal."""
    words = (word for pair in pairs for word in pair)
    return script_call(_PUT, keys=(keys.WITHDRAWN, keys.WITHDRAWAL_CHANGES), arguments=words)


class Adopted(NamedTuple):
    """Numbers of withdrawals and campaigns that were put back.

    deleted: number of campaigns that had been deleted earlier, and were deleted again in this store. has_key:
    whether an API key exists.
    """

    withdrawals: int
    campaigns: int
    deleted: int
    has_key: bool


async def adopt(client: AsyncRedis, url: str, settings: Settings, secrets: Secrets) -> Adopted | None:
    """Adopts the store. Returns what was put back, or None if this server uses the store already.

    Raises StoreError if this server cannot use the store.
    """
    mark = StoreMark(settings.data)
    try:
        await check_store(client, url, settings.shards, secrets, mark)
        return None
    except StoreEmptiedError:
        await check_store(client, url, settings.shards, secrets)
    withdrawn = await _put_back_withdrawals(client, settings)
    created, deleted = await _put_back_campaigns(client, settings)
    await api_keys.store_environment_key(client, settings.api_key)
    await audit_log.note(client, audit_log.COMMAND, "store.adopted")
    mark.learn(await store_mark.adopt(client, settings.shards, mark.known))
    return Adopted(withdrawn, created, deleted, bool(await api_keys.list_keys(client)))


async def _put_back_withdrawals(client: AsyncRedis, settings: Settings) -> int:
    """Puts back the withdrawals. Returns how many of these recipients are withdrawn now."""
    saved = dict(withdrawals_file.read_file(settings.data))
    pairs: Iterable[tuple[bytes, bytes]] = iter(saved.items())
    while chunk := list(islice(pairs, _CHUNK)):
        await client.eval(*_put_call(chunk))
    return sum(withdrawals.counts_as_withdrawn(periods) for periods in saved.values())


async def _put_back_campaigns(client: AsyncRedis, settings: Settings) -> tuple[int, int]:
    """Deletes the campaigns that were deleted before, then creates the others as a web process saved them.

    Returns (number of campaigns created, number of campaigns deleted).
    """
    saved = CampaignCache(client, Consent(settings))
    saved.restore(settings.data / CACHE_FILE)
    for campaign_id in sorted(saved.gone):
        try:
            await deletion.delete(client, campaign_id, settings.shards)
        except storage.UnknownCampaign:
            await client.sadd(keys.GONE, campaign_id)
            await client.xadd(keys.CHANGES, {"id": campaign_id}, maxlen=10_000)
    created = 0
    for campaign_id, kind in sorted(saved.kinds.items()):
        rule, web = saved.rules.get(campaign_id), saved.web.get(campaign_id, DEFAULT_WEB)
        campaign = Campaign(
            id=campaign_id,
            name=campaign_id,
            kind=kind,
            mode=saved.mode(campaign_id).name.lower(),
            gpc=None if rule is None else rule.gpc_effect,
            identity=web.identity,
            origins=web.origins,
            time_zone=settings.time_zone,
            created=int(time.time()),
        )
        try:
            await storage.create(client, campaign)
            created += 1
        except storage.CampaignExists:
            await _lower_mode(client, campaign)
    return created, len(saved.gone)


async def _lower_mode(client: AsyncRedis, campaign: Campaign) -> None:
    """Lowers a campaign's mode in the store to the saved mode.

    Call it if a hit has meanwhile created the campaign in the store. campaign: the saved campaign.
    """

    def lower(stored: Campaign) -> Campaign:
        lowest = min(stored.mode, campaign.mode, key=mode_named)
        return msgspec.structs.replace(stored, mode=lowest, gpc=campaign.gpc or stored.gpc)

    try:
        await storage.amend(client, campaign.id, lower)
    except (storage.UnknownCampaign, storage.SealedField, UnreadableCampaign):
        return
