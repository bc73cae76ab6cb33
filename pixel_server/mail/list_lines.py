"""Parses single lines of a recipient list: the header and the rows of CSV, and the objects of NDJSON. Pure.

Uploads over the API use it, and the commands that add links to a file.
"""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Sequence
from typing import Any

DELIMITERS = ",;\t|"
BOM = b"\xef\xbb\xbf"


def is_utf16(first: bytes) -> bool:
    """Returns whether a list that begins with these bytes is UTF-16."""
    return first.startswith((b"\xff\xfe", b"\xfe\xff"))


def is_ndjson(first: bytes) -> bool:
    """Returns whether a list that begins with these bytes has a JSON object on each line."""
    return first.removeprefix(BOM).lstrip().startswith(b"{")


def decode_object(text: str) -> dict[str, Any]:
    """Returns the JSON object of one line. Raises ValueError if the line is not a JSON object."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ValueError("is not a JSON object")
    return content


def split_fields(text: str, delimiter: str) -> list[str]:
    """Returns the fields of one CSV row. Raises ValueError if its quotes are not valid CSV.

    text: the whole row. It has several lines if a quoted field has.
    """
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise ValueError(f"is not CSV: {error}") from None


def split_names(header: str, delimiter: str) -> list[str]:
    """Returns the column names of a CSV header. Raises ValueError as `split_fields` does."""
    return [name.strip() for name in split_fields(header, delimiter)]


def find_delimiter(header: str, column: str) -> str:
    """Returns the delimiter of a CSV header: the first of DELIMITERS that makes `column` one of its columns.

    If no delimiter does, returns the first of DELIMITERS that the header contains, or else a comma.
    """
    candidates = [mark for mark in DELIMITERS if mark in header]
    for mark in candidates:
        with contextlib.suppress(ValueError):
            if find_column(split_names(header, mark), column) is not None:
                return mark
    return candidates[0] if candidates else ","


def find_column(names: Sequence[str], column: str) -> int | None:
    """Returns the index of a column, or None if the column is missing or ambiguous.

    A name that differs only in upper and lower case is accepted if it is the only such name.
    """
    if column in names:
        return names.index(column)
    positions = [i for i, name in enumerate(names) if name.casefold() == column.casefold()]
    return positions[0] if len(positions) == 1 else None
