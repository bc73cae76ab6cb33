"""The note in the data directory that says when the last backup was made, and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from pixel_server import files

FILE = "backup.json"
FORMAT = 1


class Record(NamedTuple):
    """The last backup. at: its instant, as `2026-11-24T08:30:00Z`. file: path of its file."""

    at: str
    file: str


def write_record(data: Path, record: Record) -> None:
    """Notes a backup. Raises OSError."""
    content = {"format": FORMAT, **record._asdict()}
    files.write(data / FILE, json.dumps(content).encode() + b"\n", 0o600)


def read_record(data: Path) -> Record | None:
    """Returns the last backup of a data directory, None if none is known."""
    try:
        content = json.loads((data / FILE).read_bytes())
        return Record(str(content["at"]), str(content["file"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
