"""The status of a spool's directory, for health checks and the CLI. Takes no locks and writes nothing."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from pixel_server.collect.spool.aside import count_files
from pixel_server.collect.spool.format import HEAD, begun_ms, survey
from pixel_server.collect.spool.segments import list_segments

MIN_FREE_BYTES = 64 << 20
"""Free bytes of a disk below which the disk is reported as nearly full."""


NEWER_TEXT = (
    "were written by a newer version of this server: their hits wait until you start that version here"
)
"""Text for the operator on the segments that `SpoolStatus.newer` counts."""


class SpoolStatus(NamedTuple):
    """Numbers of waiting segments, of their hits, and of their bytes.

    hits: without the hits that follow a damaged record, or a record of a newer format, in their segment.
    oldest_ms: ms at which the oldest segment was begun, None if no segment waits. aside: number of files that
    are set aside. newer: number of segments with records of a newer format.
    """

    segments: int
    hits: int
    bytes: int
    oldest_ms: int | None
    aside: int
    newer: int = 0


class SpoolSize(NamedTuple):
    """Numbers of waiting segments and of their bytes. oldest_ms: as in `SpoolStatus`."""

    segments: int
    bytes: int
    oldest_ms: int | None


def read_size(directory: Path) -> SpoolSize:
    """Returns the size of a spool without reading its hits. Raises OSError."""
    sizes = []
    for segment in list_segments(directory):
        with contextlib.suppress(FileNotFoundError):
            sizes.append((directory / segment.name).stat().st_size)
    waiting = [size for size in sizes if size]  # an open spool has an empty segment ready
    return SpoolSize(len(waiting), sum(waiting), waiting_since_ms(directory) if waiting else None)


def read_status(directory: Path) -> SpoolStatus:
    """Returns the status of a spool's directory, which others may use at the same time. Raises OSError."""
    segments = hits = size = newer = 0
    oldest_ms = None
    for segment in list_segments(directory):
        with contextlib.suppress(FileNotFoundError), open(directory / segment.name, "rb") as file:
            length = os.fstat(file.fileno()).st_size
            if not length:  # an open spool has an empty segment ready
                continue
            begun, segment_hits, is_newer = survey(file, segment, length)
            segments += 1
            hits += segment_hits
            newer += is_newer
            size += os.fstat(file.fileno()).st_size
            oldest_ms = begun if oldest_ms is None else min(oldest_ms, begun)
    return SpoolStatus(segments, hits, size, oldest_ms, count_files(directory), newer)


def find_trouble(directory: Path) -> str:
    """Returns why the spool could not accept many hits if Redis went away now, "" if it could.

    Writes nothing. Without this check a full or read-only disk would be noticed only when Redis is away.
    """
    try:
        ancestor = next(path for path in (directory, *directory.resolve().parents) if path.exists())
        if not ancestor.is_dir() or not os.access(ancestor, os.R_OK | os.W_OK | os.X_OK):
            return f"{ancestor} cannot be written"
        disk = os.statvfs(ancestor)
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    free_bytes = disk.f_bavail * disk.f_frsize
    return f"the disk of {ancestor} has {free_bytes >> 20} MB left" if free_bytes < MIN_FREE_BYTES else ""


def waiting_since_ms(directory: Path) -> int | None:
    """Returns the ms at which the oldest segment was begun, None if the spool is empty. Raises OSError.

    Reads only the names of the files and one head.
    """
    for segment in list_segments(directory):
        with contextlib.suppress(FileNotFoundError), open(directory / segment.name, "rb") as file:
            if head := file.read(HEAD.size):
                return begun_ms(head, segment)
    return None
