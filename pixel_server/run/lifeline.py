"""A lifeline: a pipe whose other end only the parent holds, so that a child ends when the parent does."""

from __future__ import annotations

import os
import signal
import threading
import time

ENV = "PIXEL_LIFELINE"
GRACE = 8.0
"""Seconds to end by itself, as long as a worker may need."""


def hold() -> bool:
    """In a child: ends this process, however its parent ends. Whether there is a lifeline."""
    handle = os.environ.pop(ENV, "")
    if handle.isdigit():
        threading.Thread(target=_wait, args=(int(handle),), daemon=True, name="lifeline").start()
    return handle.isdigit()


def _wait(handle: int) -> None:
    os.read(handle, 1)  # nobody writes: this returns when the other end is closed
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)
