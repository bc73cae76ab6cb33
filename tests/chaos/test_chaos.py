"""A short run of `make chaos`, by a fixed seed."""

from __future__ import annotations

from tests.chaos.story import run


def test_story_everything_killed_loses_and_doubles_no_hit():
    result = run(seed=20, kills=12)
    assert not result.failed, result.table()
    assert result.answered > 100, result.table()
    assert result.answered <= result.counted <= result.sent, result.table()
