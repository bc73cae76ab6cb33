"""The folder `aside`: damaged bytes, and batches that Redis refuses for good."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from pixel_server import files
from pixel_server.collect.spool.segments import make_directory
from pixel_server.logs import Log
from pixel_server.times import DAY

log = Log(__name__)


class Aside:
    """The files that were set aside in one spool's directory. Methods may raise OSError."""

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        self._directory = directory / "aside"
        self._clock = clock

    def keep(self, name: str, data: bytes) -> bool:
        """Stores a file, and waits until the file is on disk. Returns whether its name is new."""
        make_directory(self._directory)
        path = self.path(name)
        is_new = not path.exists()
        with files.open_whole(path, 0o600) as file:
            file.write(data)
            file.flush()
            os.utime(file.fileno(), (self._clock(),) * 2)
        return is_new

    def path(self, name: str) -> Path:
        return self._directory / name

    def has_damage(self, writer: str) -> bool:
        """Returns whether damaged bytes of this writer are still set aside."""
        return any(self._directory.glob(f"{writer}-*.bad"))

    def drop(self, days: int) -> int:
        """Deletes files that were set aside more than `days` days ago. Returns their number.

        The files may hold client addresses. A file is deleted only if it has this age both by this machine's
        clock and by that of Redis.
        """
        dropped, kept_since = 0, min(self._clock(), time.time()) - days * DAY
        for path in self._directory.glob("*") if self._directory.is_dir() else ():
            if path.stat().st_mtime < kept_since:
                path.unlink()
                dropped += 1
        if dropped:
            log.warning(
                "aside-deleted",
                "deleted %(files)d files that the spool had set aside %(days)d days ago or earlier",
                files=dropped,
                days=days,
            )
        return dropped


def count_files(directory: Path) -> int:
    """Returns the number of files that are set aside in a spool's directory."""
    return sum(
        not (path.name.startswith(".") or path.suffix == ".part") for path in directory.glob("aside/*")
    )
