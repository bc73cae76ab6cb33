"""Ends every process of a test run when the run itself is ended by SIGTERM.

All processes of a run inherit one variable in their environment, also Redis servers and browsers, which are
detached from their parent. SIGTERM ends a run at once, so fixtures cannot stop these processes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from types import FrameType

MARK = "TEST_RUN_MARK"
"""Environment variable with the process id of the run and the time of its start."""


def begin() -> None:
    """Marks this process as a run, unless the process is a worker of a run."""
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
    if not os.environ[MARK].startswith(f"{os.getpid()}-"):  # a fork of the run, which ends alone
        os._exit(128 + number)
    while pids := processes(os.environ[MARK]):  # again, because a process may start another at this moment
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    os._exit(128 + number)
