"""Segments and locks of several processes in one directory."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from pixel_server.collect.batch import Batch
from pixel_server.collect.spool.status import read_status
from tests.collect.spool.batches import PRODUCER, batch, drain, files, reader


def test_spool_killed_writer_leaves_its_segments_to_others(home: Path):
    code = (
        "import os, pathlib, sys, time; from pixel_server.collect.batch import Batch\n"
        "from pixel_server.collect.spool.spool import Spool\n"
        "Spool(pathlib.Path(sys.argv[1]), 1 << 20).append([Batch(0, sys.argv[2], 1, b'\\x91\\x01')])\n"
        "print('kept', flush=True); time.sleep(60)"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(home), PRODUCER], stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "kept\n"
        other = reader(home)
        assert other.drainable_segments() == []
        assert read_status(home).hits == 1
    finally:
        writer.kill()
        writer.communicate()
    assert drain(other) == [Batch(0, PRODUCER, 1, b"\x91\x01")]
    assert other.drainable_segments() == []
    assert list(home.iterdir()) == []


def test_spool_two_processes_never_drain_one_segment(home: Path, segment_file: Path):
    one, two = reader(home), reader(home)
    (segment,) = one.drainable_segments()
    assert two.drainable_segments() == []
    list(one.read(segment))
    one.close()
    assert two.drainable_segments() == [segment]
    assert drain(two) == [batch(1), batch(2), batch(3)]
    two.close()
    assert list(home.iterdir()) == []


def test_spool_lock_on_a_removed_file_does_not_count(
    home: Path, segment_file: Path, monkeypatch: pytest.MonkeyPatch
):
    flock = fcntl.flock
    (lock,) = files(home, "*.lock")

    def another_was_first(file: int, how: int) -> None:
        lock.unlink()
        flock(file, how)

    late = reader(home)
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", another_was_first)
        assert late.drainable_segments() == []
    assert drain(late) == [batch(1), batch(2), batch(3)]
    late.close()


def test_spool_foreign_files_are_left_alone(home: Path, segment_file: Path):
    for name in ("notes.txt", "other.lock", "x-00000001.seg"):
        (home / name).write_text("mine")
    after = reader(home)
    assert drain(after) == [batch(1), batch(2), batch(3)]
    after.close()
    assert sorted(path.name for path in home.iterdir()) == ["notes.txt", "other.lock", "x-00000001.seg"]
