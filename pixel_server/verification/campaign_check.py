"""Compares the counts that one shard stores of one campaign: totals, days, buckets, recipients, views."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from pixel_server import times
from pixel_server.campaigns import retention
from pixel_server.campaigns.campaign import Campaign
from pixel_server.campaigns.retention import KeepDays
from pixel_server.copying.values import Stored, read
from pixel_server.counters import (
    delivery_record,
    open_breakdown,
    recipient_record,
    series,
    visit_sample,
    web_breakdown,
)
from pixel_server.counters.series import Cell
from pixel_server.store import keys
from pixel_server.store.key import Key, RedisType
from pixel_server.store.protocols import AsyncRedis, Fields

BATCH = 200
"""Keys that are read in one round trip."""
_READ_BUCKETED = (keys.people, keys.listed, keys.deliveries, keys.buckets, keys.web, keys.sample)
"""Kinds of a campaign's keys of recipients, days and buckets that are read."""
_CLASS_FIELDS = {
    recipient_record.PERSON: "recipients_person",
    recipient_record.PREFETCH: "recipients_prefetch",
    recipient_record.SCANNER: "recipients_scanner",
    recipient_record.UNKNOWN: "recipients_unknown",
    recipient_record.HIDES: "recipients_hidden",
}
"""Name of the total that counts a recipient, by a class of the recipient's opens."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Facts that limit the counts of a campaign.

    keep_days: days for which its data is kept. now: seconds. removed: largest number of recipients whom
    erasures may have removed from the campaign while its totals stayed. has_own_recipients: whether a shard's
    totals count the recipients of the same shard. After a copy to another number of shards, only the sums
    over all shards agree.
    """

    campaign: Campaign
    keep_days: KeepDays
    now: float
    removed: int
    has_own_recipients: bool = True

    @property
    def first_day(self) -> str:
        """The first day of which all series are kept, as `"20261124"`."""
        return retention.oldest_day(self.campaign, self.keep_days.days, self.now)

    @property
    def first_bucket(self) -> int:
        """The time (s) from which all buckets are kept."""
        return retention.oldest_bucket(self.campaign, self.keep_days.buckets, self.now)

    @property
    def has_all_days(self) -> bool:
        """Whether no day of the campaign can have been removed yet."""
        created = times.local_day(self.campaign.created, self.campaign.zone)[0]
        return self.campaign.created > 0 and created > self.first_day

    @property
    def has_all_recipients(self) -> bool:
        """Whether only erasures can have removed recipients."""
        campaign = self.campaign
        return campaign.closed_at is None and not campaign.leaving.recipients and not campaign.gone.recipients


@dataclass(slots=True)
class Counts:
    """The stored counts of one campaign in one shard. buckets: by UTC day. web: by local day.

    sampled: numbers of visits in the sample, by local day. people: numbers of recipients, by name of the
    total that counts them. opens: opens of these recipients. listed: number of recipients on the list.
    """

    total: Mapping[str, int] = field(default_factory=dict)
    days: dict[str, Cell] = field(default_factory=dict)
    buckets: dict[int, Cell] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    labels_by_day: Counter[str] = field(default_factory=Counter)
    web: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    sampled: dict[str, int] = field(default_factory=dict)
    people: Counter[str] = field(default_factory=Counter)
    opens: int = 0
    listed: int = 0


async def read_counts(store: AsyncRedis, shard: int, campaign: str, bucketed: Iterable[str]) -> Counts:
    """Reads the counts of a campaign in a shard.

    bucketed: names of the campaign's keys of recipients, days and buckets in this shard.
    """
    counts = Counts()
    single: list[Key] = [keys.total, keys.months, keys.breakdown]
    names: list[tuple[str, RedisType]] = [
        (f"px:{{{shard}}}:{kind.kind_name}:{campaign}", kind.redis_type) for kind in single
    ]
    for name in bucketed:
        kind = keys.kind_of(name)
        if kind is not None and kind in _READ_BUCKETED:
            names.append((name, kind.redis_type))
    for i in range(0, len(names), BATCH):
        for stored in await read(store, names[i : i + BATCH]):
            _add(counts, stored)
    return counts


def add_recipients(sums: Counts, counts: Counts) -> None:
    """Adds to `sums` the totals and the recipients of a shard."""
    sums.total = Counter(sums.total)
    sums.total.update(counts.total)
    sums.people.update(counts.people)
    sums.opens += counts.opens
    sums.listed += counts.listed


def _add(counts: Counts, stored: Stored) -> None:
    kind, last = keys.kind_of(stored.name), stored.name.rpartition(":")[2]
    if kind is keys.total:
        counts.total = {name.decode(): int(value) for name, value in stored.value.items()}
    elif kind is keys.months:
        for month, value in stored.value.items():
            for day, cell in series.unpack(value).items():
                counts.days[f"{month.decode()}{day:02d}"] = cell
    elif kind is keys.breakdown:
        _add_labels(counts, stored.value)
    elif kind is keys.buckets:
        midnight = _midnight(last)
        for number, cell in series.unpack(stored.value).items():
            counts.buckets[midnight + number * series.BUCKET_SECONDS] = cell
    elif kind is keys.web:
        counts.web[last] = {
            dimension.decode(): _sums(web_breakdown.unpack(value))
            for dimension, value in stored.value.items()
        }
    elif kind is keys.sample:
        counts.sampled[last] = sum(map(visit_sample.is_number, stored.value))
    elif kind is keys.listed:
        counts.listed += len(stored.value)
    elif kind is keys.deliveries:
        for value in stored.value.values():
            counts.people.update(delivery_record.totals(delivery_record.unpack(value)))
    elif kind is keys.people:
        for value in stored.value.values():
            _add_recipient(counts, value)


def _add_labels(counts: Counts, fields: Fields) -> None:
    for month, value in fields.items():
        for labels in open_breakdown.unpack(value).values():
            if month == open_breakdown.ALL.encode():
                counts.labels = labels
            else:
                counts.labels_by_day.update(labels)


def _add_recipient(counts: Counts, value: bytes) -> None:
    record = recipient_record.unpack(value)
    counts.opens += record.opens
    counts.people["unique_opens"] += record.opens > 0
    counts.people["unique_opens_person"] += record.person > 0
    classes = record.classes
    for bit, name in _CLASS_FIELDS.items():
        counts.people[name] += bool(classes & bit)


def _midnight(day: str) -> int:
    """Returns the start (s) of a UTC day: 1795478400 for `"20261124"`."""
    written = date(int(day[:4]), int(day[4:6]), int(day[6:]))
    return int((written - date(1970, 1, 1)) / timedelta(seconds=1))


def _sums(names: web_breakdown.CountsByName) -> tuple[int, int]:
    return sum(views for views, _ in names.values()), sum(visits for _, visits in names.values())


def faults(shard: int, expected: Expected, counts: Counts) -> list[str]:
    """Returns what does not agree."""
    found = [
        *_total_faults(expected, counts),
        *_bucket_faults(expected, counts),
        *_label_faults(expected, counts),
        *_web_faults(expected, counts),
        *_sample_faults(expected, counts),
        *(recipient_faults(expected, counts) if expected.has_own_recipients else ()),
    ]
    return [f"campaign {expected.campaign.id}, shard {shard}: {fault}" for fault in found]


def _total_faults(expected: Expected, counts: Counts) -> Iterator[str]:
    sums = _add_cells(counts.days.values())
    for name, by_day in zip(series.COUNTS, sums, strict=True):
        total = counts.total.get(name, 0)
        if by_day > total or (by_day < total and expected.has_all_days):
            yield f"total {name} is {total}, its days say {by_day}"


def _bucket_faults(expected: Expected, counts: Counts) -> Iterator[str]:
    """Yields the differences between days and their buckets, of days of which all buckets are kept."""
    by_day: dict[str, list[Cell]] = {}
    begins: dict[str, int] = {}
    for start, cell in counts.buckets.items():
        day, begin, _ = times.local_day(start, expected.campaign.zone)
        by_day.setdefault(day, []).append(cell)
        begins[day] = begin
    for day in (
        counts.days.keys() - by_day.keys()
    ):  # `local_day` of any instant of the day tells its beginning
        begins[day] = times.local_day(_midnight(day) + times.DAY // 2, expected.campaign.zone)[1]
    for day in sorted(counts.days.keys() | by_day.keys()):
        if begins[day] < expected.first_bucket or day < expected.first_day:
            continue
        in_days, in_buckets = _add_cells([counts.days.get(day, [])]), _add_cells(by_day.get(day, []))
        for name, of_day, of_buckets in zip(series.COUNTS, in_days, in_buckets, strict=True):
            if of_day != of_buckets:
                yield f"day {day} has {of_day} {name}, its buckets say {of_buckets}"


def _label_faults(expected: Expected, counts: Counts) -> Iterator[str]:
    for label in sorted(counts.labels.keys() | counts.labels_by_day.keys()):
        total, by_day = counts.labels.get(label, 0), counts.labels_by_day[label]
        if by_day > total or (by_day < total and expected.has_all_days):
            yield f"the breakdown of all time counts {label} {total} times, its days say {by_day}"


def _web_faults(expected: Expected, counts: Counts) -> Iterator[str]:
    """Yields the dimensions whose views or visits differ from those of their day."""
    for day, dimensions in sorted(counts.web.items()):
        if day < expected.first_day:
            continue
        cell = _add_cells([counts.days.get(day, [])])
        of_day = cell[series.VIEWS], cell[series.VISITS]
        for dimension, sums in sorted(dimensions.items()):
            if sums != of_day:
                yield (
                    f"day {day} has {of_day[0]} views and {of_day[1]} visits, its breakdown by {dimension} "
                    f"says {sums[0]} and {sums[1]}"
                )


def _sample_faults(expected: Expected, counts: Counts) -> Iterator[str]:
    """Yields the days whose sample holds more visits than the day has."""
    for day, sampled in sorted(counts.sampled.items()):
        visits = _add_cells([counts.days.get(day, [])])[series.VISITS]
        if day >= expected.first_day and sampled > visits:
            yield f"day {day} has {visits} visits, its sample says {sampled}"


def recipient_faults(expected: Expected, counts: Counts) -> Iterator[str]:
    """Yields the totals of recipients that differ from the recipients' records."""
    opened = "unique_opens", "unique_opens_person", *_CLASS_FIELDS.values()
    for name in (*opened, *delivery_record.KINDS):
        total, records = counts.total.get(name, 0), counts.people[name]
        if records > total or (expected.has_all_recipients and total - records > expected.removed):
            yield f"total {name} is {total}, the recipients say {records}"
    opens = counts.total.get("opens", 0) - counts.total.get("opens_anonymous", 0)
    is_exact = expected.has_all_recipients and not expected.removed
    if counts.opens > opens or (is_exact and counts.opens < opens):
        yield f"{opens} opens are of known recipients, the recipients say {counts.opens}"
    listed = counts.total.get("listed", 0)
    if counts.listed > listed or (expected.has_all_recipients and listed - counts.listed > expected.removed):
        yield f"total listed is {listed}, the list has {counts.listed}"


def _add_cells(cells: Iterable[Sequence[int]]) -> list[int]:
    sums = [0] * len(series.COUNTS)
    for cell in cells:
        for position, count in enumerate(cell[: len(sums)]):
            sums[position] += count
    return sums
