"""Answers that are read once for all callers."""

from __future__ import annotations

import asyncio

import pytest

from pixel_server.api import recent_answers
from pixel_server.api.recent_answers import RecentAnswers


def test_recent_answers_many_callers_read_once():
    read = 0

    async def story() -> None:
        async def slowly() -> int:
            nonlocal read
            read += 1
            await asyncio.sleep(0)
            return read

        kept = RecentAnswers()
        assert await asyncio.gather(*(kept.get("a", slowly) for _ in range(50))) == [1] * 50
        assert await kept.get("a", slowly) == 1
        assert await kept.get("b", slowly) == 2

    asyncio.run(story())


def test_recent_answers_error_is_not_kept():
    async def story() -> None:
        async def fail() -> int:
            raise OSError("away")

        async def succeed() -> int:
            return 1

        kept = RecentAnswers()
        with pytest.raises(OSError, match="away"):
            await kept.get("a", fail)
        assert await kept.get("a", succeed) == 1

    asyncio.run(story())


def test_recent_answers_full_drops_the_oldest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recent_answers, "MAX_ANSWERS", 3)

    async def story() -> None:
        async def succeed() -> int:
            return 1

        kept = RecentAnswers()
        for i in range(10):
            await kept.get(i, succeed)
        assert list(kept._answers) == [7, 8, 9]

    asyncio.run(story())
