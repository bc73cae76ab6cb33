"""Starts, repeats and ends background tasks that run as long as the process, and reports their failures."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from pixel_server.logs import Log

log = Log(__name__)

CANCEL_RETRY_SECONDS = 0.1
"""Seconds until a task that has not ended is cancelled again."""


def start(coroutines: Iterable[Coroutine[Any, Any, Any]]) -> list[asyncio.Task[Any]]:
    """Starts one task for each coroutine and returns the tasks.

    A task that raises an exception ends the process with SIGTERM. Otherwise a server that lacks one of its
    parts would look healthy.
    """
    started = [asyncio.create_task(coroutine) for coroutine in coroutines]
    for task in started:
        task.add_done_callback(_end_process_on_error)
    return started


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels tasks until each has ended. Ignores their exceptions.

    One cancellation is not enough. A cancellation can get lost if it arrives just as a wait finishes: in
    Python 3.11 `asyncio.wait_for` then returns its result, and a client's own timeout may turn the
    cancellation into an error that is retried. The loop around that wait would go on, and the server would
    hang while it stops.
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        done, running = await asyncio.wait(running, timeout=CANCEL_RETRY_SECONDS)
        await asyncio.gather(*done, return_exceptions=True)


async def repeat(
    step: Callable[[], Awaitable[Any]],
    pause_seconds: float,
    report: Callable[[Exception], None] | None = None,
    *,
    unreported: tuple[type[Exception], ...] = (),
    pauses_first: bool = False,
) -> None:
    """Awaits `step` again and again, with a pause after each call, until the task is cancelled.

    report: function that is called with the first error of a row of failures, so that an outage of hours is
    one line in the log. If `report` is None, errors are raised. unreported: errors that are expected and
    logged elsewhere. They do not begin or end a row. pauses_first: whether to pause before the first call
    too.
    """
    is_failing = False
    if pauses_first:
        await asyncio.sleep(pause_seconds)
    while True:
        try:
            await step()
            is_failing = False
        except unreported:
            pass
        except Exception as error:
            if report is None:
                raise
            if not is_failing:
                report(error)
            is_failing = True
        await asyncio.sleep(pause_seconds)


def retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Keeps asyncio from logging a failure that no caller waited for. Use it as a done callback."""
    if not task.cancelled():
        task.exception()


def _end_process_on_error(task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.critical(
            "task-failed",
            "the task %(task)s failed, so this process ends: %(error)s",
            task=getattr(task.get_coro(), "__qualname__", "unnamed"),
            error=error,
            exc=error,
        )
        os.kill(os.getpid(), signal.SIGTERM)
