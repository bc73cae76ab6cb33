"""Files are written whole or not at all, and have their name once they are on the disk."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from pixel_server import files


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records the calls that sync a file or a directory, or give a file its name."""
    made: list[str] = []
    sync, rename, link = os.fsync, Path.replace, os.link

    def noted_sync(handle: int) -> None:
        made.append("sync of a directory" if os.path.isdir(f"/proc/self/fd/{handle}") else "sync of a file")
        sync(handle)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", lambda self, target: made.append("name") or rename(self, target))
    monkeypatch.setattr(os, "link", lambda *ends: made.append("name") or link(*ends))
    return made


@pytest.mark.parametrize("write", [files.write, files.create])
def test_write_and_create_sync_the_content_before_the_name(tmp_path: Path, calls: list[str], write):
    write(tmp_path / "a", b"text", 0o600)
    assert calls == ["sync of a file", "name", "sync of a directory"]
    assert (tmp_path / "a").read_bytes() == b"text"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("step", ["fsync", "replace", "body"])
def test_open_whole_failure_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str):
    (tmp_path / "a").write_bytes(b"before")

    def broken(*arguments: object) -> None:
        raise OSError("broken")

    if step != "body":
        monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), broken)
    with contextlib.suppress(OSError), files.open_whole(tmp_path / "a") as file:
        file.write(b"after")
        if step == "body":
            broken()
    assert (tmp_path / "a").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_create_existing_file_returns_false_and_changes_nothing(tmp_path: Path):
    assert files.create(tmp_path / "a", b"first") is True
    assert files.create(tmp_path / "a", b"second") is False
    assert (tmp_path / "a").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
