"""Tables for a spreadsheet: CSV (RFC 4180)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MEDIA = "text/csv"


def lines(rows: Iterable[Sequence[Any]]) -> bytes:
    """None is an empty cell. Text that begins like a formula gets an apostrophe before it, for a spreadsheet
    would run it."""
    out = io.StringIO()
    csv.writer(out).writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue().encode()


def of_series(items: Sequence[Mapping[str, Any]]) -> bytes:
    """The `series` of stats, a row an interval."""
    columns = list(items[0]) if items else ["start"]
    return lines([columns, *([item[name] for name in columns] for item in items)])


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return value
