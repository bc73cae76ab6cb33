"""The files of a spool at one instant, while web processes use the spool.

Opens the files: an open file keeps its content, also if its name is removed. A sealed segment never changes,
and a growing segment grows at its end. So an open file and a length are the state of an instant.
"""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path
from typing import IO

from pixel_server.collect.spool.segments import list_segments


class SpoolFiles:
    """The open files of a spool. directory: of the spool, which may be missing."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, IO[bytes]] = {}
        self._newest: dict[str, int] = {}
        """Number of the newest opened segment, by writer."""
        self._sizes: dict[str, int] = {}
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def open(self) -> bool:
        """Opens the files that are not open yet, and notes the length of all.

        Returns False if a segment was made and removed since the last call, so that its hits are in no open
        file.
        """
        before = dict(self._newest)
        self._note_newest()  # before the files are opened, so that no listed segment is missed
        for path in sorted([*self._directory.glob("*"), *self._directory.glob("aside/*")]):
            name = str(path.relative_to(self._directory))
            is_content = path.suffix not in (".lock", ".part") and not path.name.startswith(".")
            if is_content and name not in self._files:
                with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                    self._files[name] = open(path, "rb")  # noqa: SIM115 - `close` closes it
        self._sizes = {name: os.fstat(file.fileno()).st_size for name, file in self._files.items()}
        return all(
            f"{writer}-{number:08d}.seg" in self._files
            for writer, newest in self._newest.items()
            for number in range(before.get(writer, newest) + 1, newest + 1)
        )

    def _note_newest(self) -> None:
        for segment in list_segments(self._directory):
            self._newest[segment.writer] = max(self._newest.get(segment.writer, 0), segment.number)

    def items(self) -> list[tuple[str, IO[bytes], int]]:
        """Returns name, open file and length of each file that is not empty."""
        return [(name, file, self._sizes[name]) for name, file in self._files.items() if self._sizes[name]]

    def segments(self) -> int:
        """Returns the number of segments that have content."""
        return sum(name.endswith(".seg") for name, _, _ in self.items())

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()
