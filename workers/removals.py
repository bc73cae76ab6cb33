"""The limit of what a retention run may remove, and the counts of removed data and of waiting data."""

from __future__ import annotations

from collections import Counter
from typing import Literal, NamedTuple

Allowance = Literal["nothing", "a day", "all"]
"""Limit of what a run may remove. nothing: the run only counts. a day: the run removes a kind of data only if
at most a day's worth of it is due. all: the run removes all data that is due."""


class Removals(NamedTuple):
    """Counts by kind of data, such as `{"days": 12}`. Waiting data stays until an operator allows its
    removal.
    """

    removed: Counter[str]
    waiting: Counter[str]

    def add(self, other: Removals) -> None:
        """Adds the counts of `other` to these."""
        self.removed.update(other.removed)
        self.waiting.update(other.waiting)


def no_removals() -> Removals:
    return Removals(Counter(), Counter())
