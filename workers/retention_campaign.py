"""Removes the due data of one campaign, in steps, so that another run can continue after a crash.

The campaign's record first names the data that will be removed (`leaving`). From then on readers and the
roll-up leave this data out. Then the generation of each shard is raised, the keys are removed, and the record
names the data as removed (`gone`). If `leaving` and `gone` differ, the next run continues the removal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from msgspec.structs import replace

from pixel_server.campaigns import purge, retention, storage
from pixel_server.campaigns.campaign import DATA_KINDS, Campaign, Removal
from pixel_server.settings import Settings
from pixel_server.store import aof_rewrite, audit_log, checkpoint, replication
from pixel_server.store.protocols import AsyncRedis
from workers.removals import Allowance, Removals, no_removals


async def remove_due(
    store: AsyncRedis, settings: Settings, campaign_id: str, now: float, allowance: Allowance
) -> Removals:
    """Removes the due data of a campaign. now: Redis's time, s.

    Raises UnknownCampaign if the campaign was deleted, and NotReplicatedError if no replica has confirmed the
    removal. The next run then removes the data again.
    """
    campaign, uses = await storage.get_uses(store, campaign_id)
    days, mode = retention.campaign_days(settings, campaign), retention.effective_mode(settings, campaign)
    due = retention.due_removal(campaign, uses, days, mode, now)
    is_closing = campaign.closed_at is None and retention.is_closing(campaign, uses, days, now)
    removals = no_removals()
    if allowance != "all":
        overdue = retention.overdue_kinds(campaign, uses, days, mode, now)
        held_kinds = set(DATA_KINDS) if allowance == "nothing" else overdue
        removals.waiting.update(await _count_due(store, settings.shards, campaign, due, held_kinds))
        if allowance == "nothing":
            return removals
        is_closing = is_closing and "recipients" not in removals.waiting
        due = replace(due, **{kind: getattr(campaign.leaving, kind) for kind in removals.waiting})
    if due == campaign.gone and not is_closing:
        return removals
    if is_closing or due != campaign.leaving:
        campaign = await _store_leaving(store, campaign_id, due, int(now) if is_closing else None)
    if is_closing:  # recipients may have been stored again: the mode may have been lowered, then raised
        campaign = replace(campaign, gone=replace(campaign.gone, recipients=False, names=False))
    removals.removed.update(await _remove(store, settings.shards, campaign))
    # The record is on another node of a cluster. It must not say `gone` of data that a replica still has.
    await replication.confirm(store, settings.shards)
    for kind in sorted(removals.removed.keys() & {"recipients", "names"}):
        await audit_log.note(store, audit_log.RETENTION, f"{kind}.removed", campaign=campaign_id)
    # `leaving` of the stored record may be newer: another run may have begun to remove more.
    done = campaign.leaving
    await storage.amend(store, campaign_id, lambda stored: replace(stored, gone=done), is_announced=False)
    return removals


async def _store_leaving(
    store: AsyncRedis, campaign_id: str, due: Removal, closed_at: int | None
) -> Campaign:
    """Writes into the record which data will be removed.

    closed_at: time (s) to store as the campaign's closing, or None to leave the stored time.
    """

    def change(stored: Campaign) -> Campaign:
        closed = stored.closed_at if closed_at is None else closed_at
        return replace(stored, leaving=due, closed_at=closed)

    return await storage.amend(store, campaign_id, change, is_announced=False)


async def _count_due(
    store: AsyncRedis, shards: int, campaign: Campaign, due: Removal, kinds: Collection[str]
) -> Counter[str]:
    """Returns, for each of these kinds, how much data would be removed.

    The amount is the number of keys for `buckets`, the sum of the days of each shard for `days`, and 1 for
    `recipients` and `names`.
    """
    leaving = campaign.leaving
    counts: Counter[str] = Counter()
    for kind in {"recipients", "names"}.intersection(kinds):
        counts[kind] = int(getattr(due, kind) > getattr(leaving, kind))
    for shard in range(shards):
        if "buckets" in kinds:
            counts["buckets"] += await purge.count_time_buckets(
                store, shard, campaign.id, leaving.buckets, due.buckets
            )
        if "days" in kinds:
            counts["days"] += len(await purge.list_days_before(store, shard, campaign.id, due.days))
    return +counts


async def _remove(store: AsyncRedis, shards: int, campaign: Campaign) -> Counter[str]:
    """Removes the data that `leaving` names and `gone` does not. Returns the number of keys by kind."""
    gone, leaving = campaign.gone, campaign.leaving
    kinds = {kind for kind in DATA_KINDS if getattr(leaving, kind) > getattr(gone, kind)}
    removed: Counter[str] = Counter()
    if kinds:
        await aof_rewrite.request(store)
    for shard in range(shards):
        await checkpoint.raise_generation(store, shard)
        if "buckets" in kinds:
            removed["buckets"] += await purge.remove_time_buckets(
                store, shard, campaign.id, gone.buckets, leaving.buckets
            )
        if "days" in kinds:
            removed["days"] += await purge.remove_days(store, shard, campaign.id, leaving.days)
        if "recipients" in kinds:
            removed["recipients"] += await purge.remove_recipients(store, shard, campaign.id)
        elif "names" in kinds:
            removed["names"] += await purge.remove_names(store, shard, campaign.id)
    return +removed
