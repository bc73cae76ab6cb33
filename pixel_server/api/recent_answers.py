"""A cache of answers that are read once and given to everyone who asks for the same within a short time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

MAX_ANSWERS = 64
"""Answers kept in a process. The largest, three years of days, have about 400 KB each."""


class RecentAnswers:
    """Keeps answers under a key that names everything they depend on, including their minute."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Hashable, asyncio.Task[Any]] = OrderedDict()

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Any]]) -> Any:
        """Returns the answer of `read`, which runs once for all callers that wait. Does not keep errors."""
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
