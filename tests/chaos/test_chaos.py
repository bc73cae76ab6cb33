"""A short, seeded part of `make chaos`."""

from __future__ import annotations

from tests.chaos.story import Story


def test_nothing_is_lost_and_nothing_doubled():
    result = Story(seed=20).tell(kills=12)
    assert (result.lost, result.doubled) == (0, 0), result.table()
    assert result.answered > 100, result.table()
    assert result.answered <= result.counted <= result.sent, result.table()
