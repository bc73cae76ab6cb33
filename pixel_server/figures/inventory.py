"""The inventory of stored data: for each kind of data, its amount, its oldest time, and how long it is kept.

A data protection officer asks for this table. It counts data, and shows none of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, NamedTuple

from pixel_server.counters import burst_window, open_breakdown, recipient_record
from pixel_server.counters.series import unpack
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.recipients import withdrawals
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.key import Key
from pixel_server.store.nodes import nodes
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import iso_day, iso_ms

_BATCH = 500
"""Number of keys, or of campaigns, read in one round trip."""


class Kind(NamedTuple):
    """One kind of data, as the API shows it.

    data: name of the kind. holds: description of an entry. number: number of entries, in `unit`. oldest: day
    or instant (UTC) of the oldest entry, or None if the kind is empty or has no times. where: pattern of its
    keys, or its directory.
    """

    data: str
    holds: str
    number: int
    unit: str
    oldest: str | None
    kept_for: str
    where: str


CountAndOldest = tuple[int, str | None]
"""(number of entries in one key, day or instant of the oldest entry or None)."""


class Reading(NamedTuple):
    """A way to count the entries of a key. command: Redis command that reads the key. parse: called with the
    key's name and the reply.
    """

    command: str
    parse: Callable[[str, Any], CountAndOldest]


class Source(NamedTuple):
    """A kind of data in Redis. key: its entry in the table of keys. data, holds, unit: as in Kind."""

    key: Key
    data: str
    holds: str
    unit: str
    reading: Reading


def _without_time(name: str, count: int) -> CountAndOldest:
    return count, None


def _day_in_name(name: str, count: int) -> CountAndOldest:
    return count, _iso_date(name[-8:])


def _second_in_name(name: str, count: int) -> CountAndOldest:
    return count, iso_ms(int(name.rpartition(":")[2]) * 1000)


def _minute_in_name(name: str, count: int) -> CountAndOldest:
    return count, iso_ms(int(name.rpartition(":")[2]) * burst_window.MINUTE_MS)


def _first_entry(name: str, info: Mapping[str, Any]) -> CountAndOldest:
    entry = info["first-entry"]
    return int(info["length"]), iso_ms(int(entry[0].partition(b"-")[0])) if entry else None


def _first_open(name: str, records: list[bytes]) -> CountAndOldest:
    opens = [record.first for record in map(recipient_record.unpack, records) if record.opens]
    return len(records), iso_ms(min(opens) * 1000) if opens else None


def _first_day(name: str, days: list[bytes]) -> CountAndOldest:
    return len(days), iso_day(min(map(recipient_record.unpack_day, days), default=0))


def _first_series_day(name: str, months: Mapping[bytes, bytes]) -> CountAndOldest:
    return _count_days(months, unpack)


def _first_breakdown_day(name: str, months: Mapping[bytes, bytes]) -> CountAndOldest:
    dated = {month: value for month, value in months.items() if month != open_breakdown.ALL.encode()}
    return _count_days(dated, open_breakdown.unpack)


def _count_days(
    months: Mapping[bytes, bytes], unpack_month: Callable[[bytes], Iterable[int]]
) -> CountAndOldest:
    days = [f"{month.decode()}{day:02d}" for month, value in months.items() for day in unpack_month(value)]
    return len(days), _iso_date(min(days)) if days else None


def _iso_date(day: str) -> str:
    """Returns `"2026-11-24"` for `"20261124"`."""
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"


_ENTRIES = Reading("hlen", _without_time)
_MEMBERS = Reading("zcard", _without_time)
_KEYS = Reading("exists", _without_time)
_DAYS = Reading("exists", _day_in_name)
_SECONDS = Reading("exists", _second_in_name)
_MINUTES = Reading("hlen", _minute_in_name)
_STREAM = Reading("xinfo_stream", _first_entry)
_RECORDS = Reading("hvals", _first_open)
_LAST_DAYS = Reading("hvals", _first_day)
_SERIES = Reading("hgetall", _first_series_day)
_BREAKDOWNS = Reading("hgetall", _first_breakdown_day)

# fmt: off
SOURCES = {source.key.pattern: source for source in (
    Source(keys.hits, "waiting hits", "recipient key, IP address, user agent, page, referrer",
        "batches", _STREAM),
    Source(keys.dead, "dead letters", "hits that could not be read", "hits", _STREAM),
    Source(keys.people, "recipients",
        "recipient key: first and last open, opens by verdict, time to open, which pixels were loaded",
        "recipients", _RECORDS),
    Source(keys.listed, "lists", "recipient key, day of the last mail", "recipients", _ENTRIES),
    Source(keys.deliveries, "deliveries",
        "recipient key: delivered, bounced, complained, unsubscribed", "recipients", _ENTRIES),
    Source(keys.names, "names", "recipient key: recipient and name, as uploaded", "recipients", _ENTRIES),
    Source(keys.consents, "consents", "recipient key: version of the notice, time", "recipients", _ENTRIES),
    Source(keys.last, "days of last opens", "recipient key: a day", "recipients", _LAST_DAYS),
    Source(keys.addresses, "address estimates", "HyperLogLog: names nobody", "sets", _KEYS),
    Source(keys.visitors, "visitor estimates", "HyperLogLog: names nobody", "sets", _KEYS),
    Source(keys.daily_visitors, "daily visitor estimates", "HyperLogLog: names nobody", "sets", _DAYS),
    Source(keys.evidence, "traces of the last hits",
        "recipient key, a hash of the address, what was counted", "recipients, by minute", _MINUTES),
    Source(keys.visits, "visits under way",
        "a hash of the visitor, pages and times, where the visit came from", "visits", _ENTRIES),
    Source(keys.salt, "salts of visitors' hashes",
        "random; whoever has a salt could guess who was there", "salts", _SECONDS),
    Source(keys.web, "daily views by page, referrer, country ...", "sums", "days of a campaign", _DAYS),
    Source(keys.sample, "records of some visits",
        "pages, quarter of an hour, duration, where the visit came from, country, browser; names nobody",
        "days of a campaign", _DAYS),
    Source(keys.breakdown, "daily opens by client, device, country", "sums", "days of a campaign",
        _BREAKDOWNS),
    Source(keys.buckets, "15-minute series", "sums", "days of a campaign", _DAYS),
    Source(keys.months, "daily series", "sums", "days of a campaign", _SERIES),
    Source(keys.total, "totals", "sums", "campaigns, by shard", _KEYS),
    Source(keys.TABLE[keys.WITHDRAWN], "withdrawals", "a hash of the recipient key, times", "recipients",
        _ENTRIES),
    Source(keys.source, "mail services", "a name, who made it, the key of the service", "services", _KEYS),
    Source(keys.share, "share links", "a name, who made it, the hour of its last use", "links", _KEYS),
    Source(keys.TABLE[keys.AUDIT], "audit log", "ids of API keys and campaigns, counts", "lines", _STREAM),
    Source(keys.TABLE[keys.ACTIONS], "log of recipients",
        "what recipients did on the privacy page, not who", "lines", _STREAM),
    Source(keys.TABLE[keys.OWED_ERASURES], "owed erasures",
        "masked keys of recipients, and when each is due", "recipients", _MEMBERS),
    Source(keys.TABLE[keys.WEBHOOKS], "webhooks", "a URL, secrets, who made it", "webhooks", _ENTRIES),
    Source(keys.outbox, "new events of webhooks", "recipient key, what happened when", "events", _STREAM),
    Source(keys.TABLE[keys.NOTICES], "new notices of webhooks", "recipient key of a withdrawal", "events",
        _STREAM),
    Source(keys.hook_events, "events that wait for a webhook",
        "recipient key, a hash of it, what happened when", "events", _ENTRIES),
    Source(keys.hook_log, "log of webhooks", "each try with its answer; names nobody", "tries", _STREAM),
)}
"""Kinds of data in Redis, by the pattern of their keys, in the order of the inventory."""
# fmt: on

_FIRST_TIME_FIELDS = {
    keys.listed.pattern: "listed",
    keys.names.pattern: "listed",
    keys.consents.pattern: "listed",
    keys.addresses.pattern: "sealed",
    keys.visitors.pattern: "sealed",
    keys.total.pattern: "sealed",
}
"""Kinds of data whose entries hold no time, by the pattern of their keys. For each of these kinds, the hash
of a campaign has a field with the time of the campaign's first data. The value is the name of this field."""


class _Inventory:
    """The counts, oldest times and campaigns so far, by pattern of the keys."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(SOURCES, 0)
        self.oldest: dict[str, str] = {}
        self.campaigns: dict[str, set[str]] = {pattern: set() for pattern in _FIRST_TIME_FIELDS}

    def note_time(self, pattern: str, time: str) -> None:
        self.oldest[pattern] = min(time, self.oldest.get(pattern, time))

    def add(self, pattern: str, name: str, answer: Any) -> None:
        """Adds one key. A value that a newer version wrote counts as one entry without a time."""
        try:
            count, oldest = SOURCES[pattern].reading.parse(name, answer)
        except NewerFormat:
            count, oldest = 1, None
        self.counts[pattern] += count
        if count and oldest is not None:
            self.note_time(pattern, oldest)
        if pattern in _FIRST_TIME_FIELDS:
            self.campaigns[pattern].add(name.split(":")[3])


async def kinds(store: AsyncRedis, settings: Settings, spooled: int, spooled_since: int | None) -> list[Kind]:
    """Returns the counts of all kinds of data. Reads the whole store, in parts.

    spooled: number of hits in the spool. spooled_since: time of the oldest of these hits, ms.
    """
    inventory = _Inventory()
    async for batch in _batches(store):
        pipe = store.pipeline(transaction=False)
        for pattern, name in batch:
            getattr(pipe, SOURCES[pattern].reading.command)(name)
        for (pattern, name), answer in zip(batch, await pipe.execute(), strict=True):
            inventory.add(pattern, name, answer)
    async for _, periods in store.hscan_iter(keys.WITHDRAWN, count=_BATCH):
        for start in _starts(periods):
            inventory.note_time(keys.WITHDRAWN, start)
    await _read_first_times(store, inventory)
    in_redis = [
        Kind(
            source.data,
            source.holds,
            inventory.counts[pattern],
            source.unit,
            inventory.oldest.get(pattern),
            source.key.kept_for(settings),
            pattern,
        )
        for pattern, source in SOURCES.items()
    ]
    return [in_redis[0], _spool(settings, spooled, spooled_since), *in_redis[1:]]


def _spool(settings: Settings, hits: int, since: int | None) -> Kind:
    oldest = None if since is None else iso_ms(since)
    where = f"{settings.data}/spool"
    return Kind("hits on disk", "as waiting hits", hits, "hits", oldest, "until Redis answers", where)


async def _batches(store: AsyncRedis) -> AsyncIterator[list[tuple[str, str]]]:
    """Yields batches of keys, each as (pattern, key): `("px:{s}:hits", "px:{0}:hits")`."""
    batch: list[tuple[str, str]] = []
    for node in await nodes(store):
        async for key in node.scan_iter(match="px:*", count=1000):
            name = key.decode()
            kind = keys.kind_of(name)
            is_copy = name.startswith("px:{all}:")  # if the pattern has a shard: see `store.merged`
            if kind is not None and kind.pattern in SOURCES and not (is_copy and "{s}" in kind.pattern):
                batch.append((kind.pattern, name))
            if len(batch) >= _BATCH:
                yield batch
                batch = []
    yield batch


async def _read_first_times(store: AsyncRedis, inventory: _Inventory) -> None:
    """Reads the times of _FIRST_TIME_FIELDS from the keys of the campaigns that have such data."""
    for pattern, field in _FIRST_TIME_FIELDS.items():
        campaigns = sorted(inventory.campaigns[pattern])
        for i in range(0, len(campaigns), _BATCH):
            pipe = store.pipeline(transaction=False)
            for campaign in campaigns[i : i + _BATCH]:
                pipe.hget(keys.campaign(campaign), field)
            for seconds in await pipe.execute():
                if seconds:
                    inventory.note_time(pattern, iso_ms(int(seconds) * 1000))


def _starts(periods: bytes) -> list[str]:
    """Returns the times at which a recipient withdrew. Leaves out erasures: their period begins at 0."""
    try:
        return [iso_ms(start) for start, _ in withdrawals.parse_periods(periods) if start]
    except NewerFormat:
        return []
