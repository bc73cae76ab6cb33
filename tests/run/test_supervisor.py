"""Child processes that are restarted when they end."""

from __future__ import annotations

import os

import pytest

from pixel_server.run import supervisor
from pixel_server.run.supervisor import MIN_RETRY_SECONDS, Child, Keeper


class Fragile:
    """A service that cannot be restarted before the third try."""

    name = "child"

    def __init__(self) -> None:
        self.tries = 0
        self.runs = True

    def start(self) -> None:
        self.tries += 1
        if 1 < self.tries < 4:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        self.runs = True

    def how_ended(self) -> str | None:
        return None if self.runs else "was killed by signal 9"

    def stop(self) -> None: ...

    def wait(self, timeout_seconds: float) -> None: ...


def test_keeper_start_fails_is_retried_until_it_works(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    now = 1000.0
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: now)
    child = Fragile()
    keeper = Keeper([child])
    keeper.start()
    child.runs = False
    for _ in range(40):
        now += MIN_RETRY_SECONDS
        keeper.restart_ended()
    assert (child.tries, child.runs) == (4, True)
    messages = [record.getMessage() for record in caplog.records]
    assert "child was killed by signal 9; restarting it in 0.3 s" in messages
    assert sum("cannot be started: [Errno 11]" in line for line in messages) == 2


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
