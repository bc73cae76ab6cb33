"""Restarts child processes that end or hang, for `up`, `serve` and `work`.

Each child is connected to its parent by a socket, its lifeline. The parent's end closes when the parent ends,
even if the parent is killed, and then the child ends too. The child sends heartbeats through it; see
`pixel_server.lifeline`. A child whose heartbeats stop is killed at once, by SIGKILL: its main thread or event
loop is stuck, so it would not act on SIGTERM. No hit that it has answered is lost, as whenever it is killed.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Protocol

from pixel_server import lifeline
from pixel_server.logs import Log, describe

log = Log(__name__)

MIN_RETRY_SECONDS, MAX_RETRY_SECONDS = 0.3, 5.0
"""Seconds before a failed child is restarted: at first, and at most. Each further failure doubles them."""
STEADY_SECONDS = 10.0
"""Seconds that a child must run before its next failure counts as the first."""
STOP_TIMEOUT_SECONDS = 15.0
"""Maximum seconds that a child may take to end after it was asked to end."""
TICK_SECONDS = 0.1
"""Seconds between two calls of `Keeper.check`."""
MAX_TICK_SECONDS = 1.0
"""Seconds that count at most between two calls of `Keeper.check`. If more have passed, the machine slept, or
this process was stopped or got no processor. Its children then could not run either."""
MAX_START_SECONDS = 120.0
"""Seconds that a child may take until its first heartbeat: on a busy machine it loads its modules slowly."""


class Service(Protocol):
    """A process or a group of processes that a Keeper keeps running."""

    name: str

    def start(self) -> None: ...

    def how_ended(self) -> str | None:
        """Returns how the service ended (`"was killed by signal 9"`), or None while it runs."""
        ...

    def kill_if_hung(self, passed_seconds: float, hang_seconds: float) -> None:
        """Kills the service if it has sent no heartbeat for more than `hang_seconds`.

        passed_seconds: seconds since the last call.
        """
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
        self._lifeline: socket.socket | None = None
        self._has_beaten = False
        self._silent_seconds = 0.0

    def start(self) -> None:
        self._close_lifeline()
        self._has_beaten, self._silent_seconds = False, 0.0
        self._lifeline, childs_end = socket.socketpair()
        self._lifeline.setblocking(False)
        with childs_end:
            handle = childs_end.fileno()
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                self._arguments,
                env={**self._environ, lifeline.VARIABLE: str(handle)},
                pass_fds=(handle, *self._handles),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def how_ended(self) -> str | None:
        assert self._process is not None
        code = self._process.poll()
        return None if code is None else describe_exit(code)

    def kill_if_hung(self, passed_seconds: float, hang_seconds: float) -> None:
        assert self._process is not None
        if self._read_heartbeats():
            self._has_beaten, self._silent_seconds = True, 0.0
            return
        self._silent_seconds += passed_seconds
        limit = hang_seconds if self._has_beaten else max(hang_seconds, MAX_START_SECONDS)
        if self._silent_seconds > limit:
            log.error(
                "child-hangs",
                "%(child)s hangs: it has sent no heartbeat for %(seconds).0f s, so it is killed",
                child=self.name,
                seconds=self._silent_seconds,
            )
            self._silent_seconds = 0.0
            self._process.kill()

    def _read_heartbeats(self) -> bool:
        """Returns whether the child has sent a heartbeat since the last call."""
        assert self._lifeline is not None
        try:
            return bool(self._lifeline.recv(4096))
        except OSError:  # no heartbeat waits
            return False

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait(self, timeout_seconds: float) -> None:
        if self._process is not None:
            try:
                self._process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                log.warning(
                    "child-killed",
                    "%(child)s did not stop within %(seconds).0f s and is killed",
                    child=self.name,
                    seconds=timeout_seconds,
                )
                self._process.kill()
                self._process.wait()
        self._close_lifeline()

    def _close_lifeline(self) -> None:
        if self._lifeline is not None:
            self._lifeline.close()
            self._lifeline = None


def describe_exit(code: int) -> str:
    """Returns an exit code in words: -9 is `was killed by signal 9`."""
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


class Keeper:
    """Starts services, and restarts a service that has ended, after a pause that grows with each failure.

    Kills a service that hangs, so that it is restarted too.
    """

    def __init__(self, services: Sequence[Service], hang_seconds: float, last: Service | None = None) -> None:
        """hang_seconds: seconds without a heartbeat after which a service is killed, 0 for never.

        last: another service, which the others need: it is stopped after them.
        """
        self.services = [*services, *([last] if last else [])]
        self._last = last
        self._hang_seconds = hang_seconds
        self._checked_at = 0.0
        self._started_at = dict.fromkeys(range(len(self.services)), 0.0)
        self._retry_seconds = dict.fromkeys(range(len(self.services)), MIN_RETRY_SECONDS)
        self._restart_at: dict[int, float] = {}

    def start(self) -> None:
        for i, service in enumerate(self.services):
            service.start()
            self._started_at[i] = time.monotonic()
        self._checked_at = time.monotonic()

    def check(self) -> None:
        """Restarts the services that have ended and waited long enough, and kills those that hang.

        Call this every TICK_SECONDS.
        """
        now = time.monotonic()
        passed_seconds = min(now - self._checked_at, MAX_TICK_SECONDS)
        self._checked_at = now
        for i, service in enumerate(self.services):
            if i in self._restart_at:
                if now >= self._restart_at[i]:
                    self._restart(i, now)
            elif (how := service.how_ended()) is not None:
                if now - self._started_at[i] > STEADY_SECONDS:
                    self._retry_seconds[i] = MIN_RETRY_SECONDS
                self._schedule_restart(i, now, how)
            elif self._hang_seconds:
                service.kill_if_hung(passed_seconds, self._hang_seconds)

    def _restart(self, i: int, now: float) -> None:
        """Starts a service, or schedules another try if the machine lacks memory or processes."""
        try:
            self.services[i].start()
        except OSError as error:
            self._schedule_restart(i, now, f"cannot be started: {describe(error)}")
        else:
            del self._restart_at[i]
            self._started_at[i] = now

    def _schedule_restart(self, i: int, now: float, how: str) -> None:
        log.error(
            "child-restarts",
            "%(child)s %(how)s; restarting it in %(seconds).1f s",
            child=self.services[i].name,
            how=how,
            seconds=self._retry_seconds[i],
        )
        self._restart_at[i] = now + self._retry_seconds[i]
        self._retry_seconds[i] = min(self._retry_seconds[i] * 2, MAX_RETRY_SECONDS)

    def stop(self) -> None:
        """Stops the services, all at once, and then the one that the others need."""
        running = [service for i, service in enumerate(self.services) if i not in self._restart_at]
        for is_last in (False, True):
            group = [service for service in running if (service is self._last) == is_last]
            for service in group:
                service.stop()
            for service in group:
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


def keep_running(
    services: Sequence[Service], hang_seconds: float, each_second: Callable[[], None] = lambda: None
) -> None:
    """Keeps services running, and calls `each_second`, until this process is told to stop.

    hang_seconds: see `Keeper`. Sends heartbeats to this process's own parent, if it has one.
    """
    stop = Stop()
    keeper = Keeper(services, hang_seconds)
    keeper.start()
    next_call = time.monotonic()
    while not stop.is_requested:
        lifeline.beat()
        keeper.check()
        if time.monotonic() >= next_call:
            next_call = time.monotonic() + 1.0
            each_second()
        time.sleep(TICK_SECONDS)
    keeper.stop()
