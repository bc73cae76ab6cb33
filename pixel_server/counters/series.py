"""Counts over time, packed: 15-minute buckets in UTC, and days of the campaign's own zone.

A cell is a list of counts at their POSITIONS, without the zeros at its end. One value holds the cells
of a day (by number of the quarter hour, 0 to 95) or of a month (by day, 1 to 31): msgpack of
[format, {number: cell}].
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

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
count, also that of a new verdict class, takes the next free number. No position is moved or used again."""
COUNTS = tuple(POSITIONS)
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
OF_CLASS = {name: POSITIONS[f"hits_{name}"] for name in CLASSES}
"""Position of the count of hits with a verdict of this class."""
QUARTER = 900

Cell = list[int]
Cells = dict[int, Cell]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, Cells]).decode


class NewerFormat(ValueError):
    """Written by a newer version of this server: left as it is."""


def refuse_newer(value: bytes, known: int, what: str) -> None:
    """NewerFormat: a packed value is of a later format, whatever its shape. Its second byte says which."""
    if value[1] > known:
        raise NewerFormat(f"{what} of format {value[1]}, this version reads {known}")


def pack(cells: Cells) -> bytes:
    return _encode((FORMAT, {number: _trim(cell) for number, cell in sorted(cells.items())}))


def unpack(value: bytes | None) -> Cells:
    if value is None:
        return {}
    refuse_newer(value, FORMAT, "series")
    _, cells = _decode(value)
    return cells


def add(cells: Cells, number: int, counts: Cell) -> None:
    """Adds counts to one cell. They may be negative (a first open that moves); what comes out is not."""
    cell = cells.setdefault(number, [])
    cell.extend([0] * (len(counts) - len(cell)))
    for i, count in enumerate(counts):
        cell[i] = max(0, cell[i] + count)


def _trim(cell: Cell) -> Cell:
    end = len(cell)
    while end and not cell[end - 1]:
        end -= 1
    return cell[:end]


def bucket(time_ms: int) -> int:
    """Start of the 15 minutes that an instant lies in, seconds since 1970."""
    return time_ms // 1000 // QUARTER * QUARTER


def utc_day(start: int) -> str:
    """YYYYMMDD of the UTC day that a bucket lies in."""
    return datetime.fromtimestamp(start, UTC).strftime("%Y%m%d")


def quarter(start: int) -> int:
    """Number of a bucket within its UTC day."""
    return start % DAY // QUARTER
