"""The folder `aside`: what is set aside, and when it is deleted."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pixel_server.collect.spool.format import unpack_payload
from pixel_server.collect.spool.spool import Spool
from pixel_server.collect.spool.status import read_status
from tests.collect.spool.batches import PRODUCER, batch, drain, reader


def test_spool_damage_not_set_aside_keeps_its_segment(
    home: Path, segment_file: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = bytearray(segment_file.read_bytes())
    whole[40] ^= 1
    segment_file.write_bytes(whole)
    after = reader(home)
    (segment,) = after.drainable_segments()

    def broken(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            list(after.read(segment))
    with pytest.raises(ValueError, match="not been drained"):
        after.delete(segment)
    assert (read_status(home).segments, read_status(home).aside) == (1, 0)
    assert drain(after) == [batch(2), batch(3)]
    assert read_status(home).aside == 1


def test_spool_drop_aside_deletes_old_files_only(home: Path, spool: Spool, caplog: pytest.LogCaptureFixture):
    assert spool.drop_aside(7) == 0
    spool.set_aside(batch(7), "its producer is older than the floor")
    spool.set_aside(batch(8), "its producer is older than the floor")
    old = home / "aside" / f"{PRODUCER}-0-7.batch"
    os.utime(old, (0, spool._clock() - 7 * 86_400 - 1))
    assert spool.drop_aside(7) == 1
    assert [path.name for path in (home / "aside").iterdir()] == [f"{PRODUCER}-0-8.batch"]
    assert "deleted 1 files that the spool had set aside 7 days ago" in caplog.text


def test_spool_refused_batch_is_set_aside(home: Path, spool: Spool, caplog: pytest.LogCaptureFixture):
    spool.set_aside(batch(7, hits=3), "its producer is older than the floor")
    spool.set_aside(batch(7, hits=3), "its producer is older than the floor")
    (path,) = (home / "aside").iterdir()
    assert path.name == f"{PRODUCER}-0-7.batch"
    assert unpack_payload(path.read_bytes()) == batch(7, hits=3)
    assert spool.counts["stale"] == read_status(home).aside == 1
    assert "3 hits set aside" in caplog.text
    assert "older than the floor" in caplog.text
