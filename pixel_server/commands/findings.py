"""The findings of `doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from typing import Literal, NamedTuple

from pixel_server.settings import Settings


class Finding(NamedTuple):
    """The result of a check of one thing. For example, the check `networks` checks the list `apple`.

    level: an `advice` can wait; a `problem` cannot.
    """

    check: str
    thing: str
    level: Literal["ok", "advice", "problem"]
    text: str


Check = Callable[[Settings, date], Iterator[Finding]]
"""A check, which is given the settings and today's date in UTC."""


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun: `1 batch`, `2,000 batches`."""
    ending = "" if number == 1 else "es" if noun.endswith("ch") else "s"
    return f"{number:,} {noun}{ending}"
