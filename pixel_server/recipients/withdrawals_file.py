"""A file of the withdrawals in the data directory, for a web process that starts while Redis is away.

`withdrawals.log` holds a line for each mark and value of `px:{all}:withdrawn`, and then a line for each
change. If a mark has several lines, the last line is in force. No line names a recipient, because a mark is a
keyed hash.

    PXWITHDRAWN 1
    3f0c9a71b2d4e586 1 1790000000000-

Of the web processes of a data directory, only the process that holds `withdrawals.lock` writes the file. This
process rewrites the whole file when it takes the lock, and when the appended lines of changes take more bytes
than the rest of the file. Readers skip a line that was cut off.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from pixel_server import files
from pixel_server.logs import Log

log = Log(__name__)

FILE_NAME = "withdrawals.log"
HEAD = b"PXWITHDRAWN 1\n"
RETRY_SECONDS = 60.0
"""Seconds after a failed write until the next attempt."""
_MIN_CHANGES_BYTES = 1 << 20
"""Number of bytes of changes below which the file is not rewritten."""
_match_line = re.compile(rb"([0-9a-f]{16}) ([!-~ ]{1,4096})\n").fullmatch


def read_file(data: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yields (mark, value) of each line, in order. Yields nothing if the file cannot be read."""
    try:
        with open(data / FILE_NAME, "rb") as file:
            if file.readline() != HEAD:
                log.error(
                    "withdrawals-file-damaged",
                    "%(path)s is damaged or of a newer version, so withdrawals are not known until Redis "
                    "answers",
                    path=data / FILE_NAME,
                )
                return
            for line in file:
                if match := _match_line(line):
                    yield bytes.fromhex(match[1].decode()), match[2]
    except FileNotFoundError:
        return
    except OSError as error:
        log.error(
            "withdrawals-file-unreadable",
            "cannot read %(path)s, so withdrawals are not known until Redis answers: %(error)s",
            path=data / FILE_NAME,
            error=error,
        )


class WithdrawalsFile:
    """Writes the file. The methods may block. They log an OSError, and do not raise it."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._lock = -1
        self._draft: Path | None = None
        self._rewritten_bytes = self._appended_bytes = 0
        self._failed_at: float | None = None

    @property
    def is_writer(self) -> bool:
        """Returns whether this process writes the file."""
        return self._lock >= 0

    @property
    def is_rewrite_due(self) -> bool:
        """Returns whether the changes in the file take more bytes than its other lines."""
        return self.is_writer and self._appended_bytes > max(self._rewritten_bytes, _MIN_CHANGES_BYTES)

    def become_writer(self) -> bool:
        """Takes the lock if it is free. Returns whether this process has just become the writer."""
        if self.is_writer or (
            self._failed_at is not None and time.monotonic() < self._failed_at + RETRY_SECONDS
        ):
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
        """Begins a draft of the whole file."""
        self._draft = self._data / f".{FILE_NAME}"
        self._write(self._draft, HEAD, os.O_TRUNC)

    def add(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Adds a line to the draft for each (mark, value)."""
        if self._draft is not None:
            self._write(self._draft, _format_lines(items))

    def finish(self) -> None:
        """Syncs the draft to disk, and replaces the file with it."""
        if self._draft is None:
            return
        try:
            handle = os.open(self._draft, os.O_RDWR)
            try:
                os.fsync(handle)
                self._rewritten_bytes, self._appended_bytes = os.fstat(handle).st_size, 0
            finally:
                os.close(handle)
            self._draft.replace(self._data / FILE_NAME)
            files.sync_directory(self._data)
            self._failed_at = None
        except OSError as error:
            self._fail(error)
        self._draft = None

    def append(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Adds a line to the file for each changed (mark, value), and syncs the file to disk."""
        if self.is_writer and (lines := _format_lines(items)):
            self._write(self._data / FILE_NAME, lines, sync=True)
            self._appended_bytes += len(lines)

    def close(self) -> None:
        """Releases the lock, so that another process can write the file."""
        if self.is_writer:
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
                "withdrawals-file-not-written",
                "cannot write %(path)s, so a start without Redis would not know the withdrawals: %(error)s",
                path=self._data / FILE_NAME,
                error=error,
            )
        self._failed_at = time.monotonic()
        self._draft = None
        with contextlib.suppress(OSError):
            self.close()  # the next process that takes the lock writes the whole file


def _format_lines(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    lines = (b"%b %b\n" % (mark.hex().encode(), value) for mark, value in items)
    return b"".join(line for line in lines if _match_line(line))
