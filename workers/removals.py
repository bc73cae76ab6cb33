"""The limit of what a retention run may remove, and the counts of what it removed and left."""

from __future__ import annotations

from collections import Counter
from typing import Literal, NamedTuple

Allowance = Literal["nothing", "a day", "all"]
"""Limit of what a run may remove: nothing, because it only counts; a kind of data of which at most a day's
worth is due; or all that is due."""


class Removals(NamedTuple):
    """Counts by kind of data, such as `{"days": 12}`. waiting: due, but an operator must allow it."""

    removed: Counter[str]
    waiting: Counter[str]

    def add(self, other: Removals) -> None:
        """Adds the counts of `other` to these."""
        self.removed.update(other.removed)
        self.waiting.update(other.waiting)


def no_removals() -> Removals:
    return Removals(Counter(), Counter())
