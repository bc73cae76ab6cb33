"""What one scenario of `make chaos` found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Outcome:
    """events: what was done, and how often. figures: what was measured, in the order of the table.

    failures: sentences, one for each thing that did not hold; the scenario failed if there are any, or if a
    hit was lost or doubled. reported: hits the store itself lost, which the server reported.
    standstill: the most seconds that counting stood still while workers and Redis lived.
    """

    scenario: str
    seed: int
    events: Counter[str] = field(default_factory=Counter)
    figures: dict[str, str | int | float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    sent: int = 0
    answered: int = 0
    refused: int = 0
    counted: int = 0
    lost: int = 0
    doubled: int = 0
    reported: int = 0
    standstill: float | None = None

    def expect(self, holds: bool, sentence: str) -> None:
        """Notes the sentence as a failure unless it holds."""
        if not holds:
            self.failures.append(sentence)

    @property
    def failed(self) -> bool:
        return bool(self.failures) or self.lost > self.reported or self.doubled > 0

    def table(self) -> str:
        """A table in Markdown, and the failures under it."""
        rows: list[tuple[str, str | int | float]] = [("seed", self.seed), *sorted(self.events.items())]
        rows += self.figures.items()
        rows += [("requests sent", self.sent), ("answered `recorded`", self.answered)]
        rows += [("answered 503", self.refused), ("counted", self.counted)]
        rows += [("lost", self.lost), ("of them reported", self.reported), ("doubled", self.doubled)]
        if self.standstill is not None:
            rows.append(("counting stood still, s at most", round(self.standstill, 1)))
        lines = [f"| {self.scenario} | how many |", "| --- | ---: |", *(f"| {n} | {c} |" for n, c in rows)]
        return "\n".join([*lines, *(f"FAILED: {sentence}" for sentence in self.failures)])
