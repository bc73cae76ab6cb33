"""Applies a tally: plans the commands of one commit from the stored counts and the new sums.

Why each hit is counted exactly once:

1. A stored batch is one stream entry. Its producer numbers it, and repeats it unchanged until Redis answers.
   The append script takes each number once. If several batches are on their way, the script takes a later
   batch only after the batch before it (`producer`). Otherwise the later batch could arrive first, and the
   script would mistake the earlier batch for a repeat. So each stored hit lies in exactly one entry.
2. A roll-up reads the checkpoint (generation, id) and the entries after the id at one instant. Then it reads
   all other data that it needs: the campaigns, the recipients, the packed counts. One script writes the
   counters and the id, and trims the stream. The script does nothing if the generation has changed, or if the
   entry of the id is not in the stream. Every other writer of the shard's state raises the generation in the
   same way. So the data that was read still holds at the commit, and the id moves only together with the
   counters of its entries. A generation is a number and the random mark of a commit, so that two commits with
   the same number differ. A store that lost its newest changes has another generation, or lacks that entry:
   the script then does nothing. Each read of a shard's values compares the generation too. Otherwise a record
   could be read that contains a commit which is lost before this roll-up commits; see `checkpoint`.
3. If the roll-up is killed before the commit, nothing has happened, and the entries are read again. If it is
   killed after the commit, or the reply is lost, the id has moved, and the entries are gone. A worker that
   slept through the commits of others finds the generation raised, and changes nothing.
4. The result does not depend on order. Sums add. A recipient's record is a minimum, a maximum, sums and a
   union. The time of a campaign's last hit is a maximum. An open that turns out to be earlier than the first
   known open moves one unique open from one time bucket to another. HyperLogLogs are sets. So hits, opens and
   unique opens come out the same however the batches were cut.
5. If a campaign is deleted, its tombstone is set, then the generation is raised, then its keys are removed. A
   roll-up that read the old generation cannot commit. A roll-up that reads the new generation sees the
   tombstone, and drops the hits. Retention takes the same steps, with an entry in the campaign's record in
   place of a tombstone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

from pixel_server.campaigns import retention
from pixel_server.campaigns.retention import KeepDays
from pixel_server.counters import open_breakdown, recipient_record, series, visit_sample, web_breakdown
from pixel_server.counters.labels import DELAY
from pixel_server.counters.recipient_record import NO_RECORD, RecipientRecord
from pixel_server.counters.series import Cell, Cells
from pixel_server.counters.web_breakdown import DIMENSIONS
from pixel_server.store import checkpoint, keys
from pixel_server.store.checkpoint import Command, Records
from pixel_server.store.protocols import Pipeline
from pixel_server.store.readers import Reader
from workers.sums import Sums, Tally

_TWO_PIXEL_FIELDS = {
    0: (),
    recipient_record.TOP: ("recipients_twins", "recipients_clipped"),
    recipient_record.TOP | recipient_record.SEEN: ("recipients_twins",),
}
"""Names of the totals that count a recipient of a mail with two pixels, by `RecipientRecord.two_pixel`."""
_CLASS_FIELDS = {
    recipient_record.PERSON: "recipients_person",
    recipient_record.PREFETCH: "recipients_prefetch",
    recipient_record.SCANNER: "recipients_scanner",
    recipient_record.UNKNOWN: "recipients_unknown",
}
"""Name of the total that counts a recipient, by a class of the recipient's opens."""

_CHUNK = 1000
"""Largest number of items in one command."""
_SIZES = [bytes([size]) for size in range(256)]
"""The lengths 0 to 255 as one byte each, as `checkpoint.Records` needs them."""


People = dict[str, dict[bytes, RecipientRecord]]
"""Stored records of recipients, by campaign and recipient key."""
PeopleChanges = dict[bytes, tuple[RecipientRecord, RecipientRecord]]
"""Old and new records of recipients, by recipient key."""


@dataclass(slots=True)
class Stored:
    """The stored counts of one campaign in one shard that a tally changes.

    people: records by recipient key. buckets: cells by UTC day. months: cells by month (`"202506"`). labels:
    counts by month, and of all time under `open_breakdown.ALL`. web_counts: counts by (local day, dimension).
    sampled: fields of the sample of visits, by local day. last_hit: seconds.
    """

    people: dict[bytes, RecipientRecord] = field(default_factory=dict)
    buckets: dict[str, Cells] = field(default_factory=dict)
    months: dict[str, Cells] = field(default_factory=dict)
    labels: dict[str, open_breakdown.Days] = field(default_factory=dict)
    web_counts: dict[tuple[str, str], web_breakdown.CountsByName] = field(default_factory=dict)
    sampled: dict[str, list[bytes]] = field(default_factory=dict)
    last_hit: int = 0


def read_people(pipe: Pipeline, shard: int, tally: Tally, people: People) -> Reader[None]:
    """Adds to `people` the stored records of those recipients of a tally that are not in `people` yet.

    Raises NewerFormat if a newer version wrote one of the records.
    """
    requests: list[tuple[str, list[bytes]]] = []
    for sums in tally.sums.values():
        campaign = sums.campaign.id
        known = people.setdefault(campaign, {})
        if recipients := [key for key in sums.people if key not in known]:
            requests.append((campaign, recipients))
            prefix = keys.people.prefix(shard, campaign)
            pipe.execute_command(*checkpoint.records_command(prefix, recipients, keys.PEOPLE_BUCKETS))
    replies = (yield) if requests else []
    for (campaign, recipients), values in zip(requests, replies, strict=True):
        people[campaign] |= {
            key: recipient_record.unpack(value) for key, value in zip(recipients, values, strict=True)
        }


def read_stored(
    pipe: Pipeline, shard: int, tally: Tally, people: People
) -> Reader[list[tuple[Sums, Stored]]]:
    """Returns the sums of each campaign with the stored counts that they change.

    people: the records that `read_people` has read; bursts may have added recipients since. Raises
    NewerFormat if a newer version wrote one of the counts.
    """
    yield from read_people(pipe, shard, tally, people)
    pairs = [(sums, Stored(people[sums.campaign.id])) for sums in tally.sums.values()]
    dates = []
    for sums, stored in pairs:
        starts = _touched_buckets(sums, stored)
        days = sorted({series.utc_day(start) for start in starts})
        months = sorted({sums.day(start)[:6] for start in starts})
        dates.append((days, months))
        for day in days:
            pipe.get(keys.buckets(shard, sums.campaign.id, day))
        pipe.hmget(keys.months(shard, sums.campaign.id), ["", *months])  # HMGET needs at least one field
        pipe.hmget(keys.breakdown(shard, sums.campaign.id), [open_breakdown.ALL, *months])
        pipe.hget(keys.total(shard, sums.campaign.id), "last_hit")
        for day in sums.web_counts:
            pipe.hmget(keys.web(shard, sums.campaign.id, day), DIMENSIONS)
        for day in sums.sampled:
            pipe.hkeys(keys.sample(shard, sums.campaign.id, day))
    answers = iter((yield) if pairs else ())
    for (sums, stored), (days, months) in zip(pairs, dates, strict=True):
        stored.buckets = {day: series.unpack(next(answers)) for day in days}
        stored.months = dict(zip(months, map(series.unpack, next(answers)[1:]), strict=True))
        stored.labels = dict(
            zip([open_breakdown.ALL, *months], map(open_breakdown.unpack, next(answers)), strict=True)
        )
        stored.last_hit = int(next(answers) or 0)
        for day in sums.web_counts:
            for dimension, value in zip(DIMENSIONS, next(answers), strict=True):
                stored.web_counts[day, dimension] = web_breakdown.unpack(value)
        stored.sampled = {day: next(answers) for day in sums.sampled}
    return pairs


def _touched_buckets(sums: Sums, stored: Stored) -> set[int]:
    """Returns the starts (s) of the hits' buckets, and of buckets from or to which a first open may move."""
    starts = set(sums.cells)
    for retracted in sums.retracted.values():
        starts.update(series.bucket_start(at * 1000) for at, _ in retracted.remaining)
    for record in stored.people.values():
        if record.opens:
            starts.add(record.first - record.first % series.BUCKET_SECONDS)
        if record.person:
            starts.add(record.first_person - record.first_person % series.BUCKET_SECONDS)
    return starts


def plan(
    shard: int,
    sums: Sums,
    stored: Stored,
    keep_days: KeepDays,
    now: float,
    records: Records,
    sample_size: int,
    changes: PeopleChanges | None = None,
) -> Iterator[Command]:
    """Yields the commands that add a campaign's sums to its stored counts.

    Adds the recipients' merged records to `records`. keep_days: days for which each kind of data is kept.
    Hits of days that are no longer kept change only the totals. sample_size: number of visits of a day of
    which the shard may keep a record. changes: gets the old and the new record of each recipient of whom a
    person's open is known, unless it is None.
    """
    campaign = sums.campaign.id
    first_bucket = retention.oldest_bucket(sums.campaign, keep_days.buckets, now)
    first_day = retention.oldest_day(sums.campaign, keep_days.days, now)
    cells = {start: list(cell) for start, cell in sums.cells.items()}
    labels = {day: Counter(counts) for day, counts in sums.labels.items()}
    recipient_totals = _merge_people(shard, sums, stored, cells, labels, records, changes)
    yield from _totals(shard, campaign, cells)
    for name, count in recipient_totals.items():
        if count:
            yield ("HINCRBY", keys.total(shard, campaign), name, str(count))
    if sums.last_hit_ms // 1000 > stored.last_hit:
        yield ("HSET", keys.total(shard, campaign), "last_hit", str(sums.last_hit_ms // 1000))
    for rule, count in sums.rules.items():
        if count:
            yield ("HINCRBY", keys.rules(shard, campaign), rule, str(count))
    kept_cells = {start: cell for start, cell in cells.items() if start >= first_bucket}
    yield from _buckets(shard, campaign, kept_cells, stored)
    yield from _months(shard, sums, cells, stored, first_day)
    yield from _labels(shard, sums, labels, stored, first_day)
    yield from _web_counts(shard, sums, stored, first_day)
    if sample_size:
        yield from _samples(shard, sums, stored, first_day, now, sample_size)
    for chunk in _chunks(sorted(sums.addresses)):
        yield ("PFADD", keys.addresses(shard, campaign), *chunk)
    for day, visitors in sums.visitors.items():
        for chunk in _chunks(sorted(visitors)):
            if day >= first_day:
                yield ("PFADD", keys.daily_visitors(shard, campaign, day), *chunk)
            yield ("PFADD", keys.visitors(shard, campaign), *chunk)


def _merge_people(
    shard: int,
    sums: Sums,
    stored: Stored,
    cells: dict[int, Cell],
    labels: dict[str, Counter[str]],
    records: Records,
    changes: PeopleChanges | None,
) -> dict[str, int]:
    """Merges each recipient's new record into the stored record, and adds the result to `records`.

    Moves unique opens between `cells`, and the counts of delays between the days of `labels`. Notes the old
    and the new records in `changes`. Returns, by name, the changes of the totals that count recipients.
    """
    totals: dict[str, int] = {}
    values = records.setdefault(keys.people.prefix(shard, sums.campaign.id), [])
    for key, new in sums.people.items():
        old = stored.people[key]
        merged = new if old is NO_RECORD else recipient_record.merge(old, new)
        if (retracted := sums.retracted.get(key)) is not None:
            merged = recipient_record.reclassify(merged, retracted)
        if changes is not None and (old.person or merged.person):
            changes[key] = old, merged
        if merged.first != old.first:
            _move_unique_open(cells, series.UNIQUE_OPENS, old.first, merged.first)
        if merged.first_person != old.first_person:
            _move_unique_open(cells, series.UNIQUE_OPENS_PERSON, old.first_person, merged.first_person)
        if merged.delay != old.delay or (merged.delay and merged.first_person != old.first_person):
            _count_delay(sums, labels, merged, 1)
            _count_delay(sums, labels, old, -1)
        if (old_classes := old.classes) != (new_classes := merged.classes):
            for name in _class_fields(new_classes):
                totals[name] = totals.get(name, 0) + 1
            for name in _class_fields(old_classes):
                totals[name] = totals.get(name, 0) - 1
        if merged.flags & recipient_record.TOP:
            old_two_pixel = 0 if old.flags & recipient_record.BEFORE_SEEN else old.two_pixel
            for name in _TWO_PIXEL_FIELDS[merged.two_pixel]:
                totals[name] = totals.get(name, 0) + 1
            for name in _TWO_PIXEL_FIELDS[old_two_pixel]:
                totals[name] = totals.get(name, 0) - 1
        value = recipient_record.pack(merged)
        values += (key, _SIZES[len(value)], value)
    return totals


def plan_rulesets(shard: int, sums: Sums, ruleset: str, now: float) -> Iterator[Command]:
    """Yields the commands that note which version of the rules judged a campaign's hits. now: seconds."""
    if sums.rules:
        key = keys.rules(shard, sums.campaign.id)
        yield ("HSETNX", key, f"{ruleset} from", str(int(now)))
        yield ("HSET", key, f"{ruleset} to", str(int(now)))


def plan_last_open_days(pipe: Pipeline, shard: int, days: dict[bytes, int]) -> Reader[list[Command]]:
    """Returns the commands that store the day of the last open of recipients in mode `last`.

    Reads the stored days, and leaves out each day that is not later than the stored day. days: days since
    1970, by recipient key. Raises NewerFormat if a newer version wrote one of the stored days.
    """
    if not days:
        return []
    prefix = keys.last.prefix(shard)
    pipe.execute_command(*checkpoint.records_command(prefix, days, keys.PEOPLE_BUCKETS))
    (values,) = yield
    commands: list[Command] = []
    for (recipient, day), value in zip(days.items(), values, strict=True):
        if value is None or day > recipient_record.unpack_day(value):
            key = keys.last(shard, recipient_record.people_bucket(recipient))
            commands.append(("HSET", key, recipient, recipient_record.pack_day(day)))
    return commands


def plan_bookkeeping(shard: int, tally: Tally, newest_ms: int) -> Iterator[Command]:
    """Yields the commands that store the newest hit's time, the dropped hits and the dead letters.

    Also removes the reason of an earlier standstill of the shard. newest_ms: the stored time of the newest
    hit.
    """
    if tally.newest_ms > newest_ms:
        yield ("HSET", keys.checkpoint(shard), "newest", str(tally.newest_ms))
    for reason, count in tally.drops.items():
        yield ("HINCRBY", keys.drops(shard), reason, str(count))
    for letter in tally.dead_letters:
        yield ("XADD", keys.dead(shard), "*", "reason", letter.reason, "data", letter.data)
    yield ("DEL", keys.stop(shard))


def _move_unique_open(cells: dict[int, Cell], position: int, before: int, after: int) -> None:
    """Moves a recipient's first open from the time `before` to `after`, seconds. 0 stands for no open.

    position: place of the count in a cell, `series.UNIQUE_OPENS` or `series.UNIQUE_OPENS_PERSON`.
    """
    if after:
        _add_to_cell(cells, after, position, 1)
    if before:
        _add_to_cell(cells, before, position, -1)


def _add_to_cell(cells: dict[int, Cell], time: int, position: int, change: int) -> None:
    start = time - time % series.BUCKET_SECONDS
    cell = cells.get(start)
    if cell is None:
        cell = cells[start] = [0] * len(series.COUNTS)
    cell[position] += change


@cache
def _class_fields(classes: int) -> tuple[str, ...]:
    """Returns the names of the totals that count a recipient with these classes of opens."""
    names = [name for bit, name in _CLASS_FIELDS.items() if classes & bit]
    if classes & recipient_record.HIDES:
        names.append("recipients_hidden")
        if classes & recipient_record.PERSON:
            names.append("recipients_hidden_person")
    return tuple(names)


def _totals(shard: int, campaign: str, cells: dict[int, Cell]) -> Iterator[Command]:
    for name, counts in zip(series.COUNTS, zip(*cells.values(), strict=True), strict=False):
        if sum(counts):
            yield ("HINCRBY", keys.total(shard, campaign), name, str(sum(counts)))


def _buckets(shard: int, campaign: str, cells: dict[int, Cell], stored: Stored) -> Iterator[Command]:
    touched = set()
    for start, counts in cells.items():
        day = series.utc_day(start)
        touched.add(day)
        series.add(stored.buckets[day], series.bucket_number(start), counts)
    for day in sorted(touched):
        yield ("SET", keys.buckets(shard, campaign, day), series.pack(stored.buckets[day]))


def _months(
    shard: int, sums: Sums, cells: dict[int, Cell], stored: Stored, first_day: str
) -> Iterator[Command]:
    touched = set()
    for start, counts in cells.items():
        day = sums.day(start)
        if day < first_day:
            continue
        touched.add(day[:6])
        series.add(stored.months[day[:6]], int(day[6:]), counts)
    for month in sorted(touched):
        yield ("HSET", keys.months(shard, sums.campaign.id), month, series.pack(stored.months[month]))


def _count_delay(sums: Sums, labels: dict[str, Counter[str]], record: RecipientRecord, change: int) -> None:
    """Adds `change` to the count of recipients with this delay of the first open, on the day of that open."""
    if record.delay:
        day = sums.day(series.bucket_start(record.first_person * 1000))
        labels.setdefault(day, Counter())[f"{DELAY}{record.delay}"] += change


def _labels(
    shard: int, sums: Sums, labels: dict[str, Counter[str]], stored: Stored, first_day: str
) -> Iterator[Command]:
    touched = set()
    for day, counts in labels.items():
        if any(counts.values()):
            touched.add(open_breakdown.ALL)
            open_breakdown.add(stored.labels[open_breakdown.ALL], 0, counts)
            if day >= first_day:
                touched.add(day[:6])
                open_breakdown.add(stored.labels[day[:6]], int(day[6:]), counts)
    for month in sorted(touched):  # each is a month or `open_breakdown.ALL`
        value = open_breakdown.pack(stored.labels[month])
        yield ("HSET", keys.breakdown(shard, sums.campaign.id), month, value)


def _web_counts(shard: int, sums: Sums, stored: Stored, first_day: str) -> Iterator[Command]:
    for day, day_counts in sums.web_counts.items():
        if day < first_day:
            continue
        fields: list[str | bytes] = []
        for dimension, counts_by_name in web_breakdown.by_dimension(day_counts).items():
            web_breakdown.add(stored.web_counts[day, dimension], counts_by_name)
            fields += (dimension, web_breakdown.pack(stored.web_counts[day, dimension]))
        if fields:
            yield ("HSET", keys.web(shard, sums.campaign.id, day), *fields)


def _samples(
    shard: int, sums: Sums, stored: Stored, first_day: str, now: float, size: int
) -> Iterator[Command]:
    for day, changed in sums.sampled.items():
        seconds = visit_sample.seconds_left(day, now)
        if day >= first_day and seconds > 0:
            key = keys.sample(shard, sums.campaign.id, day)
            yield from visit_sample.store_commands(key, stored.sampled[day], changed, size, seconds)


def _chunks(items: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for i in range(0, len(items), _CHUNK):
        yield items[i : i + _CHUNK]
