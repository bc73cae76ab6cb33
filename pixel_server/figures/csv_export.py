"""Tables for spreadsheets, in CSV (RFC 4180). Text that a spreadsheet would run as a formula is escaped."""

from __future__ import annotations

import csv
import io
import string
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MEDIA = "text/csv"
_PLAIN_STARTS = frozenset(string.ascii_letters + string.digits)
"""Characters that begin most texts, and no formula. Such a text needs no slow look."""
_PLAIN_TYPES = frozenset({int, float, type(None)})
"""Types of values that are written as they are. Most cells of large tables are numbers or empty."""
_FORMULA_STARTS = frozenset("=+-@\u2010\u2011\u2012\u2013\u2212")
"""Characters that begin a formula. Unicode hyphens, the dash and the minus sign are read as a minus."""
_INVISIBLE = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f")
"""Invisible letters and marks: Hangul fillers, the empty Braille pattern, the grapheme joiner."""


def lines(rows: Iterable[Sequence[Any]]) -> bytes:
    """Returns rows as CSV. None becomes an empty cell, and True becomes `true`, as in JSON.

    An apostrophe precedes text that may be a formula.
    """
    out = io.StringIO()
    csv.writer(out).writerows(
        [value if type(value) in _PLAIN_TYPES else _cell(value) for value in row] for row in rows
    )
    return out.getvalue().encode()


def of_series(items: Sequence[Mapping[str, Any]]) -> bytes:
    """Returns the `series` of stats as CSV, a row for each interval."""
    columns = list(items[0]) if items else ["start"]
    return lines([columns, *([item[name] for name in columns] for item in items)])


def of_breakdowns(by: Mapping[str, Sequence[Mapping[str, Any]]], counts: Sequence[str]) -> bytes:
    """Returns breakdowns as CSV, a row for each name of each dimension: `by,name,views,visits`.

    counts: names of the counts, for the head of an empty table.
    """
    names = list(dict.fromkeys(name for rows in by.values() for row in rows for name in row))
    columns = names or ["name", *counts]
    table = [[dimension, *map(row.get, columns)] for dimension, rows in by.items() for row in rows]
    return lines([["by", *columns], *table])


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return value if value[:1] in _PLAIN_STARTS or not _is_formula(value) else f"'{value}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return value


def _is_formula(text: str) -> bool:
    """Returns whether a spreadsheet may take this text for a formula.

    At the beginning of a text, spreadsheets skip blanks and invisible characters, such as byte order marks.
    They take full-width and small forms of characters, such as \"\uff1d\", for the plain characters.
    """
    if text.startswith(("\t", "\r", "\n")):
        return True
    first = next(
        (mark for mark in text if unicodedata.category(mark)[0] not in "ZC" and mark not in _INVISIBLE), ""
    )
    return unicodedata.normalize("NFKC", first)[:1] in _FORMULA_STARTS if first else False
