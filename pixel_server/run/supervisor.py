"""Restarts child processes that end, for `up`, `serve --processes` and `work --processes`.

Each child holds the reading end of a pipe, its lifeline; only the parent holds the writing end. The pipe
closes when the parent ends, even if the parent is killed, and then the child ends too.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Protocol

log = logging.getLogger("pixel_server.run.supervisor")

MIN_RETRY_SECONDS, MAX_RETRY_SECONDS = 0.3, 5.0
"""Seconds before a failed child is restarted: at first, and at most. Each further failure doubles them."""
STEADY_SECONDS = 10.0
"""Seconds that a child must run before its next failure counts as the first."""
STOP_TIMEOUT_SECONDS = 15.0
"""Maximum seconds that a child may take to end after it was asked to end."""
TICK_SECONDS = 0.1
"""Seconds between two calls of `Keeper.restart_ended`."""
LIFELINE = "PIXEL_LIFELINE"
"""Environment variable with the file descriptor of a child's lifeline."""
LIFELINE_TIMEOUT_SECONDS = 8.0
"""Maximum seconds that a child may take to end after its parent has ended. A worker may need that long."""


class Service(Protocol):
    """A process or a group of processes that a Keeper keeps running."""

    name: str

    def start(self) -> None: ...

    def how_ended(self) -> str | None:
        """Returns how the service ended (`"was killed by signal 9"`), or None while it runs."""
        ...

    def stop(self) -> None:
        """Asks the service to end."""
        ...

    def wait(self, timeout_seconds: float) -> None:
        """Waits until the service has ended. May kill it after the timeout."""
        ...


class Child:
    """A process of this program, in a session of its own, so that Ctrl-C reaches the parent alone."""

    def __init__(
        self, name: str, arguments: Sequence[str], environ: Mapping[str, str], handles: Sequence[int] = ()
    ) -> None:
        """handles: file descriptors that the child inherits."""
        self.name = name
        self._arguments = [sys.executable, "-m", "pixel_server", *arguments]
        self._environ = environ
        self._handles = handles
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: int | None = None

    def start(self) -> None:
        self._close_lifeline()
        childs_end, self._lifeline = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                self._arguments,
                env={**self._environ, LIFELINE: str(childs_end)},
                pass_fds=(childs_end, *self._handles),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(childs_end)

    def how_ended(self) -> str | None:
        assert self._process is not None
        code = self._process.poll()
        return None if code is None else describe_exit(code)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait(self, timeout_seconds: float) -> None:
        if self._process is not None:
            try:
                self._process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                log.warning("%s did not stop within %.0f s and is killed", self.name, timeout_seconds)
                self._process.kill()
                self._process.wait()
        self._close_lifeline()

    def _close_lifeline(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None


def describe_exit(code: int) -> str:
    """Returns an exit code in words: -9 is `was killed by signal 9`."""
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def end_with_parent() -> bool:
    """Ends this process when its parent ends. Does nothing if this process is not a `Child`.

    Returns whether this process is a `Child`.
    """
    handle = os.environ.pop(LIFELINE, "")
    if handle.isdigit():
        threading.Thread(
            target=_wait_for_parent_and_end, args=(int(handle),), daemon=True, name="lifeline"
        ).start()
    return handle.isdigit()


def _wait_for_parent_and_end(handle: int) -> None:
    os.read(handle, 1)  # nobody writes to the pipe: this returns when the parent's end is closed
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LIFELINE_TIMEOUT_SECONDS)
    os._exit(1)


class Keeper:
    """Starts services, and restarts a service that has ended, after a pause that grows with each failure."""

    def __init__(self, services: Sequence[Service]) -> None:
        self.services = services
        self._started_at = dict.fromkeys(range(len(services)), 0.0)
        self._retry_seconds = dict.fromkeys(range(len(services)), MIN_RETRY_SECONDS)
        self._restart_at: dict[int, float] = {}

    def start(self) -> None:
        for i, service in enumerate(self.services):
            service.start()
            self._started_at[i] = time.monotonic()

    def restart_ended(self) -> None:
        """Restarts the services that have ended and waited long enough. Call this every TICK_SECONDS."""
        now = time.monotonic()
        for i, service in enumerate(self.services):
            if i in self._restart_at:
                if now >= self._restart_at[i]:
                    self._restart(i, now)
            elif (how := service.how_ended()) is not None:
                if now - self._started_at[i] > STEADY_SECONDS:
                    self._retry_seconds[i] = MIN_RETRY_SECONDS
                self._schedule_restart(i, now, how)

    def _restart(self, i: int, now: float) -> None:
        """Starts a service, or schedules another try if the machine lacks memory or processes."""
        try:
            self.services[i].start()
        except OSError as error:
            self._schedule_restart(i, now, f"cannot be started: {error}")
        else:
            del self._restart_at[i]
            self._started_at[i] = now

    def _schedule_restart(self, i: int, now: float, how: str) -> None:
        log.error("%s %s; restarting it in %.1f s", self.services[i].name, how, self._retry_seconds[i])
        self._restart_at[i] = now + self._retry_seconds[i]
        self._retry_seconds[i] = min(self._retry_seconds[i] * 2, MAX_RETRY_SECONDS)

    def stop(self) -> None:
        """Stops the services in the order in which they were given, each after the one before has ended."""
        for i, service in enumerate(self.services):
            if i not in self._restart_at:
                service.stop()
                service.wait(STOP_TIMEOUT_SECONDS)


class Stop:
    """Notes that this process was told to stop: by Ctrl-C, SIGTERM or SIGHUP, which a closed terminal sends.

    If SIGHUP is ignored at the start, as under `nohup`, it stays ignored.
    """

    def __init__(self) -> None:
        self.is_requested = False
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        for number in numbers:
            signal.signal(number, self._request)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.is_requested = True


def keep_running(services: Sequence[Service], each_second: Callable[[], None] = lambda: None) -> None:
    """Keeps services running, and calls `each_second`, until this process is told to stop."""
    stop = Stop()
    keeper = Keeper(services)
    keeper.start()
    next_call = time.monotonic()
    while not stop.is_requested:
        keeper.restart_ended()
        if time.monotonic() >= next_call:
            next_call = time.monotonic() + 1.0
            each_second()
        time.sleep(TICK_SECONDS)
    keeper.stop()
