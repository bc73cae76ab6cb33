"""Answers that are read once and given to all who ask for the same within a short time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

MOST = 64
"""Answers kept in a process, at most some 400 KB each: three years of days."""


class Recent:
    """Keeps answers under a key that names all that they depend on, their minute included."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, asyncio.Task[Any]] = OrderedDict()

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Any]]) -> Any:
        """Returns the answer of `read`, which runs once for all who ask meanwhile. Errors are not kept."""
        task = self._kept.get(key)
        if task is None:
            task = self._kept[key] = asyncio.ensure_future(_run(read))
            if len(self._kept) > MOST:
                self._kept.popitem(last=False)
        try:
            return await asyncio.shield(task)
        finally:
            has_failed = task.done() and (task.cancelled() or task.exception() is not None)
            if has_failed and self._kept.get(key) is task:
                del self._kept[key]


async def _run(read: Callable[[], Awaitable[Any]]) -> Any:
    return await read()
