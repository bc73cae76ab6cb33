"""Ends every process of a test run when the run itself is ended by SIGTERM.

All processes of a run inherit one environment variable, also Redis servers and browsers, which are detached
from their parent. After SIGTERM no fixture runs, so this file kills the processes that have the variable.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from types import FrameType

MARK = "TEST_RUN_MARK"
"""Environment variable with the process id of the run and its start in ns: `4711-1790000000000000000`."""


def begin() -> None:
    """Sets the mark and handles SIGTERM. Does nothing in a worker of a run, which has inherited the mark."""
    if MARK in os.environ:
        return
    os.environ[MARK] = f"{os.getpid()}-{time.time_ns()}"
    signal.signal(signal.SIGTERM, _end_run)


def processes(mark: str) -> list[int]:
    """Returns the ids of the processes whose environment has this mark, without this process."""
    entry = f"{MARK}={mark}".encode()
    pids = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit() and int(directory.name) != os.getpid():
            with contextlib.suppress(OSError):
                if entry in (directory / "environ").read_bytes().split(b"\0"):
                    pids.append(int(directory.name))
    return pids


def _end_run(number: int, frame: FrameType | None) -> None:
    if not os.environ[MARK].startswith(f"{os.getpid()}-"):  # a child of the run: only the child ends
        os._exit(128 + number)
    while pids := processes(os.environ[MARK]):  # repeated, because a process may just have started another
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    os._exit(128 + number)
