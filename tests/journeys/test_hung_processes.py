"""`pixel-server up` when its processes hang: stopped by SIGSTOP, or in an endless loop."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.up_steps import create_link, send_hits
from tests.stack import Stack, until

LOOPS_ON_SIGNAL = """
import signal, time

def loop(*_):
    while True:
        time.sleep(0.01)  # leaves the processor to other tests

signal.signal(signal.SIGUSR2, loop)
"""
"""A sitecustomize.py: its process loops in its main thread, or its event loop, after SIGUSR2."""
STOP, LOOP = signal.SIGSTOP, signal.SIGUSR2
PARTS = {
    "web": "serve --handle",
    "pages": "serve --beside",
    "workers": "pixel_server work",
    "worker 1": "work --one",
}
"""Words of the command line of each part, by the part's name in the log."""


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Stack]:
    """Returns a running stack that kills a process after 4 seconds without a heartbeat."""
    (tmp_path / "sitecustomize.py").write_text(LOOPS_ON_SIGNAL)
    stack = Stack(Path(tempfile.mkdtemp(prefix="px-")), PIXEL_HANG_SECONDS="4", PYTHONPATH=str(tmp_path))
    stack.start()
    yield stack
    stack.stop()
    shutil.rmtree(stack.data)
    stack.log.unlink(missing_ok=True)


def pids_of(stack: Stack, part: str) -> list[int]:
    """Returns the ids of the processes of a part. While a part is replaced, it may have none or two."""
    others = stack.pids(PARTS["worker 1"]) if part == "workers" else []
    return [pid for pid in stack.pids(PARTS[part]) if pid not in others]


def is_whole(stack: Stack, *replaced: int) -> bool:
    """Returns whether each part has one process, none of them one of the replaced, and pages are answered."""
    processes = [pids_of(stack, part) for part in PARTS]
    pids = {pid for of_part in processes for pid in of_part}
    if any(len(of_part) != 1 for of_part in processes) or pids & set(replaced):
        return False
    try:
        return stack.call("GET", "/api/campaigns")[0] == 200
    except OSError:  # the request met a process that was killed
        return False


def test_up_hung_process_is_killed_and_replaced(impatient: Stack):
    url = create_link(impatient)
    rounds = (
        {"web": LOOP, "worker 1": STOP},
        {"pages": LOOP, "worker 1": LOOP},
        {"pages": STOP, "workers": LOOP},
    )
    for number, hangs in enumerate(rounds, 1):
        until(lambda: is_whole(impatient), within=60)
        send_hits(impatient, url, 5)
        before = len(impatient.output())
        hung = {part: pids_of(impatient, part)[0] for part in hangs}
        for part, pid in hung.items():
            os.kill(pid, hangs[part])
        until(lambda hung=hung: is_whole(impatient, *hung.values()), within=60)
        for part in hangs:
            lines = impatient.output()[before:]
            assert f"{part} hangs: it has sent no heartbeat for 4 s, so it is killed" in lines
            assert f"{part} was killed by signal 9; restarting it in" in lines
        until(lambda number=number: impatient.totals("mail")["opens"] == 5 * number)
    assert "traceback=" not in impatient.output()
    assert impatient.stop() == 0
    assert impatient.pids("") == []
