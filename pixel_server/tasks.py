"""Ending asyncio tasks for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN = 0.1
"""Seconds until a task that did not end is cancelled once more."""


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels tasks until they have ended; what they raise is not raised here.

    Once is not enough: a cancellation that arrives as a wait is just over can get lost in it (in Python 3.11,
    `asyncio.wait_for` then returns the result, and a client's own time limit may turn it into an error that
    is retried), and a loop around that wait goes on. A server then hangs in its stop.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=AGAIN)
        await asyncio.gather(*done, return_exceptions=True)
