"""A sample of the visits of a site, by local day. Figures are filtered by it: the counts of `web_breakdown`
cannot say which visitors of a page came from where.

Each campaign, shard and local day has one Redis hash. A field is the number of a visit: 8 random bytes, drawn
when the visit begins. A value is msgpack of [format, record], see `SampledVisit`. It names no visitor, and
holds no address and no exact time.

The hash holds the visits whose number is below its limit. It has no limit while it holds all visits of the
day. If there are more visits than it may hold, the limit becomes the lowest number that has no room. As the
numbers are random, the visits below the limit are a uniform sample (a bottom-k sketch: Cohen and Kaplan,
2007). The limit is a field too: `<` and the 8 bytes, with an empty value. So the samples of two shards are
merged by putting their fields together; of several limits the lowest holds.

Redis removes a hash KEPT_DAYS after its day.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from pixel_server.counters import series
from pixel_server.counters.labels import OTHER
from pixel_server.counters.stored_format import refuse_newer
from pixel_server.counters.visits import Visit
from pixel_server.counters.web_breakdown import NONE, Source, VisitorTraits
from pixel_server.store.checkpoint import Command
from pixel_server.times import DAY

FORMAT = 1
KEPT_DAYS = 90
"""Days for which a sample is kept, unless the days of the campaign are kept for less."""
MAX_PAGES = 16
"""Largest number of pages of a record. Views of further pages count as views of `(other)`."""
MAX_RECORD_BYTES = 4500
"""Largest number of bytes of Redis that a record takes, with the longest names."""
MIN_SIZE = 16
"""Smallest number of visits that the sample of a shard may hold."""
_LIMIT_MARK = b"<"
_WORDS_PER_COMMAND = 2000


class SampledVisit(msgspec.Struct, array_like=True, gc=False):
    """A visit of the sample.

    bucket: start of its 15-minute bucket, in units of 900 s since 1970. seconds: from its first to its last
    hit. pages: views by page, in the order of their first view. exit: place of the exit page in `pages`.
    traits, source: as in `web_breakdown`, those of the first view. Fields at the end of `source` that are
    NONE are left out.

    Append only: stored records are read by the position of each field. Add a field at the end, with a
    default.
    """

    bucket: int
    seconds: int
    pages: dict[str, int]
    exit: int
    traits: VisitorTraits
    source: tuple[str, ...]

    @property
    def views(self) -> int:
        return sum(self.pages.values())

    @property
    def whole_source(self) -> Source:
        return Source(*self.source)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, SampledVisit]).decode


def draw_number() -> bytes:
    """Returns a number for a new visit."""
    return os.urandom(8)


def new_record(visit: Visit, traits: VisitorTraits) -> SampledVisit:
    """Returns the record of a visit that has just begun."""
    source = list(visit.whole_source)
    while source and source[-1] == NONE:
        source.pop()
    bucket = series.bucket_start(visit.start) // series.BUCKET_SECONDS
    return SampledVisit(bucket, 0, {visit.entry: 1}, 0, traits, tuple(source))


def update(record: SampledVisit, visit: Visit, page: str = "") -> None:
    """Brings a record up to date with its visit. page: the page of a new view, "" if there is none."""
    if page:
        name = _name(record, page)
        record.pages[name] = record.pages.get(name, 0) + 1
    record.seconds = (visit.last - visit.start) // 1000
    record.exit = list(record.pages).index(_name(record, visit.exit))


def _name(record: SampledVisit, page: str) -> str:
    """Returns the name under which a record has a page or can take it."""
    return page if page in record.pages or len(record.pages) < MAX_PAGES else OTHER


def pack(record: SampledVisit) -> bytes:
    return _encode((FORMAT, record))


def unpack(value: bytes) -> SampledVisit:
    """Returns a record. Raises NewerFormat."""
    refuse_newer(value, FORMAT, "visit of a sample")
    return _decode(value)[1]


def is_number(field: bytes) -> bool:
    """Returns whether a field of the hash is the number of a visit, and not a limit."""
    return len(field) == 8


def limit_of(fields: Iterable[bytes]) -> bytes | None:
    """Returns the limit of a hash with these fields, or None if it has no limit."""
    return min((field[1:] for field in fields if not is_number(field)), default=None)


def size_of_shard(size: int, shards: int) -> int:
    """Returns the number of visits that the sample of one shard may hold. size: that of all shards."""
    return max(MIN_SIZE, size // shards) if size else 0


def store_commands(
    key: str, stored: Iterable[bytes], changed: Mapping[bytes, SampledVisit], size: int, seconds: int
) -> list[Command]:
    """Returns the commands that store changed records, and keep at most `size` records.

    stored: fields of the hash. seconds: time after which Redis removes the hash.
    """
    fields = set(stored)
    limit = limit_of(fields)
    numbers = {field for field in fields if is_number(field)} | changed.keys()
    below = sorted(number for number in numbers if limit is None or number < limit)
    kept = set(below[:size])
    words = [word for number in changed if number in kept for word in (number, pack(changed[number]))]
    outdated = {field for field in fields if is_number(field)} - kept
    if len(below) > size:
        words += (_LIMIT_MARK + below[size], b"")
        outdated |= {field for field in fields if not is_number(field)}
    commands: list[Command] = [("HDEL", key, *chunk) for chunk in _chunks(sorted(outdated))]
    commands += [("HSET", key, *chunk) for chunk in _chunks(words)]
    if words and not fields:
        commands.append(("EXPIRE", key, str(seconds)))
    return commands


def _chunks(words: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (words[i : i + _WORDS_PER_COMMAND] for i in range(0, len(words), _WORDS_PER_COMMAND))


def seconds_left(day: str, now: float) -> int:
    """Returns the seconds for which the sample of a local day is still kept, 0 or less if its time is over.

    day: `"20261124"`. now: seconds.
    """
    midnight = int(datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).timestamp())
    return midnight + (KEPT_DAYS + 2) * DAY - int(now)  # a local day may end a day after the day in UTC
