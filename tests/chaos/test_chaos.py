"""A short, seeded part of `make chaos`."""

from __future__ import annotations

from tests.chaos.story import run


def test_nothing_is_lost_and_nothing_doubled():
    result = run(seed=20, kills=12)
    assert not result.failed, result.table()
    assert result.answered > 100, result.table()
    assert result.answered <= result.counted <= result.sent, result.table()
