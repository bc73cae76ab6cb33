"""What is kept now, by kind of data: the table that a data protection officer asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pixel_server.counters import burst_window, open_breakdown, recipient_record
from pixel_server.counters.series import unpack
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.recipients import withdrawals
from pixel_server.settings import Settings
from pixel_server.store import audit_log, keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import iso_day, iso_ms

_CHUNK = 500


class Kind(NamedTuple):
    """One kind of data. number: of units. oldest: a day or an instant, UTC; None: none, or it has no time."""

    data: str
    holds: str
    number: int
    unit: str
    oldest: str | None
    kept_for: str
    where: str


_SINCE = {
    "listed": "listed",
    "names": "listed",
    "addresses": "sealed",
    "visitors": "sealed",
    "total": "sealed",
}
"""Kinds without a time of their own: the field of a campaign that says since when there may be some."""

Found = tuple[int, str | None]
"""(how many, the oldest) of one key."""


class _Source(NamedTuple):
    """A kind of data in Redis. ask: the command that reads a key; take: what its answer says of it."""

    data: str
    holds: str
    unit: str
    keys: str
    kept_for: str
    ask: str
    take: Callable[[str, Any], Found]


async def kinds(store: AsyncRedis, settings: Settings, spooled: int, spooled_since: int | None) -> list[Kind]:
    """Reads the whole store, a part at a time. spooled: hits on disk; since: ms, or None.

    A value that a newer version wrote is counted as one, without its age.
    """
    sources = _sources(settings)
    counts, oldest = dict.fromkeys(sources, 0), dict.fromkeys(sources, "~")
    held: list[tuple[str, str]] = []
    campaigns: dict[str, set[str]] = {kind: set() for kind in _SINCE}

    async def look() -> None:
        pipe = store.pipeline(transaction=False)
        for kind, name in held:
            getattr(pipe, sources[kind].ask)(name)
        for (kind, name), value in zip(held, await pipe.execute(), strict=True):
            try:
                count, first = sources[kind].take(name, value)
            except NewerFormat:
                count, first = 1, None
            counts[kind] += count
            if count and first is not None:
                oldest[kind] = min(oldest[kind], first)
        held.clear()

    async for name in store.scan_iter(match="px:*", count=1000):
        text = name.decode()
        kind = text.split(":")[2]
        if kind == "visitors" and text.count(":") > keys.visitors(0, "").count(":"):
            kind = "visitors:day"
        if kind in sources:
            held.append((kind, text))
        if kind in _SINCE:
            campaigns[kind].add(text.split(":")[3])
        if len(held) >= _CHUNK:
            await look()
    await look()
    async for _, value in store.hscan_iter(keys.WITHDRAWN, count=_CHUNK):
        oldest["withdrawn"] = min(oldest["withdrawn"], *_starts(value), "~")
    for kind, field in _SINCE.items():
        names = sorted(campaigns[kind])
        for i in range(0, len(names), _CHUNK):
            pipe = store.pipeline(transaction=False)
            for campaign in names[i : i + _CHUNK]:
                pipe.hget(keys.campaign(campaign), field)
            first = [int(at) for at in await pipe.execute() if at]
            oldest[kind] = min([oldest[kind], *(iso_ms(at * 1000) for at in first)])
    spool = Kind(
        "hits on disk",
        "as waiting hits",
        spooled,
        "hits",
        None if spooled_since is None else iso_ms(spooled_since),
        "until Redis answers",
        f"{settings.data}/spool",
    )
    found = [
        Kind(
            source.data,
            source.holds,
            counts[kind],
            source.unit,
            None if oldest[kind] == "~" else oldest[kind],
            source.kept_for,
            source.keys,
        )
        for kind, source in sources.items()
    ]
    return [found[0], spool, *found[1:]]


def _sources(settings: Settings) -> dict[str, _Source]:
    def days(number: int, after: str = "") -> str:
        return f"{number:,} days{after}"

    sent = " after sending"
    return {
        "hits": _Source(
            "waiting hits",
            "recipient key, IP address, user agent, page, referrer",
            "batches",
            "px:{s}:hits",
            "until counted",
            "xinfo_stream",
            _stream,
        ),
        "dead": _Source(
            "dead letters",
            "requests that could not be read",
            "hits",
            "px:{s}:dead",
            days(settings.keep_dead_letters),
            "xinfo_stream",
            _stream,
        ),
        "people": _Source(
            "recipients",
            "recipient key: first and last open, how many by verdict, time to open, which part",
            "recipients",
            "px:{s}:people:ID:BUCKET",
            days(settings.keep_recipients, sent),
            "hvals",
            _people,
        ),
        "listed": _Source(
            "lists",
            "recipient key, day of the last mail",
            "recipients",
            "px:{s}:listed:ID:BUCKET",
            days(settings.keep_recipients, sent),
            "hlen",
            _number,
        ),
        "names": _Source(
            "names",
            "recipient key: recipient and name, as uploaded",
            "recipients",
            "px:{s}:names:ID:BUCKET",
            days(settings.keep_names, sent),
            "hlen",
            _number,
        ),
        "last": _Source(
            "days of last opens",
            "recipient key: a day",
            "recipients",
            "px:{s}:last:BUCKET",
            days(settings.keep_recipients),
            "hvals",
            _last,
        ),
        "addresses": _Source(
            "address estimates",
            "HyperLogLog: names nobody",
            "sets",
            "px:{s}:addresses:ID",
            "until the campaign is deleted",
            "exists",
            _number,
        ),
        "visitors": _Source(
            "visitor estimates",
            "HyperLogLog: names nobody",
            "sets",
            "px:{s}:visitors:ID",
            "until the campaign is deleted",
            "exists",
            _number,
        ),
        "visitors:day": _Source(
            "daily visitor estimates",
            "HyperLogLog: names nobody",
            "sets",
            "px:{s}:visitors:ID:DAY",
            days(settings.keep_days),
            "exists",
            _of_day,
        ),
        "evidence": _Source(
            "traces of the last hits",
            "recipient key, a hash of the address, what was counted",
            "recipients, by minute",
            "px:{s}:evidence:MINUTE",
            "6 minutes of a shard's hits, at most a day",
            "hlen",
            _of_minute,
        ),
        "visits": _Source(
            "visits under way",
            "a hash of the visitor, pages and times, where the visit came from",
            "visits",
            "px:{s}:visits",
            "an hour of a shard's hits, at most a day",
            "hlen",
            _number,
        ),
        "salt": _Source(
            "salts of visitors' hashes",
            "random; with one, who was there could be guessed",
            "salts",
            "px:{s}:salt:END",
            "48 hours after their day",
            "exists",
            _of_end,
        ),
        "web": _Source(
            "daily views by page, referrer, country ...",
            "sums",
            "days of a campaign",
            "px:{s}:web:ID:DAY",
            days(settings.keep_days),
            "exists",
            _of_day,
        ),
        "breakdown": _Source(
            "daily opens by client, device, country",
            "sums",
            "days of a campaign",
            "px:{s}:breakdown:ID",
            days(settings.keep_days),
            "hgetall",
            _breakdown,
        ),
        "buckets": _Source(
            "15-minute series",
            "sums",
            "days of a campaign",
            "px:{s}:buckets:ID:DAY",
            days(settings.keep_buckets),
            "exists",
            _of_day,
        ),
        "months": _Source(
            "daily series",
            "sums",
            "days of a campaign",
            "px:{s}:months:ID",
            days(settings.keep_days),
            "hgetall",
            _months,
        ),
        "total": _Source(
            "totals",
            "sums",
            "campaigns, by shard",
            "px:{s}:total:ID",
            "until the campaign is deleted",
            "exists",
            _number,
        ),
        "withdrawn": _Source(
            "withdrawals",
            "a hash of the recipient key, times",
            "recipients",
            keys.WITHDRAWN,
            "for ever: so that nothing of them is kept",
            "hlen",
            _number,
        ),
        "share": _Source(
            "share links",
            "a name, who made it, the hour of its last use",
            "links",
            "px:{all}:share:KEY",
            "until revoked, or the campaign is deleted",
            "exists",
            _number,
        ),
        "audit": _Source(
            "audit log",
            "ids of API keys and campaigns, counts",
            "lines",
            keys.AUDIT,
            f"the last {audit_log.MOST:,}",
            "xinfo_stream",
            _stream,
        ),
        "actions": _Source(
            "log of recipients",
            "what recipients did on the privacy page, not who",
            "lines",
            keys.ACTIONS,
            f"the last {audit_log.MOST:,}",
            "xinfo_stream",
            _stream,
        ),
        "erasing": _Source(
            "owed erasures",
            "masked keys of recipients, and when each is due",
            "recipients",
            keys.ERASING,
            "until done",
            "zcard",
            _number,
        ),
    }


def _number(name: str, value: int) -> Found:
    return value, None


def _of_day(name: str, value: int) -> Found:
    return value, _iso(name[-8:])


def _of_end(name: str, value: int) -> Found:
    return value, iso_ms(int(name.rpartition(":")[2]) * 1000)


def _of_minute(name: str, value: int) -> Found:
    return value, iso_ms(int(name.rpartition(":")[2]) * burst_window.MINUTE_MS)


def _breakdown(name: str, months: Mapping[bytes, bytes]) -> Found:
    found = [
        f"{month.decode()}{day:02d}"
        for month, value in months.items()
        if month != open_breakdown.ALL.encode()
        for day in open_breakdown.unpack(value)
    ]
    return len(found), _iso(min(found)) if found else None


def _stream(name: str, value: Mapping[str, Any]) -> Found:
    entry = value["first-entry"]
    return int(value["length"]), iso_ms(int(entry[0].partition(b"-")[0])) if entry else None


def _people(name: str, values: list[bytes]) -> Found:
    first = [person.first for person in map(recipient_record.unpack, values) if person.opens]
    return len(values), iso_ms(min(first) * 1000) if first else None


def _last(name: str, values: list[bytes]) -> Found:
    day = min(map(recipient_record.unpack_day, values), default=0)
    return len(values), iso_day(day)


def _months(name: str, months: Mapping[bytes, bytes]) -> Found:
    found = [f"{month.decode()}{day:02d}" for month, value in months.items() for day in unpack(value)]
    return len(found), _iso(min(found)) if found else None


def _starts(value: bytes) -> list[str]:
    """When a recipient withdrew. An erasure begins at 0: it has no time of its own."""
    try:
        return [iso_ms(start) for start, _ in withdrawals.parse_periods(value) if start]
    except NewerFormat:
        return []


def _iso(day: str) -> str:
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"
