"""A cache of answers, so that many equal requests within a short time read the store once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

MAX_ANSWERS = 64
"""Largest number of answers in a process. The largest answers have 400 KB: three years of figures by day."""


class RecentAnswers:
    """The cache. The key of an answer has all that the answer depends on: campaign, range, minute."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Hashable, asyncio.Task[Any]] = OrderedDict()

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Any]]) -> Any:
        """Returns the answer with a key. Reads a missing answer once for all callers. Errors are not kept."""
        task = self._answers.get(key)
        if task is None:
            task = self._answers[key] = asyncio.ensure_future(_run(read))
            if len(self._answers) > MAX_ANSWERS:
                self._answers.popitem(last=False)
        try:
            return await asyncio.shield(task)
        finally:
            has_failed = task.done() and (task.cancelled() or task.exception() is not None)
            if has_failed and self._answers.get(key) is task:
                del self._answers[key]


async def _run(read: Callable[[], Awaitable[Any]]) -> Any:
    return await read()
