"""Tasks that run as long as the process: ended for certain, and never missed in silence."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine, Iterable
from typing import Any

log = logging.getLogger("pixel_server.tasks")

AGAIN = 0.1
"""Seconds until a task that did not end is cancelled once more."""


def start(parts: Iterable[Coroutine[Any, Any, Any]]) -> list[asyncio.Task[Any]]:
    """Runs these beside. One that fails ends this process: what goes on without one of its parts looks well,
    and is not."""
    started = [asyncio.create_task(part) for part in parts]
    for task in started:
        task.add_done_callback(_ended)
    return started


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


def _ended(task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.critical("%s failed, so this process ends", task.get_coro(), exc_info=error)
        os.kill(os.getpid(), signal.SIGTERM)
