"""SIGTERM at a test run ends all processes of the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests import leftovers
from tests.stack import until

RUN = """
import subprocess, sys, time
from tests import leftovers
leftovers.begin(sys.argv[1])
subprocess.Popen(["sleep", "1000"], start_new_session=True)
print("started", flush=True)
time.sleep(1000)
"""


def test_leftovers_sigterm_ends_detached_processes_too_and_removes_data(tmp_path: Path):
    environ = {name: value for name, value in os.environ.items() if name != leftovers.MARK}
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path)], env=environ, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "started\n"
    mark = until(lambda: _mark_of_child(run.pid))
    assert leftovers.processes(mark)
    assert [path.name[:7] for path in tmp_path.iterdir()] == ["px-run-"]
    run.send_signal(signal.SIGTERM)
    assert run.wait(60) == 128 + signal.SIGTERM
    run.stdout.close()
    assert leftovers.processes(mark) == []
    assert list(tmp_path.iterdir()) == []


def _mark_of_child(pid: int) -> str | None:
    """Returns the mark in the environment of a child of this process. Returns None before it has a child."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        children = file.read().split()
    for child in children:
        with open(f"/proc/{child}/environ") as file:
            for entry in file.read().split("\0"):
                if entry.startswith(f"{leftovers.MARK}="):
                    return entry.partition("=")[2]
    return None
