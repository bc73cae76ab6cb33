"""Types of form fields that show a date, a time or a number."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time

_READERS: dict[str, Callable[[str], date | time]] = {
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "datetime-local": datetime.fromisoformat,
}
"""Functions that read the value of a field, by its type."""


def input_type(kind: str, value: str) -> str:
    """Returns the type of a field that shows a value: `kind`, or `text` if the field would stay empty.

    A browser shows nothing in a field for a date, a time or a number whose value it cannot read, such as
    `"soon"`.
    """
    if kind == "number":
        return kind if not value or (value.isascii() and value.isdigit()) else "text"
    read = _READERS.get(kind)
    if not value or read is None:
        return kind
    try:
        moment = read(value)
    except ValueError:
        return "text"
    has_offset = getattr(moment, "tzinfo", None) is not None
    return kind if moment.isoformat() in (value, f"{value}:00") and not has_offset else "text"
