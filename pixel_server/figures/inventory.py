"""The inventory: how much is stored now of each kind of data, since when, and for how long.

It is the table that a data protection officer asks for. It counts data and shows none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, NamedTuple

from pixel_server.counters import burst_window, open_breakdown, recipient_record
from pixel_server.counters.series import unpack
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.recipients import withdrawals
from pixel_server.settings import Settings
from pixel_server.store import audit_log, keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import iso_day, iso_ms

_BATCH = 500
"""Keys, or campaigns, read in one round trip."""


class Kind(NamedTuple):
    """One kind of data, as the API shows it.

    number: how many there are, in `unit`. oldest: a day or an instant of UTC; None if the kind is empty or
    has no times.
    """

    data: str
    holds: str
    number: int
    unit: str
    oldest: str | None
    kept_for: str
    where: str


Age = tuple[int, str | None]
"""The number of entries in one key, and the day or instant of the oldest."""


class Reading(NamedTuple):
    """How a key is counted. command: the Redis command that reads it. parse: takes the key and the answer."""

    command: str
    parse: Callable[[str, Any], Age]


class Source(NamedTuple):
    """A kind of data in Redis. kept_for: a text with settings in braces."""

    data: str
    holds: str
    unit: str
    keys: str
    kept_for: str
    reading: Reading


def _no_age(name: str, count: int) -> Age:
    return count, None


def _day_in_name(name: str, count: int) -> Age:
    return count, _iso_date(name[-8:])


def _second_in_name(name: str, count: int) -> Age:
    return count, iso_ms(int(name.rpartition(":")[2]) * 1000)


def _minute_in_name(name: str, count: int) -> Age:
    return count, iso_ms(int(name.rpartition(":")[2]) * burst_window.MINUTE_MS)


def _first_entry(name: str, info: Mapping[str, Any]) -> Age:
    entry = info["first-entry"]
    return int(info["length"]), iso_ms(int(entry[0].partition(b"-")[0])) if entry else None


def _first_open(name: str, records: list[bytes]) -> Age:
    opens = [person.first for person in map(recipient_record.unpack, records) if person.opens]
    return len(records), iso_ms(min(opens) * 1000) if opens else None


def _first_day(name: str, days: list[bytes]) -> Age:
    return len(days), iso_day(min(map(recipient_record.unpack_day, days), default=0))


def _first_series_day(name: str, months: Mapping[bytes, bytes]) -> Age:
    return _count_days(months, unpack)


def _first_breakdown_day(name: str, months: Mapping[bytes, bytes]) -> Age:
    dated = {month: value for month, value in months.items() if month != open_breakdown.ALL.encode()}
    return _count_days(dated, open_breakdown.unpack)


def _count_days(months: Mapping[bytes, bytes], unpack_month: Callable[[bytes], Iterable[int]]) -> Age:
    days = [f"{month.decode()}{day:02d}" for month, value in months.items() for day in unpack_month(value)]
    return len(days), _iso_date(min(days)) if days else None


def _iso_date(day: str) -> str:
    """Returns `"2026-11-24"` for `"20261124"`."""
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"


_ENTRIES = Reading("hlen", _no_age)
_MEMBERS = Reading("zcard", _no_age)
_KEYS = Reading("exists", _no_age)
_DAYS = Reading("exists", _day_in_name)
_ENDS = Reading("exists", _second_in_name)
_MINUTES = Reading("hlen", _minute_in_name)
_STREAM = Reading("xinfo_stream", _first_entry)
_RECORDS = Reading("hvals", _first_open)
_LAST_DAYS = Reading("hvals", _first_day)
_SERIES = Reading("hgetall", _first_series_day)
_BREAKDOWNS = Reading("hgetall", _first_breakdown_day)

_AFTER_SENDING = "{settings.keep_recipients:,} days after sending"
_FOREVER = "until the campaign is deleted"
_SUMS = "{settings.keep_days:,} days"
_LOG = f"the last {audit_log.MOST:,}"

# fmt: off
SOURCES: dict[str, Source] = {
    "hits": Source(
        "waiting hits", "recipient key, IP address, user agent, page, referrer", "batches",
        "px:{s}:hits", "until counted", _STREAM),
    "dead": Source(
        "dead letters", "requests that could not be read", "hits",
        "px:{s}:dead", "{settings.keep_dead_letters:,} days", _STREAM),
    "people": Source(
        "recipients", "recipient key: first and last open, how many by verdict, time to open, which part",
        "recipients", "px:{s}:people:ID:BUCKET", _AFTER_SENDING, _RECORDS),
    "listed": Source(
        "lists", "recipient key, day of the last mail", "recipients",
        "px:{s}:listed:ID:BUCKET", _AFTER_SENDING, _ENTRIES),
    "names": Source(
        "names", "recipient key: recipient and name, as uploaded", "recipients",
        "px:{s}:names:ID:BUCKET", "{settings.keep_names:,} days after sending", _ENTRIES),
    "last": Source(
        "days of last opens", "recipient key: a day", "recipients",
        "px:{s}:last:BUCKET", "{settings.keep_recipients:,} days", _LAST_DAYS),
    "addresses": Source(
        "address estimates", "HyperLogLog: names nobody", "sets",
        "px:{s}:addresses:ID", _FOREVER, _KEYS),
    "visitors": Source(
        "visitor estimates", "HyperLogLog: names nobody", "sets",
        "px:{s}:visitors:ID", _FOREVER, _KEYS),
    "visitors:day": Source(
        "daily visitor estimates", "HyperLogLog: names nobody", "sets",
        "px:{s}:visitors:ID:DAY", _SUMS, _DAYS),
    "evidence": Source(
        "traces of the last hits", "recipient key, a hash of the address, what was counted",
        "recipients, by minute",
        "px:{s}:evidence:MINUTE", "6 minutes of a shard's hits, at most a day", _MINUTES),
    "visits": Source(
        "visits under way", "a hash of the visitor, pages and times, where the visit came from", "visits",
        "px:{s}:visits", "an hour of a shard's hits, at most a day", _ENTRIES),
    "salt": Source(
        "salts of visitors' hashes", "random; whoever has a salt could guess who was there", "salts",
        "px:{s}:salt:END", "48 hours after their day", _ENDS),
    "web": Source(
        "daily views by page, referrer, country ...", "sums", "days of a campaign",
        "px:{s}:web:ID:DAY", _SUMS, _DAYS),
    "breakdown": Source(
        "daily opens by client, device, country", "sums", "days of a campaign",
        "px:{s}:breakdown:ID", _SUMS, _BREAKDOWNS),
    "buckets": Source(
        "15-minute series", "sums", "days of a campaign",
        "px:{s}:buckets:ID:DAY", "{settings.keep_buckets:,} days", _DAYS),
    "months": Source(
        "daily series", "sums", "days of a campaign",
        "px:{s}:months:ID", _SUMS, _SERIES),
    "total": Source(
        "totals", "sums", "campaigns, by shard",
        "px:{s}:total:ID", _FOREVER, _KEYS),
    "withdrawn": Source(
        "withdrawals", "a hash of the recipient key, times", "recipients",
        keys.WITHDRAWN, "for ever: so that nothing of them is kept", _ENTRIES),
    "share": Source(
        "share links", "a name, who made it, the hour of its last use", "links",
        "px:{all}:share:KEY", "until revoked, or the campaign is deleted", _KEYS),
    "audit": Source(
        "audit log", "ids of API keys and campaigns, counts", "lines", keys.AUDIT, _LOG, _STREAM),
    "actions": Source(
        "log of recipients", "what recipients did on the privacy page, not who", "lines",
        keys.ACTIONS, _LOG, _STREAM),
    "erasing": Source(
        "owed erasures", "masked keys of recipients, and when each is due", "recipients",
        keys.ERASING, "until done", _MEMBERS),
}
"""The kinds of data in Redis, by the part of their keys after the tag: `hits` of `px:{0}:hits`.

`visitors:day` is the same with a day at its end.
"""
# fmt: on

_BEGAN = {
    "listed": "listed",
    "names": "listed",
    "addresses": "sealed",
    "visitors": "sealed",
    "total": "sealed",
}
"""Kinds without times of their own, and the field of a campaign's record that says when they began."""


class _Tally:
    """What was counted so far: numbers, oldest times and campaigns by kind."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(SOURCES, 0)
        self.oldest: dict[str, str] = {}
        self.campaigns: dict[str, set[str]] = {kind: set() for kind in _BEGAN}

    def note_time(self, kind: str, time: str) -> None:
        self.oldest[kind] = min(time, self.oldest.get(kind, time))

    def add(self, kind: str, name: str, answer: Any) -> None:
        """Adds one key. A value that a newer version wrote counts as one entry without a time."""
        try:
            count, oldest = SOURCES[kind].reading.parse(name, answer)
        except NewerFormat:
            count, oldest = 1, None
        self.counts[kind] += count
        if count and oldest is not None:
            self.note_time(kind, oldest)
        if kind in _BEGAN:
            self.campaigns[kind].add(name.split(":")[3])


async def kinds(store: AsyncRedis, settings: Settings, spooled: int, spooled_since: int | None) -> list[Kind]:
    """Counts all kinds of data. Reads the whole store, in parts.

    spooled: hits in the spool. spooled_since: when the oldest came, ms.
    """
    tally = _Tally()
    async for batch in _batches(store):
        pipe = store.pipeline(transaction=False)
        for kind, name in batch:
            getattr(pipe, SOURCES[kind].reading.command)(name)
        for (kind, name), answer in zip(batch, await pipe.execute(), strict=True):
            tally.add(kind, name, answer)
    async for _, periods in store.hscan_iter(keys.WITHDRAWN, count=_BATCH):
        for start in _starts(periods):
            tally.note_time("withdrawn", start)
    await _read_beginnings(store, tally)
    found = [
        Kind(
            source.data,
            source.holds,
            tally.counts[kind],
            source.unit,
            tally.oldest.get(kind),
            source.kept_for.format(settings=settings),
            source.keys,
        )
        for kind, source in SOURCES.items()
    ]
    return [found[0], _spool(settings, spooled, spooled_since), *found[1:]]


def _spool(settings: Settings, hits: int, since: int | None) -> Kind:
    oldest = None if since is None else iso_ms(since)
    where = f"{settings.data}/spool"
    return Kind("hits on disk", "as waiting hits", hits, "hits", oldest, "until Redis answers", where)


async def _batches(store: AsyncRedis) -> AsyncIterator[list[tuple[str, str]]]:
    """Yields the keys of all kinds, each with its kind: `("hits", "px:{0}:hits")`."""
    batch: list[tuple[str, str]] = []
    async for key in store.scan_iter(match="px:*", count=1000):
        name = key.decode()
        kind = name.split(":")[2]
        if kind == "visitors" and name.count(":") > keys.visitors(0, "").count(":"):
            kind = "visitors:day"
        if kind in SOURCES:
            batch.append((kind, name))
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    yield batch


async def _read_beginnings(store: AsyncRedis, tally: _Tally) -> None:
    """Reads when the kinds of _BEGAN began, from the records of the campaigns that have such data."""
    for kind, field in _BEGAN.items():
        campaigns = sorted(tally.campaigns[kind])
        for i in range(0, len(campaigns), _BATCH):
            pipe = store.pipeline(transaction=False)
            for campaign in campaigns[i : i + _BATCH]:
                pipe.hget(keys.campaign(campaign), field)
            for seconds in await pipe.execute():
                if seconds:
                    tally.note_time(kind, iso_ms(int(seconds) * 1000))


def _starts(periods: bytes) -> list[str]:
    """Returns when a recipient withdrew. An erasure begins at 0, so it has no time of its own."""
    try:
        return [iso_ms(start) for start, _ in withdrawals.parse_periods(periods) if start]
    except NewerFormat:
        return []
