"""Adds the demo's two campaigns to a store, stores their hits as real hits are stored, and removes a demo."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from pixel_server import hit
from pixel_server.campaigns import deletion, storage
from pixel_server.campaigns.campaign import Campaign, Kind, new_campaign
from pixel_server.collect.recorder import Recorder
from pixel_server.collect.store_sink import open_sink
from pixel_server.consent import Consent
from pixel_server.counters import burst_window
from pixel_server.demo import hits, mailing
from pixel_server.demo.hits import RoutedHit
from pixel_server.recipients import lists
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import audit_log, checkpoint, keys
from pixel_server.store.checkpoint import Generation
from pixel_server.store.protocols import AsyncRedis
from pixel_server.tokens import Mode

IDS_AND_NAMES: dict[Kind, tuple[str, str]] = {
    "email": ("demo-newsletter", "Demo: newsletter"),
    "web": ("demo-site", "Demo: web site"),
}
"""Id and name of each campaign.

No id can be used twice, so the ids of later demos end in -2, -3 and so on.
"""
UNFINISHED = " (unfinished)"
"""Suffix of the names of a demo's campaigns until all hits of the demo are stored."""
STORE_TIMEOUT_SECONDS = 60.0
"""Seconds after which storing the hits is given up."""
REDIS_TIMEOUT_SECONDS = 5.0
"""Seconds that Redis may take to answer one command."""
LIST_ROWS = 500
"""Number of recipients that are written to the list in one call."""
RECORDER_BYTES = 1 << 26
"""Largest number of bytes of hits that wait to be stored: more than all hits of the demo."""


class NotStored(Exception):
    """Some hits of the demo could not be stored."""


class Added(NamedTuple):
    """The result of `add`.

    ids: ids of the two campaigns, the newsletter first. hits: number of hits that were stored, 0 if there was
    a demo already. removed: ids of the campaigns of an unfinished demo, which was removed first.
    """

    ids: list[str]
    hits: int
    removed: list[str]


async def add(
    store: AsyncRedis, url: str, settings: Settings, secrets: Secrets, now: float, seed: int
) -> Added:
    """Creates both campaigns and stores their hits. Does nothing if there is a finished demo already.

    Removes an unfinished demo first, because it is not known which of its hits are stored. url: the address
    of the store, for the recorder's own connection. Raises storage.UnknownCampaign if the demo is removed at
    the same time, and NotStored if some hits could not be stored.
    """
    existing = await _demo_campaigns(store)
    if existing and not any(campaign.name.endswith(UNFINISHED) for campaign in existing):
        return Added([campaign.id for campaign in existing], 0, [])
    removed = await remove(store, settings)
    mode = min(Mode.PSEUDONYMOUS, Consent(settings).rule("identified", None).mode)
    newsletter = await _create(store, "email", mode, now)
    web_site = await _create(store, "web", mode, now)
    await _store_recipient_list(store, newsletter, settings, secrets)
    routed_hits = list(hits.make_hits(newsletter.id, web_site.id, now, seed, secrets, mode, settings.shards))
    await _lower_newest_time(store, settings.shards, routed_hits[0][1].time)
    await _record(store, url, settings, routed_hits)
    for campaign in (newsletter, web_site):
        name = IDS_AND_NAMES[campaign.kind][1]
        await storage.change(store, campaign.id, {"name": name}, audit_log.COMMAND)
    return Added([newsletter.id, web_site.id], len(routed_hits), removed)


async def remove(store: AsyncRedis, settings: Settings) -> list[str]:
    """Deletes the campaigns that `add` created, and returns their ids."""
    removed = []
    for campaign in await _demo_campaigns(store):
        await audit_log.note(store, audit_log.COMMAND, "campaign.deleted", campaign=campaign.id)
        await deletion.delete(store, campaign.id, settings.shards)
        removed.append(campaign.id)
    return removed


async def _demo_campaigns(store: AsyncRedis) -> list[Campaign]:
    """Returns the campaigns that `add` created, the newsletter first."""
    campaigns: list[Campaign] = []
    after: str | None = None
    while True:
        page, after = await storage.page(store, after, 1000)
        campaigns += [campaign for campaign in page if campaign.made_by == "demo"]
        if after is None:
            return sorted(campaigns, key=lambda campaign: campaign.kind)


async def _create(store: AsyncRedis, kind: Kind, mode: Mode, now: float) -> Campaign:
    """Creates the campaign of this kind, under the first id that was never used. Returns the campaign."""
    first_id, name = IDS_AND_NAMES[kind]
    for number in itertools.count(1):
        campaign_id = first_id if number == 1 else f"{first_id}-{number}"
        # The open rate that is shared counts the days from the creation on.
        campaign = new_campaign(campaign_id, name + UNFINISHED, kind, created=hits.first_day(now))
        campaign = msgspec.structs.replace(campaign, mode=mode.name.lower(), made_by="demo")
        if kind == "email":
            sent_at = mailing.sent_at(hits.first_day(now), 0)
            counts = {"sent": mailing.READERS, "bounced": mailing.BOUNCED}
            campaign = msgspec.structs.replace(campaign, sent_at=sent_at, **counts)
        else:
            campaign = msgspec.structs.replace(campaign, identity="cookie")
        try:
            await storage.create(store, campaign)
        except storage.CampaignExists:
            continue
        return campaign
    raise AssertionError


async def _store_recipient_list(
    store: AsyncRedis, newsletter: Campaign, settings: Settings, secrets: Secrets
) -> None:
    """Stores the list of the newsletter's recipients, as the API call that creates links does."""
    assert newsletter.sent_at is not None
    await storage.note_links(store, newsletter.id, newsletter.sent_at)
    try:
        await lists.begin(store, newsletter.id, False, settings, newsletter.sent_at)
        rows = [lists.ListEntry(hits.recipient_address(reader), None) for reader in range(mailing.READERS)]
        for start in range(0, len(rows), LIST_ROWS):
            part = rows[start : start + LIST_ROWS]
            await lists.put(
                store, secrets, newsletter.id, part, settings.shards, False, mailed_at=newsletter.sent_at
            )
    except lists.ListClosed:
        pass  # PIXEL_MAX_MODE forbids lists of recipients


async def _lower_newest_time(store: AsyncRedis, shards: int, first_ms: int) -> None:
    """Lowers the stored time of each shard's newest hit to the time of the demo's first hit.

    Leaves an earlier time as it is. With a later time, the demo's hits would be late: their views would be
    counted, but not their visits. Also deletes the traces of the shard's last hits (`burst_window`), because
    the roll-up would no longer delete them after the change.
    """
    for shard in range(shards):

        async def commands(generation: Generation, shard: int = shard) -> list[checkpoint.Command]:
            call = checkpoint.read_call(shard, generation, [("HGET", keys.checkpoint(shard), "newest")])
            (stored_newest,) = checkpoint.read_replies(await store.eval(*call))
            newest = int(stored_newest or 0)
            if newest < first_ms:
                return []
            traces = [keys.evidence(shard, minute) for minute in burst_window.kept_minutes(newest)]
            return [("HSET", keys.checkpoint(shard), "newest", str(first_ms)), ("UNLINK", *traces)]

        await checkpoint.plan_and_commit(store, shard, commands)


async def _record(store: AsyncRedis, url: str, settings: Settings, routed_hits: Sequence[RoutedHit]) -> None:
    """Stores the hits in their order, as a web process does. Raises NotStored if a hit was not stored."""
    async with open_sink(store, settings, url=url, timeout_seconds=REDIS_TIMEOUT_SECONDS) as (sink, _):
        recorder = Recorder(sink, settings.shards, RECORDER_BYTES)
        recorder.start()
        accepted = [
            recorder.record(shard, hit.encode(record), lambda stored: None) for shard, record in routed_hits
        ]
        await recorder.close(STORE_TIMEOUT_SECONDS)
    if not all(accepted) or recorder.counts["stored"] < len(accepted):
        raise NotStored
