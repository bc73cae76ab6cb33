"""The file of a backup: a tar archive, then one line with the format and the checksum of all bytes before it.

    pixel-server backup 1 sha256 9f86d081...\\n

The line comes last, so a file without it was cut. `tar tf FILE` lists the content. The first member is the
manifest.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, cast

FORMAT = 1
"""Format of the file and of its manifest."""
MANIFEST = "manifest.json"
STORE = "store.rdb"
"""Name of the snapshot of the store in the archive."""
_CHUNK = 1 << 20
_TAIL_BYTES = 128
"""Number of bytes at the end of a file that hold the whole last line."""
_match_line = re.compile(rb"pixel-server backup (\d{1,9}) sha256 ([0-9a-f]{64})\n\Z").search


class BackupError(ValueError):
    """The file cannot be used as a backup. The message is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The description of a backup, which the backup holds.

    version: of the server that made it. store_format: of the store. at: instant of the backup, as
    `2026-11-24T08:30:00Z`. has_store, has_secrets: whether these are in the file. recipient, signing:
    fingerprints of the secrets. counts: numbers by name, read just before the instant.
    """

    version: str
    store_format: int
    shards: int
    at: str
    has_store: bool
    has_secrets: bool
    recipient: str
    signing: list[str]
    counts: dict[str, int]


class Writer:
    """Writes an archive to a file that is open for writing. `finish` writes the last line."""

    def __init__(self, file: IO[bytes], manifest: Manifest) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._length = 0
        self._tar = tarfile.TarFile(fileobj=cast(IO[bytes], self), mode="w", format=tarfile.GNU_FORMAT)
        content = json.dumps({"format": FORMAT, **asdict(manifest)}, indent=1).encode() + b"\n"
        self.add(MANIFEST, io.BytesIO(content), len(content))

    def tell(self) -> int:
        """Returns the number of bytes of the archive so far. The tar archive calls this."""
        return self._length

    def write(self, data: bytes) -> int:
        """Writes bytes of the archive. The tar archive calls this."""
        self._sha256.update(data)
        self._length += len(data)
        return self._file.write(data)

    def add(self, name: str, file: IO[bytes], size: int) -> None:
        """Adds the first `size` bytes of a file."""
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, 0o600
        self._tar.addfile(member, file)

    def finish(self) -> None:
        """Ends the archive."""
        self._tar.close()
        self._file.write(b"pixel-server backup %d sha256 %b\n" % (FORMAT, self._sha256.hexdigest().encode()))


def check(path: Path) -> Manifest:
    """Reads a whole backup, and returns its manifest. Raises BackupError or OSError."""
    with open(path, "rb") as file:
        file.seek(0, io.SEEK_END)
        size = file.tell()
        file.seek(max(0, size - _TAIL_BYTES))
        line = _match_line(file.read())
        if line is None:
            raise BackupError(f"{path} is not a whole backup: it was cut, or is another file")
        if int(line[1]) > FORMAT:
            raise BackupError(_newer(path, f"format {int(line[1])}, this one reads {FORMAT}"))
        file.seek(0)
        sha256, left = hashlib.sha256(), size - len(line[0])
        while left and (chunk := file.read(min(_CHUNK, left))):
            sha256.update(chunk)
            left -= len(chunk)
    if sha256.hexdigest().encode() != line[2]:
        raise BackupError(f"{path} is damaged: its checksum is wrong")
    with members(path) as content:
        for name, member in content:
            if name == MANIFEST:
                return _manifest(path, member.read())
    raise BackupError(f"{path} has no manifest")


@contextmanager
def members(path: Path) -> Iterator[Iterator[tuple[str, IO[bytes]]]]:
    """Opens a checked backup. Yields the name and the content of each member, to be read in this order."""
    with tarfile.open(path, "r:") as tar:
        yield ((member.name, cast(IO[bytes], tar.extractfile(member))) for member in tar if member.isfile())


def _manifest(path: Path, content: bytes) -> Manifest:
    try:
        stored: dict[str, Any] = json.loads(content)
        if stored.pop("format") != FORMAT:
            raise BackupError(_newer(path, "format of the manifest"))
        return Manifest(**stored)
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, BackupError):
            raise
        raise BackupError(f"{path} has a manifest that cannot be read: {error}") from None


def _newer(path: Path, what: str) -> str:
    return f"{path} was made by a newer version ({what}): use that version"
