"""The files of a spool's directory: their names, the locks of their writers, and writes to disk."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable
from pathlib import Path

from pixel_server import files
from pixel_server.collect.descriptor_reserve import DescriptorReserve
from pixel_server.collect.spool.format import Segment

_NAME = re.compile(r"([0-9a-f]{28})(?:-([0-9]{8,})\.seg|\.lock)")

sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync
"""Puts a file's bytes on the disk. Raises OSError."""


def list_segments(directory: Path) -> list[Segment]:
    """Returns the segments of a directory, oldest writer first; [] if there is no directory."""
    return sorted(Segment(match[1], int(match[2])) for match in _match_names(directory) if match[2])


def list_writers(directory: Path) -> set[str]:
    """Returns the writers that have a lock file or a segment in a directory."""
    return {match[1] for match in _match_names(directory)}


def write_at(file: int, data: bytes, offset: int) -> None:
    """Writes all of `data`, in several writes if need be. Raises OSError."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file, rest, offset)
        rest, offset = rest[written:], offset + written


def make_directory(path: Path) -> None:
    """Makes a directory, and puts its name on the disk. Raises OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.sync_directory(path.parent)


class WriterLocks:
    """The locks that this process holds. held: descriptors of the lock files, by writer."""

    def __init__(self, directory: Path, reserve: DescriptorReserve) -> None:
        self._directory = directory
        self._reserve = reserve
        self.held: dict[str, int] = {}

    def acquire(self, writer: str) -> bool:
        """Acquires the lock of a writer. Returns False if another process holds it. Raises OSError."""
        path = self._directory / f"{writer}.lock"
        lock = self._reserve.run(lambda: os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), os.stat(path)):
                self.held[writer] = lock
                return True
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
        return False

    def release(self, writer: str) -> None:
        """Releases the lock of a writer. Removes the lock file if the writer has no segments."""
        lock = self.held.pop(writer)
        segments = self._reserve.run(lambda: list(self._directory.glob(f"{writer}-*.seg")))
        if not segments:
            (self._directory / f"{writer}.lock").unlink(missing_ok=True)
        os.close(lock)

    def abandon(self, writer: str) -> None:
        """Releases the lock of a writer whose files were removed or moved."""
        os.close(self.held.pop(writer))


def _match_names(directory: Path) -> list[re.Match[str]]:
    """Returns the matches of the names of lock files and segments."""
    names = os.listdir(directory) if directory.exists() else []
    return [match for match in map(_NAME.fullmatch, names) if match]
