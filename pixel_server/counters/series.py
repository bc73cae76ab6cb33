"""Counts over time, packed: in buckets of 15 minutes (UTC), and by day of the campaign's time zone.

A cell is a list of counts at their POSITIONS, without the zeros at its end: `[3, 2]` is 3 hits, 2 of them
opens. A stored value is msgpack of [format, {number: cell}]. It holds the buckets of a UTC day, numbered 0 to
95, or the days of a month, numbered 1 to 31. In the buckets of a day, `[1, {40: [3, 2]}]` is the bucket that
begins at 10:00 UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from pixel_server.counters.stored_format import refuse_newer
from pixel_server.times import DAY
from pixel_server.verdicts import CLASSES

FORMAT = 1
POSITIONS = {
    "hits": 0,
    "opens": 1,
    "unique_opens": 2,
    "views": 3,
    "opens_anonymous": 4,
    "hits_gpc": 5,
    "unique_opens_person": 6,
    "hits_person": 7,
    "hits_proxy": 8,
    "hits_prefetch": 9,
    "hits_scanner": 10,
    "hits_own": 11,
    "hits_unknown": 12,
    "views_bot": 13,
    "views_no_visitor": 14,
    "views_no_visit": 15,
    "visits": 16,
    "bounces": 17,
    "visits_new": 18,
    "visits_returning": 19,
}
"""Position of each count in a stored cell. Append only: every stored day is read by these positions. A new
count, such as the hits of a new verdict class, takes the next free number. No position is moved or
used again."""
COUNTS = tuple(POSITIONS)
"""Names of the counts, by position."""
HITS = POSITIONS["hits"]
OPENS = POSITIONS["opens"]
UNIQUE_OPENS = POSITIONS["unique_opens"]
VIEWS = POSITIONS["views"]
OPENS_ANONYMOUS = POSITIONS["opens_anonymous"]
HITS_GPC = POSITIONS["hits_gpc"]
UNIQUE_OPENS_PERSON = POSITIONS["unique_opens_person"]
VIEWS_BOT = POSITIONS["views_bot"]
VIEWS_NO_VISITOR = POSITIONS["views_no_visitor"]
VIEWS_NO_VISIT = POSITIONS["views_no_visit"]
VISITS = POSITIONS["visits"]
BOUNCES = POSITIONS["bounces"]
VISITS_NEW = POSITIONS["visits_new"]
VISITS_RETURNING = POSITIONS["visits_returning"]
HITS_BY_CLASS = {name: POSITIONS[f"hits_{name}"] for name in CLASSES}
"""Position of the count of hits, by the class of their verdict."""
BUCKET_SECONDS = 900

Cell = list[int]
Cells = dict[int, Cell]
"""Cells by the number of their bucket or day."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, Cells]).decode


def pack(cells: Cells) -> bytes:
    """Returns the stored bytes of cells."""
    return _encode((FORMAT, {number: _trim(cell) for number, cell in sorted(cells.items())}))


def unpack(value: bytes | None) -> Cells:
    """Returns the cells of a stored value, and {} for None. Raises NewerFormat."""
    if value is None:
        return {}
    refuse_newer(value, FORMAT, "series")
    _, cells = _decode(value)
    return cells


def add(cells: Cells, number: int, changes: Cell) -> None:
    """Adds changes to the counts of a cell. No count falls below 0.

    A change may be negative, as when a first open moves to another bucket or day.
    """
    cell = cells.setdefault(number, [])
    cell.extend([0] * (len(changes) - len(cell)))
    for position, change in enumerate(changes):
        cell[position] = max(0, cell[position] + change)


def _trim(cell: Cell) -> Cell:
    end = len(cell)
    while end and not cell[end - 1]:
        end -= 1
    return cell[:end]


def bucket_start(time_ms: int) -> int:
    """Returns the start, in seconds since 1970, of the bucket that holds an instant."""
    return time_ms // 1000 // BUCKET_SECONDS * BUCKET_SECONDS


def bucket_number(start: int) -> int:
    """Returns the number of a bucket in its UTC day: 40 for 10:00. start: in seconds since 1970."""
    return start % DAY // BUCKET_SECONDS


def utc_day(start: int) -> str:
    """Returns the UTC day of a bucket: `"20261124"`. start: in seconds since 1970."""
    return datetime.fromtimestamp(start, UTC).strftime("%Y%m%d")
