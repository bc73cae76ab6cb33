"""File descriptors in reserve, for files and connections that hits need, when all others are used up.

The bound on clients keeps descriptors free (`run.listen`). But the event loop accepts all waiting connections
before it closes those beyond the bound. So for a moment there may be no free descriptor.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

SIZE = 8
"""Number of descriptors in reserve. Storing a loss takes three at once."""

T = TypeVar("T")


class DescriptorReserve:
    """Open descriptors. When a function finds no free descriptor, one in reserve is closed.

    The function is then called again, so a call that failed half-way must do no harm. Any thread may use the
    reserve.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._is_open = False
        self.descriptors: list[int] = []

    def open(self) -> None:
        """Fills the reserve. From now on it is filled again after use."""
        self._is_open = True
        self.fill()

    def run(self, work: Callable[[], T]) -> T:
        """Calls `work` and returns its result.

        If `work` finds no free descriptor, closes a descriptor in reserve and calls `work` again.
        """
        while True:
            try:
                result = work()
            except OSError as error:
                if not self._release_one(error):
                    raise
            else:
                self.fill()
                return result

    async def run_async(self, work: Callable[[], Awaitable[T]]) -> T:
        """Awaits `work` and returns its result, as `run` does."""
        while True:
            try:
                result = await work()
            except OSError as error:
                if not self._release_one(error):
                    raise
            else:
                self.fill()
                return result

    def fill(self) -> None:
        """Fills the reserve, as far as descriptors are free. Does nothing before `open`."""
        with self._mutex, contextlib.suppress(OSError):
            while self._is_open and len(self.descriptors) < SIZE:
                self.descriptors.append(os.open(os.devnull, os.O_RDONLY))

    def close(self) -> None:
        with self._mutex:
            self._is_open = False
            for descriptor in self.descriptors:
                os.close(descriptor)
            self.descriptors = []

    def _release_one(self, error: OSError) -> bool:
        """Closes a descriptor. Returns False if `error` has another cause, or the reserve is empty."""
        with self._mutex:
            if not self.descriptors or not _lacks_descriptor(error):
                return False
            os.close(self.descriptors.pop())
            return True


def _lacks_descriptor(error: OSError) -> bool:
    """Returns whether an error comes from a lack of descriptors.

    If asyncio cannot connect to any address of a host, it joins the errors into one error without errno.
    """
    numbers = (errno.EMFILE, errno.ENFILE)
    return error.errno in numbers or any(os.strerror(number) in str(error) for number in numbers)
