"""Verifies a whole store: goes over all keys once, and then over shards, campaigns and merged values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from functools import partial

from pixel_server.campaigns import campaign as campaigns
from pixel_server.campaigns import retention
from pixel_server.copying.values import read
from pixel_server.recipients import withdrawals
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.key import CampaignBucketKey, CampaignDayKey, CampaignKey, GlobalKey, Key
from pixel_server.store.nodes import nodes
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_version import FORMAT
from pixel_server.verification import campaign_check, merged_check, shard_check, stored_values
from pixel_server.verification.campaign_check import Counts, Expected
from pixel_server.verification.steady import confirm

BATCH = 200
"""Keys, or entries of a stream, that are read in one round trip."""
TRIES = 3
"""Times that sums over all shards are compared, because hits may be counted meanwhile."""
_COUNTED = (CampaignKey, CampaignDayKey, CampaignBucketKey)
"""Classes of the keys that belong to a campaign and a shard."""


class _Names:
    """Names of keys. by_campaign: the campaign's keys of recipients, days and buckets, by shard and campaign.

    merged: keys of merged values. ids: campaigns of the keys with a tag {all}, with one key of each.
    """

    def __init__(self) -> None:
        self.by_campaign: dict[tuple[int, str], set[str]] = defaultdict(set)
        self.merged: set[str] = set()
        self.ids: dict[str, str] = {}


async def verify(
    store: AsyncRedis, settings: Settings, report: Callable[[int], None] = lambda keys_read: None
) -> AsyncIterator[str]:
    """Yields a line for each fault. report: called with the number of keys that were read so far."""
    names = _Names()
    count = 0
    async for batch in _batches(store, "px:*"):
        for fault in await _value_faults(store, settings.shards, batch, names):
            yield fault
        count += len(batch)
        report(count)
    record = await store.hgetall(keys.STORE)
    if record.get(b"format", b"%d" % FORMAT) != b"%d" % FORMAT:
        yield f"{keys.STORE} has the format {record[b'format'].decode()}, this version reads {FORMAT}"
    if record.get(b"shards", b"%d" % settings.shards) != b"%d" % settings.shards:
        yield f"{keys.STORE} says {record[b'shards'].decode()} shards, there are {settings.shards}"
    for shard in range(settings.shards if record else 0):
        check = partial(shard_check.check, store, shard, record.get(b"mark", b""))
        for fault in await confirm(store, shard, check, await check()):
            yield fault
    async for fault in _campaign_faults(store, settings, names, is_resharded=b"resharded" in record):
        yield fault
    for fault in await merged_check.check(store, settings.shards, sorted(names.merged)):
        yield fault


async def _batches(store: AsyncRedis, pattern: str) -> AsyncIterator[list[str]]:
    """Yields the names of all keys that match. May yield a name twice."""
    for node in await nodes(store):
        batch: list[str] = []
        async for name in node.scan_iter(match=pattern, count=1000):
            batch.append(name.decode(errors="backslashreplace"))
            if len(batch) == BATCH:
                yield batch
                batch = []
        yield batch


async def _value_faults(store: AsyncRedis, shards: int, batch: list[str], names: _Names) -> list[str]:
    """Returns the faults of these keys, each by itself. Notes in `names` what the other checks need."""
    found, known = [], {}
    for name in batch:
        if fault := stored_values.name_fault(name, shards):
            found.append(f"{name} {fault}")
        elif (kind := keys.kind_of(name)) is not None:
            known[name] = kind
    pipe = store.pipeline(transaction=False)
    for name in known:
        pipe.execute_command("TYPE", name)
    to_read: dict[str, Key] = {}
    for (name, kind), reply in zip(known.items(), await pipe.execute(), strict=True):
        actual = reply.encode() if isinstance(reply, str) else reply
        if actual == b"none":
            continue  # removed meanwhile
        if actual != stored_values.type_name(kind):
            found.append(f"{name} is a {actual.decode()}, it should be a {kind.redis_type}")
        elif kind.redis_type == "stream":
            found += await _entry_faults(store, kind, name)
        else:
            to_read[name] = kind
            _note(names, name, kind)
    for stored in await read(store, [(name, kind.redis_type) for name, kind in to_read.items()]):
        kind = to_read[stored.name]
        found += [
            f"{stored.name} {fault}"
            for fault in stored_values.value_faults(kind, stored.name, stored.value, shards)
        ]
    return found


def _note(names: _Names, name: str, kind: Key) -> None:
    parts = name.split(":")
    if isinstance(kind, _COUNTED):
        if parts[1] == "{all}":
            names.merged.add(name)
        else:
            of_campaign = names.by_campaign[int(parts[1][1:-1]), parts[3]]
            if not isinstance(kind, CampaignKey):
                of_campaign.add(name)
        names.ids.setdefault(parts[3], name)
    elif isinstance(kind, GlobalKey) and kind in (keys.campaign, keys.notes, keys.shares):
        names.ids.setdefault(parts[3], name)


async def _entry_faults(store: AsyncRedis, kind: Key, name: str) -> list[str]:
    found, first = [], "-"
    while entries := await store.xrange(name, first, "+", BATCH):
        for entry, fields in entries:
            if fault := stored_values.entry_fault(kind, fields):
                found.append(f"{name} has the entry {entry.decode()}, which {fault}")
        first = f"({entries[-1][0].decode()}"
    return found


async def _campaign_faults(
    store: AsyncRedis, settings: Settings, names: _Names, is_resharded: bool
) -> AsyncIterator[str]:
    """Yields the faults of all campaigns: keys without a record, and counts that do not agree.

    is_resharded: whether the store was copied from one with another number of shards.
    """
    for campaign, name in sorted(names.ids.items()):
        if fault := await _record_fault(store, campaign, name):
            yield fault
    removed = await _count_withdrawals(store)
    for (shard, campaign), of_campaign in sorted(names.by_campaign.items()):

        async def check(
            shard: int = shard, campaign: str = campaign, listed: set[str] | None = None
        ) -> list[str]:
            bucketed = await _names_of(store, shard, campaign) if listed is None else listed
            return await _compare(store, settings, shard, campaign, bucketed, removed, is_resharded)

        for fault in await confirm(store, shard, check, await check(listed=of_campaign)):
            yield fault
    for campaign in sorted({campaign for _, campaign in names.by_campaign}) if is_resharded else ():
        for _ in range(TRIES):
            if not (found := await _compare_sums(store, settings, campaign, removed)):
                break
        for fault in found:
            yield fault


async def _compare(
    store: AsyncRedis,
    settings: Settings,
    shard: int,
    campaign: str,
    bucketed: set[str],
    removed: int,
    is_resharded: bool,
) -> list[str]:
    try:
        expected = await _expect(store, settings, campaign, removed, is_resharded)
        counts = await campaign_check.read_counts(store, shard, campaign, bucketed)
    except stored_values.UNREADABLE:
        return []
    return campaign_check.faults(shard, expected, counts)


async def _compare_sums(store: AsyncRedis, settings: Settings, campaign: str, removed: int) -> list[str]:
    """Compares the totals of recipients with the recipients, over all shards together."""
    sums = Counts()
    try:
        expected = await _expect(store, settings, campaign, removed, is_resharded=True)
        for shard in range(settings.shards):
            bucketed = await _names_of(store, shard, campaign)
            campaign_check.add_recipients(
                sums, await campaign_check.read_counts(store, shard, campaign, bucketed)
            )
    except stored_values.UNREADABLE:
        return []
    return [
        f"campaign {campaign}, all shards: {fault}"
        for fault in campaign_check.recipient_faults(expected, sums)
    ]


async def _expect(
    store: AsyncRedis, settings: Settings, campaign: str, removed: int, is_resharded: bool
) -> Expected:
    """Returns what limits the counts of a campaign. Raises one of `stored_values.UNREADABLE`."""
    stored = campaigns.decode(await store.hget(keys.campaign(campaign), "record"), campaign)
    now = float((await store.time())[0])
    return Expected(stored, retention.campaign_days(settings, stored), now, removed, not is_resharded)


async def _record_fault(store: AsyncRedis, campaign: str, name: str) -> str:
    """Returns the fault of a campaign's record, "" if it has none. name: one key of the campaign."""
    pipe = store.pipeline(transaction=True)
    pipe.exists(keys.campaign(campaign))
    pipe.execute_command("ZSCORE", keys.CAMPAIGNS, campaign)
    pipe.sismember(keys.DELETING, campaign)
    pipe.sismember(keys.GONE, campaign)
    has_record, listed, is_deleting, is_gone = await pipe.execute()
    if is_deleting or (has_record and listed is not None and not is_gone):
        return ""
    if has_record:
        return f"campaign {campaign} has a record, but is not in {keys.CAMPAIGNS if not is_gone else 'use'}"
    return f"{name} is of campaign {campaign}, which does not exist" if await store.exists(name) else ""


async def _names_of(store: AsyncRedis, shard: int, campaign: str) -> set[str]:
    return {name async for batch in _batches(store, f"px:{{{shard}}}:*:{campaign}:*") for name in batch}


async def _count_withdrawals(store: AsyncRedis) -> int:
    """Returns the number of withdrawals so far, each of which may have been an erasure."""
    count = 0
    async for _, value in store.hscan_iter(keys.WITHDRAWN, count=1000):
        try:
            count += len(withdrawals.parse_periods(value))
        except ValueError:
            count += 1
    return count
