"""Deletes a campaign with all its keys. Its id stays in `keys.GONE` as a tombstone, so that no new campaign
gets it.

Deletion first sets the tombstone, then raises the generation of each shard, so that every roll-up that has
not seen the tombstone fails to commit. After that nothing can bring a key back, and the keys are removed in
bounded steps.
"""

from __future__ import annotations

from pixel_server.campaigns import purge
from pixel_server.campaigns.storage import UnknownCampaign
from pixel_server.slug import is_slug
from pixel_server.store import aof_rewrite, checkpoint, keys, replication
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import EVEN_IF_FULL, GLOBAL, ScriptCall, script_call
from pixel_server.webhooks.purge import purge_campaign

_DELETE = (
    EVEN_IF_FULL
    + """
-- KEYS: campaign, campaigns, gone, changes, deleting, dropped, notes, shares. ARGV: id, prefix of the keys of
-- shares. Returns 1, or 0 if no campaign has this id.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('SADD', KEYS[5], ARGV[1])
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[6], ARGV[1], ARGV[1] .. ':out', ARGV[1] .. ':origin')
for _, share in ipairs(redis.call('SMEMBERS', KEYS[8])) do redis.call('DEL', ARGV[2] .. share) end
redis.call('DEL', KEYS[7], KEYS[8])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', 10000, '*', 'id', ARGV[1])
return 1
"""
)


def _delete_call(campaign: str) -> ScriptCall:
    return script_call(
        _DELETE,
        keys=(
            *(keys.campaign(campaign), keys.CAMPAIGNS, keys.GONE, keys.CHANGES),
            *(keys.DELETING, keys.DROPPED, keys.notes(campaign), keys.shares(campaign)),
        ),
        arguments=(campaign, keys.share("")),
        undeclared=GLOBAL,
    )


async def delete(store: AsyncRedis, campaign: str, shards: int) -> None:
    """Removes a campaign and all its keys except the tombstone.

    Raises UnknownCampaign, or NotReplicatedError if no replica has confirmed the deletion.
    """
    if not is_slug(campaign) or not await store.eval(*_delete_call(campaign)):
        raise UnknownCampaign(campaign)
    await _remove_keys(store, campaign, shards)


async def finish_deletions(store: AsyncRedis, shards: int) -> list[str]:
    """Finishes deletions that a crash cut short. Returns the ids of their campaigns."""
    unfinished = [campaign.decode() for campaign in await store.smembers(keys.DELETING)]
    for campaign in unfinished:
        await _remove_keys(store, campaign, shards)
    return unfinished


async def _remove_keys(store: AsyncRedis, campaign: str, shards: int) -> None:
    for shard in range(shards):
        await checkpoint.raise_generation(store, shard)
        await purge.remove_all(store, shard, campaign)
    await purge.remove_merged(store, campaign)
    await purge_campaign(store, campaign)
    await aof_rewrite.request(store)
    await replication.confirm(store, shards)
    await store.srem(keys.DELETING, campaign)
