"""The withdrawals in the data directory, so that a web process that starts without Redis knows of them.

`withdrawals.log` holds one line for each mark and value of `px:{all}:withdrawn`, and then one more for each
change; of several lines of a mark the last one holds. No line names a recipient: the mark is a keyed hash.

    PXWITHDRAWN 1
    3f0c9a71b2d4e586 1 1790000000000-

One web process of a data directory writes it: the one that holds `withdrawals.lock`. It writes the file anew
when it takes the lock, and when the changes have outgrown the rest. A line that was cut off is not read.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from pixel_server.store.store_mark import sync_directory

log = logging.getLogger("pixel_server.recipients.withdrawals_file")

FILE = "withdrawals.log"
HEAD = b"PXWITHDRAWN 1\n"
AGAIN = 60.0
"""Seconds until the file is tried again after it could not be written."""
_LEAST = 1 << 20
"""Bytes of changes below which the file is not written anew."""
_line = re.compile(rb"([0-9a-f]{16}) ([!-~ ]{1,4096})\n").fullmatch


def read(data: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yields (mark, value) in the order of the file's lines; nothing if there is no file that can be read."""
    try:
        with open(data / FILE, "rb") as file:
            if file.readline() != HEAD:
                log.error("%s is of a newer version or damaged, and is not read", data / FILE)
                return
            for line in file:
                if found := _line(line):
                    yield bytes.fromhex(found[1].decode()), found[2]
    except FileNotFoundError:
        return
    except OSError as error:
        log.error("cannot read %s, so who withdrew is not known until Redis answers: %s", data / FILE, error)


class WithdrawalsFile:
    """Writes the file. Its methods may block, and raise no OSError: a failure is logged."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._lock = -1
        self._draft: Path | None = None
        self._whole = self._appended = 0
        self._failed_at: float | None = None

    @property
    def leads(self) -> bool:
        """Whether this process writes the file."""
        return self._lock >= 0

    @property
    def is_due(self) -> bool:
        """Whether the file should be written anew."""
        return self.leads and self._appended > max(self._whole, _LEAST)

    def lead(self) -> bool:
        """Takes the lock if it is free; returns whether this process has just become the writer."""
        if self.leads or (self._failed_at is not None and time.monotonic() < self._failed_at + AGAIN):
            return False
        try:
            self._data.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._data / "withdrawals.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            self._fail(error)
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def begin(self) -> None:
        """Begins a new whole file."""
        self._draft = self._data / f".{FILE}"
        self._write(self._draft, HEAD, os.O_TRUNC)

    def add(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Adds to the new file."""
        if self._draft is not None:
            self._write(self._draft, _lines(items))

    def finish(self) -> None:
        """Puts the new file in the place of the old one, synced."""
        if self._draft is None:
            return
        try:
            handle = os.open(self._draft, os.O_RDWR)
            try:
                os.fsync(handle)
                self._whole, self._appended = os.fstat(handle).st_size, 0
            finally:
                os.close(handle)
            self._draft.replace(self._data / FILE)
            sync_directory(self._data)
            self._failed_at = None
        except OSError as error:
            self._fail(error)
        self._draft = None

    def append(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Adds changes to the file, synced."""
        if self.leads and (lines := _lines(items)):
            self._write(self._data / FILE, lines, sync=True)
            self._appended += len(lines)

    def close(self) -> None:
        """Lets another process write the file."""
        if self.leads:
            os.close(self._lock)
            self._lock = -1

    def _write(self, path: Path, content: bytes, flags: int = 0, sync: bool = False) -> None:
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | flags, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        if self._failed_at is None:
            log.warning(
                "cannot write %s, so a start without Redis would not know who withdrew: %s",
                self._data / FILE,
                error,
            )
        self._failed_at = time.monotonic()
        self._draft = None
        with contextlib.suppress(OSError):
            self.close()  # whoever takes the lock next writes all of it


def _lines(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    lines = (b"%b %b\n" % (mark.hex().encode(), value) for mark, value in items)
    return b"".join(line for line in lines if _line(line))
