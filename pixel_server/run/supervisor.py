"""Child processes that are kept running: by `up`, `serve --processes` and `work --processes`."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Protocol

from pixel_server.run import lifeline

log = logging.getLogger("pixel_server.run.supervisor")

FIRST_PAUSE, LONGEST_PAUSE = 0.3, 5.0
STEADY = 10.0
"""Seconds after which a child that ran counts as well again: its next pause is the first one."""
PATIENCE = 15.0
"""Seconds a child has to stop when asked to."""
TICK = 0.1


class Kept(Protocol):
    """Something that runs and is to be kept running."""

    name: str

    def start(self) -> None: ...

    def ended(self) -> str | None:
        """How it ended, or None while it runs."""
        ...

    def stop(self) -> None:
        """Asks it to stop."""
        ...

    def wait(self, within: float) -> None:
        """Waits until it has ended; ends it by force after that."""
        ...


class Child:
    """A process of this program. In a session of its own, so that Ctrl-C reaches the parent alone."""

    def __init__(
        self, name: str, arguments: Sequence[str], environ: Mapping[str, str], handles: Sequence[int] = ()
    ) -> None:
        self.name = name
        self._arguments = [sys.executable, "-m", "pixel_server", *arguments]
        self._environ = environ
        self._handles = handles
        self._process: subprocess.Popen[bytes] | None = None
        self._line: int | None = None

    def start(self) -> None:
        self._drop_line()
        theirs, self._line = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                self._arguments,
                env={**self._environ, lifeline.ENV: str(theirs)},
                pass_fds=(theirs, *self._handles),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(theirs)

    def ended(self) -> str | None:
        assert self._process is not None
        code = self._process.poll()
        return None if code is None else describe(code)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait(self, within: float) -> None:
        if self._process is not None:
            try:
                self._process.wait(within)
            except subprocess.TimeoutExpired:
                log.warning("%s did not stop within %.0f s and is ended by force", self.name, within)
                self._process.kill()
                self._process.wait()
        self._drop_line()

    def _drop_line(self) -> None:
        if self._line is not None:
            os.close(self._line)
            self._line = None


def describe(code: int) -> str:
    """An exit code in words."""
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


class Keeper:
    """Starts its children, and starts each again when it dies: soon, then after longer pauses."""

    def __init__(self, children: Sequence[Kept]) -> None:
        self.children = children
        self._since = dict.fromkeys(range(len(children)), 0.0)
        self._pause = dict.fromkeys(range(len(children)), FIRST_PAUSE)
        self._again: dict[int, float] = {}

    def start(self) -> None:
        for i, child in enumerate(self.children):
            child.start()
            self._since[i] = time.monotonic()

    def look(self) -> None:
        """Once every TICK or so."""
        now = time.monotonic()
        for i, child in enumerate(self.children):
            if i in self._again:
                if now >= self._again[i]:
                    self._start_again(i, now)
            elif (how := child.ended()) is not None:
                if now - self._since[i] > STEADY:
                    self._pause[i] = FIRST_PAUSE
                self._later(i, now, how)

    def _start_again(self, i: int, now: float) -> None:
        """A machine without memory or processes to spare is no reason to end the others."""
        try:
            self.children[i].start()
        except OSError as error:
            self._later(i, now, f"cannot be started: {error}")
        else:
            del self._again[i]
            self._since[i] = now

    def _later(self, i: int, now: float, how: str) -> None:
        log.error("%s %s; starting it again in %.1f s", self.children[i].name, how, self._pause[i])
        self._again[i] = now + self._pause[i]
        self._pause[i] = min(self._pause[i] * 2, LONGEST_PAUSE)

    def stop(self) -> None:
        """In the order in which they were given, each ended before the next is asked to."""
        for i, child in enumerate(self.children):
            if i not in self._again:
                child.stop()
                child.wait(PATIENCE)


class Stop:
    """Set by Ctrl-C, SIGTERM, or SIGHUP, when the terminal is closed; `nohup` has that ignored."""

    def __init__(self) -> None:
        self.asked = False
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        for number in numbers:
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def keep(children: Sequence[Kept], each_second: Callable[[], None] = lambda: None) -> None:
    """Keeps children running until this process is told to stop."""
    stop = Stop()
    keeper = Keeper(children)
    keeper.start()
    due = time.monotonic()
    while not stop.asked:
        keeper.look()
        if time.monotonic() >= due:
            due = time.monotonic() + 1.0
            each_second()
        time.sleep(TICK)
    keeper.stop()
