"""Writes files whole or not at all. A file has its name only once its content is on the disk."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def open_whole(path: Path, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Opens a draft. The draft replaces the file at `path` at the end of the `with` block.

    After a crash, or an exception in the block, the file is unchanged. mode: permissions before the umask.
    Raises OSError.
    """
    with _draft(path, mode) as (draft, file):
        yield file
        _sync(file)
        draft.replace(path)
        sync_directory(path.parent)


def write(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Writes a file whole or not at all. Raises OSError."""
    with open_whole(path, mode) as file:
        file.write(data)


def create(path: Path, data: bytes, mode: int = 0o666) -> bool:
    """Writes a file like `write`, but only if no file is at `path`.

    Returns whether the file was written. Raises OSError.
    """
    with _draft(path, mode) as (draft, file):
        file.write(data)
        _sync(file)
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        sync_directory(path.parent)
        return True


def sync_directory(path: Path) -> None:
    """Syncs a directory, so that the names of its files are on the disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _draft(path: Path, mode: int) -> Iterator[tuple[Path, IO[bytes]]]:
    """Opens a new file with a random name in the directory of `path`, and removes that name at the end."""
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            yield draft, file
    finally:
        draft.unlink(missing_ok=True)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
