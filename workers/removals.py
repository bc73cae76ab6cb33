"""How much a retention run may remove, and how much it removed or left."""

from __future__ import annotations

from collections import Counter
from typing import Literal, NamedTuple

Allowance = Literal["nothing", "a day", "all"]
"""How much a run may remove: nothing, because it only looks; what became due within a day; all that is
due."""


class Removals(NamedTuple):
    """Numbers by kind of data, such as `{"days": 12}`. waiting: due, and left for the operator's word."""

    removed: Counter[str]
    waiting: Counter[str]

    def add(self, other: Removals) -> None:
        """Adds other numbers to these."""
        self.removed.update(other.removed)
        self.waiting.update(other.waiting)


def no_removals() -> Removals:
    return Removals(Counter(), Counter())
