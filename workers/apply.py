"""Applying a tally: from what is kept and what is new, the commands of one commit.

Why each hit is counted exactly once:

1. A stored batch is one stream entry. Its producer numbers it and repeats it unchanged until it is
   answered, and the append script takes each number once. Where several batches are on their way, it takes
   each but the first only behind the one before it (`producer`): none is overtaken, and then taken for a
   repeat. So each stored hit lies in exactly one entry.
2. A roll-up reads the checkpoint (generation, id) first, or knows it from its own commit just before; then
   entries after id, then everything else it goes by: the campaigns, the recipients, the packed counts. It
   commits counters, id and trim in one script, which does nothing if the generation has moved. Everyone who
   writes to the shard's state raises the generation in the same way. So what was read is still so at the
   commit; and the id only moves together with the counters that it stands for.
3. Killed before the commit: nothing has happened; the entries are read again. Killed after it, or the reply
   lost: the id has moved, and the entries are neither there nor read again. A worker that slept through
   others' commits finds the generation moved, and changes nothing.
4. What is merged does not depend on order: sums add; a recipient's record is (least, greatest, sum, union);
   the time of a campaign's last hit is the greatest; an open that turns out to be earlier than the first one
   known moves one unique open from cell to cell; HyperLogLogs are sets. So hits, opens and unique opens come
   out the same however batches were cut.
5. A deleted campaign: its tombstone is set, then the generation is raised, then its keys go. A roll-up that
   read the generation before that fails; one that read it after sees the tombstone, and drops the hits.
   Retention does the same with what it writes into the campaign's record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

from pixel_server.campaigns import retention
from pixel_server.campaigns.retention import KeepDays
from pixel_server.counters import labels, open_breakdown, recipient_record, series, web_breakdown
from pixel_server.counters.recipient_record import NO_RECORD, RecipientRecord
from pixel_server.counters.series import Cell, Cells
from pixel_server.counters.web_breakdown import DIMENSIONS
from pixel_server.store import keys
from pixel_server.store.checkpoint import Command, Records
from pixel_server.store.protocols import Redis
from workers.fold import Sums, Tally

_READ_PEOPLE = """
-- KEYS: what the names of the recipients' hashes begin with. ARGV: recipient keys, 8 bytes each; number of
-- hashes. Returns a packed record each, or nothing.
local call, byte, format, sub = redis.call, string.byte, string.format, string.sub
local out, prefix, recipients, buckets = {}, KEYS[1], ARGV[1], tonumber(ARGV[2])
for i = 1, #recipients, 8 do
  local a, b = byte(recipients, i + 4, i + 5)
  local name = prefix .. format('%03x', (a * 256 + b) % buckets)
  out[#out + 1] = call('HGET', name, sub(recipients, i, i + 7))
end
return out
"""

_TWINS = {
    0: (),
    recipient_record.TOP: ("recipients_twins", "recipients_clipped"),
    recipient_record.TOP | recipient_record.SEEN: ("recipients_twins",),
}
"""What a recipient counts under, by `RecipientRecord.two_pixel`."""

_CHUNK = 1000
_SIZES = [bytes([size]) for size in range(256)]


@dataclass(slots=True)
class Kept:
    """What a shard holds of one campaign, as far as a tally touches it. last_hit: seconds."""

    people: dict[bytes, RecipientRecord] = field(default_factory=dict)
    buckets: dict[str, Cells] = field(default_factory=dict)
    months: dict[str, Cells] = field(default_factory=dict)
    opens: dict[str, open_breakdown.Days] = field(default_factory=dict)
    parts: dict[tuple[str, str], web_breakdown.Names] = field(default_factory=dict)
    last_hit: int = 0


def read(store: Redis, shard: int, tally: Tally) -> list[tuple[Sums, Kept]]:
    """What each campaign's sums will change, in two round trips. NewerFormat: a newer version wrote it."""
    found = [(sums, Kept()) for sums in tally.sums.values()]
    pipe = store.pipeline(transaction=False)
    for sums, _ in found:
        prefix = keys.people.prefix(shard, sums.campaign.id)
        pipe.eval(_READ_PEOPLE, 1, prefix, b"".join(sums.people), keys.PEOPLE_BUCKETS)
    for (sums, kept), values in zip(found, pipe.execute(), strict=True):
        kept.people = {
            key: recipient_record.unpack(value) for key, value in zip(sums.people, values, strict=True)
        }
    asked = []
    for sums, kept in found:
        starts = _starts(sums, kept)
        days = sorted({series.utc_day(start) for start in starts})
        months = sorted({sums.day(start)[:6] for start in starts})
        asked.append((days, months))
        for day in days:
            pipe.get(keys.buckets(shard, sums.campaign.id, day))
        pipe.hmget(keys.months(shard, sums.campaign.id), ["", *months])
        pipe.hmget(keys.breakdown(shard, sums.campaign.id), [open_breakdown.ALL, *months])
        pipe.hget(keys.total(shard, sums.campaign.id), "last_hit")
        for day in sums.parts:
            pipe.hmget(keys.web(shard, sums.campaign.id, day), DIMENSIONS)
    answers = iter(pipe.execute())
    for (sums, kept), (days, months) in zip(found, asked, strict=True):
        kept.buckets = {day: series.unpack(next(answers)) for day in days}
        kept.months = dict(zip(months, map(series.unpack, next(answers)[1:]), strict=True))
        kept.opens = dict(
            zip([open_breakdown.ALL, *months], map(open_breakdown.unpack, next(answers)), strict=True)
        )
        kept.last_hit = int(next(answers) or 0)
        for day in sums.parts:
            for dimension, value in zip(DIMENSIONS, next(answers), strict=True):
                kept.parts[day, dimension] = web_breakdown.unpack(value)
    return found


def _starts(sums: Sums, kept: Kept) -> set[int]:
    """The buckets that may change: those of the hits, and those that a first open may move to or from."""
    starts = set(sums.cells)
    for taken in sums.taken.values():
        starts.update(series.bucket_start(at * 1000) for at, _ in taken.remaining)
    for person in kept.people.values():
        if person.opens:
            starts.add(person.first - person.first % series.BUCKET_SECONDS)
        if person.person:
            starts.add(person.first_person - person.first_person % series.BUCKET_SECONDS)
    return starts


def plan(
    shard: int, sums: Sums, kept: Kept, keep: KeepDays, now: float, records: Records
) -> Iterator[Command]:
    """The commands that add a campaign's sums to what is kept; recipients are added to `records`, as
    `checkpoint.commit` takes them. keep: days.

    Of days that are no longer kept, hits are in the totals alone.
    """
    campaign = sums.campaign.id
    first_bucket = retention.oldest_bucket(sums.campaign, keep.buckets, now)
    first_day = retention.oldest_day(sums.campaign, keep.days, now)
    changes = {start: list(cell) for start, cell in sums.cells.items()}
    opens = {day: Counter(counts) for day, counts in sums.opens.items()}
    recipients: dict[str, int] = {}
    values = records.setdefault(keys.people.prefix(shard, campaign), [])
    for key, new in sums.people.items():
        old = kept.people[key]
        both = new if old is NO_RECORD else recipient_record.merge(old, new)
        if (taken := sums.taken.get(key)) is not None:
            both = recipient_record.reclassify(both, taken)
        if both.first != old.first:
            _move(changes, series.UNIQUE_OPENS, old.first, both.first)
        if both.first_person != old.first_person:
            _move(changes, series.UNIQUE_OPENS_PERSON, old.first_person, both.first_person)
        if both.delay != old.delay or (both.delay and both.first_person != old.first_person):
            _count_delay(sums, opens, both, 1)
            _count_delay(sums, opens, old, -1)
        if (was := old.classes) != (now_is := both.classes):
            for name in _joined(now_is):
                recipients[name] = recipients.get(name, 0) + 1
            for name in _joined(was):
                recipients[name] = recipients.get(name, 0) - 1
        if both.flags & recipient_record.TOP:
            had = 0 if old.flags & recipient_record.OLD else old.two_pixel
            for name in _TWINS[both.two_pixel]:
                recipients[name] = recipients.get(name, 0) + 1
            for name in _TWINS[had]:
                recipients[name] = recipients.get(name, 0) - 1
        value = recipient_record.pack(both)
        values += (key, _SIZES[len(value)], value)
    yield from _totals(shard, campaign, changes)
    for name, count in recipients.items():
        if count:
            yield ("HINCRBY", keys.total(shard, campaign), name, str(count))
    if sums.last_hit // 1000 > kept.last_hit:
        yield ("HSET", keys.total(shard, campaign), "last_hit", str(sums.last_hit // 1000))
    for rule, count in sums.rules.items():
        if count:
            yield ("HINCRBY", keys.rules(shard, campaign), rule, str(count))
    yield from _buckets(shard, campaign, _from(changes, first_bucket), kept)
    yield from _months(shard, sums, changes, kept, first_day)
    yield from _opens(shard, sums, opens, kept, first_day)
    yield from _web(shard, sums, kept, first_day)
    for part in _parts(sorted(sums.addresses)):
        yield ("PFADD", keys.addresses(shard, campaign), *part)
    for day, visitors in sums.visitors.items():
        for part in _parts(sorted(visitors)):
            if day >= first_day:
                yield ("PFADD", keys.daily_visitors(shard, campaign, day), *part)
            yield ("PFADD", keys.visitors(shard, campaign), *part)


def rulesets(shard: int, sums: Sums, ruleset: str, now: float) -> Iterator[Command]:
    """The commands that note which version of the rules judges a campaign's hits, and when (s)."""
    if sums.rules:
        key = keys.rules(shard, sums.campaign.id)
        yield ("HSETNX", key, f"{ruleset} from", str(int(now)))
        yield ("HSET", key, f"{ruleset} to", str(int(now)))


def plan_last(store: Redis, shard: int, days: dict[bytes, int]) -> Iterator[Command]:
    """The commands that move the day of the last open of each recipient in mode `last`, forward only.

    Reads what is kept. NewerFormat: a newer version wrote it.
    """
    if not days:
        return
    found = store.eval(_READ_PEOPLE, 1, keys.last.prefix(shard), b"".join(days), keys.PEOPLE_BUCKETS)
    for (recipient, day), kept in zip(days.items(), found, strict=True):
        if kept is None or day > recipient_record.unpack_day(kept):
            yield (
                "HSET",
                keys.last(shard, recipient_record.people_bucket(recipient)),
                recipient,
                recipient_record.pack_day(day),
            )


def bookkeeping(shard: int, tally: Tally, newest: int) -> Iterator[Command]:
    """The commands for what was not counted. newest: as it is kept, ms."""
    if tally.newest > newest:
        yield ("HSET", keys.checkpoint(shard), "newest", str(tally.newest))
    for reason, count in tally.drops.items():
        yield ("HINCRBY", keys.drops(shard), reason, str(count))
    for unreadable in tally.dead:
        yield ("XADD", keys.dead(shard), "*", "reason", unreadable.reason, "data", unreadable.data)
    yield ("DEL", keys.stop(shard))


def _move(changes: dict[int, Cell], count: int, before: int, after: int) -> None:
    """A recipient's first open lies at `after` (s), and no more at `before`; 0: nowhere."""
    if after:
        _change(changes, after, count, 1)
    if before:
        _change(changes, before, count, -1)


def _change(changes: dict[int, Cell], at: int, count: int, by: int) -> None:
    start = at - at % series.BUCKET_SECONDS
    cell = changes.get(start)
    if cell is None:
        cell = changes[start] = [0] * len(series.COUNTS)
    cell[count] += by


@cache
def _joined(classes: int) -> tuple[str, ...]:
    """What a recipient with these classes of opens counts under."""
    names = {
        recipient_record.PERSON: "person",
        recipient_record.PREFETCH: "prefetch",
        recipient_record.SCANNER: "scanner",
    }
    names[recipient_record.UNKNOWN] = "unknown"
    found = [f"recipients_{name}" for bit, name in names.items() if classes & bit]
    if classes & recipient_record.HIDES:
        found.append("recipients_hidden")
        if classes & recipient_record.PERSON:
            found.append("recipients_hidden_person")
    return tuple(found)


def _totals(shard: int, campaign: str, changes: dict[int, Cell]) -> Iterator[Command]:
    for name, counts in zip(series.COUNTS, zip(*changes.values(), strict=True), strict=False):
        if sum(counts):
            yield ("HINCRBY", keys.total(shard, campaign), name, str(sum(counts)))


def _from(changes: dict[int, Cell], first: int) -> dict[int, Cell]:
    return {start: cell for start, cell in changes.items() if start >= first}


def _buckets(shard: int, campaign: str, changes: dict[int, Cell], kept: Kept) -> Iterator[Command]:
    touched = set()
    for start, counts in changes.items():
        day = series.utc_day(start)
        touched.add(day)
        series.add(kept.buckets[day], series.bucket_number(start), counts)
    for day in sorted(touched):
        yield ("SET", keys.buckets(shard, campaign, day), series.pack(kept.buckets[day]))


def _months(shard: int, sums: Sums, changes: dict[int, Cell], kept: Kept, first: str) -> Iterator[Command]:
    touched = set()
    for start, counts in changes.items():
        day = sums.day(start)
        if day < first:
            continue
        touched.add(day[:6])
        series.add(kept.months[day[:6]], int(day[6:]), counts)
    for month in sorted(touched):
        yield ("HSET", keys.months(shard, sums.campaign.id), month, series.pack(kept.months[month]))


def _count_delay(sums: Sums, opens: dict[str, Counter[str]], person: RecipientRecord, by: int) -> None:
    """The time to a recipient's first open is one more, or one less, of those of its day."""
    if person.delay:
        day = sums.day(series.bucket_start(person.first_person * 1000))
        opens.setdefault(day, Counter())[f"{labels.DELAY}{person.delay}"] += by


def _opens(
    shard: int, sums: Sums, opens: dict[str, Counter[str]], kept: Kept, first: str
) -> Iterator[Command]:
    touched = set()
    for day, counts in opens.items():
        if any(counts.values()):
            touched.add(open_breakdown.ALL)
            open_breakdown.add(kept.opens[open_breakdown.ALL], 0, counts)
            if day >= first:
                touched.add(day[:6])
                open_breakdown.add(kept.opens[day[:6]], int(day[6:]), counts)
    for name in sorted(touched):
        yield ("HSET", keys.breakdown(shard, sums.campaign.id), name, open_breakdown.pack(kept.opens[name]))


def _web(shard: int, sums: Sums, kept: Kept, first: str) -> Iterator[Command]:
    for day, counts in sums.parts.items():
        if day < first:
            continue
        fields: list[str | bytes] = []
        for dimension, names in web_breakdown.by_dimension(counts).items():
            web_breakdown.add(kept.parts[day, dimension], names)
            fields += (dimension, web_breakdown.pack(kept.parts[day, dimension]))
        if fields:
            yield ("HSET", keys.web(shard, sums.campaign.id, day), *fields)


def _parts(items: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for i in range(0, len(items), _CHUNK):
        yield items[i : i + _CHUNK]
