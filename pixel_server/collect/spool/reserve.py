"""File descriptors in reserve, so that the spool still works when connections have used up all others."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import TypeVar

SIZE = 4
"""Descriptors in reserve."""

_NO_DESCRIPTOR_ERRORS = (errno.EMFILE, errno.ENFILE)
T = TypeVar("T")


class DescriptorReserve:
    """Descriptors that are closed when work needs a free descriptor.

    source: returns the descriptor that is duplicated to fill the reserve, or -1 if it is not to be filled.
    """

    def __init__(self, source: Callable[[], int]) -> None:
        self._source = source
        self.files: list[int] = []

    def run(self, work: Callable[[], T]) -> T:
        """Returns what `work` returns.

        If it finds no free descriptor, closes one in reserve and repeats it.
        """
        while True:
            try:
                result = work()
            except OSError as error:
                if error.errno not in _NO_DESCRIPTOR_ERRORS or not self.files:
                    raise
                os.close(self.files.pop())
            else:
                self.fill()
                return result

    def fill(self) -> None:
        """Fills the reserve, as far as descriptors are free."""
        with contextlib.suppress(OSError):
            while len(self.files) < SIZE and (source := self._source()) >= 0:
                self.files.append(os.dup(source))

    def close(self) -> None:
        for file in self.files:
            os.close(file)
        self.files = []
