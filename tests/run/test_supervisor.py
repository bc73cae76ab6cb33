"""Child processes that are restarted when they end."""

from __future__ import annotations

import os
import sys

import pytest

from pixel_server.run import supervisor
from pixel_server.run.supervisor import MAX_START_SECONDS, MAX_TICK_SECONDS, MIN_RETRY_SECONDS, Child, Keeper
from tests.stack import until


class Fragile:
    """A service that cannot be restarted before the third try."""

    name = "child"

    def __init__(self) -> None:
        self.tries = 0
        self.runs = True
        self.passed: list[float] = []

    def start(self) -> None:
        self.tries += 1
        if 1 < self.tries < 4:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        self.runs = True

    def how_ended(self) -> str | None:
        return None if self.runs else "was killed by signal 9"

    def kill_if_hung(self, passed_seconds: float, hang_seconds: float) -> None:
        self.passed.append(passed_seconds)

    def stop(self) -> None: ...

    def wait(self, timeout_seconds: float) -> None: ...


def test_keeper_start_fails_is_retried_until_it_works(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    now = 1000.0
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: now)
    child = Fragile()
    keeper = Keeper([child], 30)
    keeper.start()
    child.runs = False
    for _ in range(40):
        now += MIN_RETRY_SECONDS
        keeper.check()
    assert (child.tries, child.runs) == (4, True)
    messages = [record.getMessage() for record in caplog.records]
    assert "child was killed by signal 9; restarting it in 0.3 s" in messages
    assert sum("cannot be started: [Errno 11]" in line for line in messages) == 2


def test_keeper_that_could_not_run_itself_counts_one_second(monkeypatch: pytest.MonkeyPatch):
    """The machine slept, or this process was stopped: its children are not taken for hung."""
    now = 1000.0
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: now)
    child = Fragile()
    keeper = Keeper([child], 30)
    keeper.start()
    for passed in (0.25, 3600.0, 0.25):
        now += passed
        keeper.check()
    assert child.passed == [0.25, MAX_TICK_SECONDS, 0.25]
    Keeper([child], 0).check()
    assert len(child.passed) == 3, "0 turns this off"


class Noting(Fragile):
    """A service that notes when it is told to stop, and when it is awaited."""

    def __init__(self, name: str, notes: list[str]) -> None:
        super().__init__()
        self.name, self._notes = name, notes

    def stop(self) -> None:
        self._notes.append(f"stop {self.name}")

    def wait(self, timeout_seconds: float) -> None:
        self._notes.append(f"wait {self.name}")


def test_keeper_stop_is_told_to_all_at_once_and_last_to_what_they_need():
    notes: list[str] = []
    web, workers, valkey = (Noting(name, notes) for name in ("web", "workers", "valkey"))
    keeper = Keeper([web, workers], 30, last=valkey)
    keeper.start()
    keeper.stop()
    assert notes == ["stop web", "stop workers", "wait web", "wait workers", "stop valkey", "wait valkey"]


BEATS_ONCE = """
import time
from pixel_server import lifeline

lifeline.hold()
lifeline.beat()
time.sleep(600)
"""


def test_child_silent_after_its_first_heartbeat_is_killed(caplog: pytest.LogCaptureFixture):
    child = Child("web", [], os.environ)
    child._arguments = [sys.executable, "-c", "import time; time.sleep(600)"]
    child.start()
    child.kill_if_hung(MAX_START_SECONDS, 30)
    assert child.how_ended() is None, "it may take long to start"
    child.kill_if_hung(1, 30)
    until(child.how_ended)
    child._arguments[2] = BEATS_ONCE
    child.start()
    until(lambda: child.kill_if_hung(0, 30) or child._has_beaten)
    child.kill_if_hung(30, 30)
    assert child.how_ended() is None
    child.kill_if_hung(1, 30)
    assert until(child.how_ended) == "was killed by signal 9"
    child.wait(1)
    assert [record.getMessage() for record in caplog.records] == [
        "web hangs: it has sent no heartbeat for 121 s, so it is killed",
        "web hangs: it has sent no heartbeat for 31 s, so it is killed",
    ]


def test_child_start_fails_closes_its_descriptors(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise BlockingIOError

    monkeypatch.setattr(supervisor.subprocess, "Popen", fail)
    child = Child("child", [], {})
    before = len(os.listdir("/dev/fd"))
    for _ in range(5):
        with pytest.raises(BlockingIOError):
            child.start()
    child._close_lifeline()
    assert len(os.listdir("/dev/fd")) == before
