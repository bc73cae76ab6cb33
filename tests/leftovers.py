"""Ends every process of a test run when the run itself is ended by SIGTERM, and removes the run's data.

All processes of a run inherit one environment variable, also Redis servers and browsers, which are detached
from their parent. After SIGTERM no fixture runs, so this file kills the processes that have the variable.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from types import FrameType

MARK = "TEST_RUN_MARK"
"""Environment variable with the process id of the run and its start in ns: `4711-1790000000000000000`."""


def begin(place: str | None = None) -> None:
    """Sets the mark and handles SIGTERM. Does nothing in a worker of a run, which has inherited the mark.

    place: directory in which the run gets a directory for its temporary files, None for the system's own.
    """
    if MARK in os.environ:
        return
    os.environ[MARK] = f"{os.getpid()}-{time.time_ns()}"
    signal.signal(signal.SIGTERM, _end_run)
    if place is not None:
        tempfile.tempdir = os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="px-run-", dir=place)
        os.chmod(tempfile.tempdir, 0o711)  # Postfix, of another user, finds its own directory there
        atexit.register(_remove_data)


def _is_first_process() -> bool:
    """Returns whether this process began the run. A child that it forked did not."""
    return os.environ[MARK].startswith(f"{os.getpid()}-")


def _remove_data() -> None:
    directory = Path(os.environ.get("TMPDIR", ""))
    if directory.name.startswith("px-run-") and _is_first_process():
        shutil.rmtree(directory, ignore_errors=True)


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
    if not _is_first_process():
        os._exit(128 + number)
    while pids := processes(os.environ[MARK]):  # repeated, because a process may just have started another
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    _remove_data()
    os._exit(128 + number)
