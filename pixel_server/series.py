"""Counts over time, packed: 15-minute buckets in UTC, and days of the campaign's own zone.

A cell is a list of counts in the order of COUNTS, without the zeros at its end. One value holds the cells
of a day (by number of the quarter hour, 0 to 95) or of a month (by day, 1 to 31): msgpack of
[format, {number: cell}].
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from pixel_server.verdicts import CLASSES

FORMAT = 1
COUNTS = (
    "hits",
    "opens",
    "unique_opens",
    "views",
    "opens_anonymous",
    "hits_gpc",
    "unique_opens_person",
    *(f"hits_{name}" for name in CLASSES),
    "views_bot",
    "views_no_visitor",
    "views_no_visit",
    "visits",
    "bounces",
    "visits_new",
    "visits_returning",
)
HITS, OPENS, UNIQUE_OPENS, VIEWS, OPENS_ANONYMOUS, HITS_GPC, UNIQUE_OPENS_PERSON = range(7)
OF_CLASS = {name: place for place, name in enumerate(CLASSES, 7)}
"""Where hits of a class stand in a cell."""
_END = 7 + len(CLASSES)
VIEWS_BOT, VIEWS_NO_VISITOR, VIEWS_NO_VISIT, VISITS, BOUNCES, VISITS_NEW, VISITS_RETURNING = range(
    _END, _END + 7
)
QUARTER = 900
DAY = 86_400

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
