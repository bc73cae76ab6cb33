"""The outcome of one scenario of `make chaos`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Outcome:
    """The outcome of one scenario.

    events: numbers of events by name. figures: measurements by name, in the order of the table. failures: a
    sentence for each broken promise. sent, answered, refused, counted, lost, doubled: numbers of requests for
    pixels: sent, answered `recorded`, answered 503, counted, answered but not counted, counted but not sent.
    reported: lost hits that the server itself reported. standstill: the most seconds for which counting stood
    still while workers and Redis ran.
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
        """Notes the sentence as a failure if the condition does not hold."""
        if not holds:
            self.failures.append(sentence)

    @property
    def failed(self) -> bool:
        """Whether a promise was broken, or a hit was doubled, or lost without a report."""
        return bool(self.failures) or self.lost > self.reported or self.doubled > 0

    def table(self) -> str:
        """Returns a table in Markdown, and the failures under it."""
        rows: list[tuple[str, str | int | float]] = [("seed", self.seed), *sorted(self.events.items())]
        rows += self.figures.items()
        rows += [("requests sent", self.sent), ("answered `recorded`", self.answered)]
        rows += [("answered 503", self.refused), ("counted", self.counted)]
        rows += [("lost", self.lost), ("of them reported", self.reported), ("doubled", self.doubled)]
        if self.standstill is not None:
            rows.append(("counting stood still, s at most", round(self.standstill, 1)))
        lines = [
            f"| {self.scenario} | how many |",
            "| --- | ---: |",
            *(f"| {name} | {figure} |" for name, figure in rows),
        ]
        return "\n".join([*lines, *(f"FAILED: {sentence}" for sentence in self.failures)])
