"""Lines of a recipient list: the header and the rows of CSV, and the objects of NDJSON. Pure.

Both readers of such lists use it: uploads over the API, and the commands that add links to a file.
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
    """Returns the fields of one CSV row. Raises ValueError if its quotes are not those of CSV.

    A field in quotes may go over several lines, which are then all in `text`.
    """
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise ValueError(f"is not CSV: {error}") from None


def split_names(header: str, delimiter: str) -> list[str]:
    """Returns the names of the columns. Raises ValueError as `split_fields` does."""
    return [name.strip() for name in split_fields(header, delimiter)]


def find_delimiter(header: str, column: str) -> str:
    """Returns the first of DELIMITERS that makes `column` one of the columns.

    Returns the first that stands in the header if none does, and a comma if the header has no delimiter.
    """
    candidates = [mark for mark in DELIMITERS if mark in header]
    for mark in candidates:
        with contextlib.suppress(ValueError):
            if find_column(split_names(header, mark), column) is not None:
                return mark
    return candidates[0] if candidates else ","


def find_column(names: Sequence[str], column: str) -> int | None:
    """Returns the place of a column, or None if it is missing or ambiguous.

    A name that differs only in upper and lower case is accepted if it is the only such name.
    """
    if column in names:
        return names.index(column)
    places = [place for place, name in enumerate(names) if name.casefold() == column.casefold()]
    return places[0] if len(places) == 1 else None
