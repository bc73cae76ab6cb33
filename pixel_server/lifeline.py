"""The child's end of its lifeline: a socket between a process of this server and its parent.

Through it the child sends heartbeats, and notices that its parent has ended. `run.supervisor` has the
parent's end: it kills and replaces a child whose heartbeats stop.

A heartbeat must prove progress. So the web process sends heartbeats from its event loop, and a worker between
two steps of its work, never from a thread of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

VARIABLE = "PIXEL_LIFELINE"
"""Environment variable with the file descriptor of the child's end."""
BEAT_SECONDS = 1.0
"""Seconds between two heartbeats of an event loop."""
END_TIMEOUT_SECONDS = 8.0
"""Maximum seconds that a child may take to end after its parent has ended. A worker may need that long."""

_childs_end: int | None = None


def hold() -> bool:
    """Takes the lifeline from the environment, and ends this process when its parent ends.

    Returns whether this process has a lifeline: it does if the supervisor started it.
    """
    global _childs_end  # noqa: PLW0603 - a process has one lifeline
    handle = os.environ.pop(VARIABLE, "")
    if not handle.isdigit():
        return False
    _childs_end = int(handle)
    os.set_blocking(_childs_end, False)  # a parent that hangs must not make its child hang
    threading.Thread(
        target=_wait_for_parent_and_end, args=(_childs_end,), daemon=True, name="lifeline"
    ).start()
    return True


def is_held() -> bool:
    """Returns whether this process has a lifeline: it is a child of `up`, `serve` or `work`."""
    return _childs_end is not None


def beat() -> None:
    """Sends a heartbeat to the parent, if this process has a lifeline."""
    if _childs_end is not None:
        with contextlib.suppress(OSError):  # the parent has ended, or has not read for long
            os.write(_childs_end, b".")


async def keep_beating() -> None:
    """Sends heartbeats until it is cancelled, as long as the event loop runs."""
    while True:
        beat()
        await asyncio.sleep(BEAT_SECONDS)


async def with_heartbeat(work: Coroutine[Any, Any, T]) -> T:
    """Sends heartbeats while it awaits a coroutine. Returns the coroutine's result."""
    heartbeat = asyncio.create_task(keep_beating())
    try:
        return await work
    finally:
        heartbeat.cancel()


def _wait_for_parent_and_end(handle: int) -> None:
    waiting = select.poll()
    waiting.register(handle, select.POLLIN)
    waiting.poll()  # the parent sends nothing: this returns when the parent's end is closed
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(END_TIMEOUT_SECONDS)
    os._exit(1)
