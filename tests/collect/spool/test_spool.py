"""The spool: its files on disk, failing disks, damage, and several processes."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pixel_server.collect.losses import RemovedFile
from pixel_server.collect.spool import spool as spool_module
from pixel_server.collect.spool.format import Segment
from pixel_server.collect.spool.spool import Spool, SpoolFull
from pixel_server.collect.spool.status import SpoolStatus, read_status, waiting_since_ms
from tests.collect.spool.batches import LIMIT, batch, drain, files, reader
from tests.conftest import NOW


def test_spool_drain_appended_batches_come_once_in_order(home: Path, spool: Spool):
    given = [batch(number, hits=number, shard=number % 3) for number in (1, 2, 15, 16, 1000)]
    spool.append(given[:2])
    spool.append(given[2:])
    assert spool.drainable_segments() == []
    spool.seal()
    assert drain(spool) == given
    assert drain(spool) == []
    assert files(home) == []


def test_spool_without_batches_leaves_nothing_on_disk(home: Path):
    spool = Spool(home, LIMIT)
    assert spool.drainable_segments() == []
    assert read_status(home) == SpoolStatus(0, 0, 0, None, 0)
    assert not home.exists()
    spool.append([batch(1)])
    spool.seal()
    drain(spool)
    spool.close()
    assert list(home.iterdir()) == []


def test_spool_files_are_readable_by_owner_only(home: Path, spool: Spool):
    spool.append([batch(1)])
    spool.set_aside(batch(2), "too old")
    modes = {path.suffix: path.stat().st_mode & 0o777 for path in home.rglob("*")}
    assert modes == {".lock": 0o600, ".seg": 0o600, ".batch": 0o600, "": 0o700}
    assert home.stat().st_mode & 0o777 == 0o700


def test_spool_append_returns_after_sync_of_bytes_and_names(
    home: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
):
    synced: list[tuple[int, int | None]] = []

    def noted(sync: Callable[[int], None]) -> Callable[[int], None]:
        def note(file: int) -> None:
            sync(file)
            status = os.fstat(file)
            synced.append((status.st_ino, status.st_size if stat.S_ISREG(status.st_mode) else None))

        return note

    monkeypatch.setattr(spool_module, "sync_data", noted(spool_module.sync_data))
    monkeypatch.setattr(os, "fsync", noted(os.fsync))
    spool.append([batch(1), batch(2)])
    (segment,) = files(home)
    one = segment.stat().st_size
    spool.append([batch(3), batch(4)])
    inode = segment.stat().st_ino
    assert synced == [
        (home.parent.stat().st_ino, None),
        (inode, one),
        (home.stat().st_ino, None),
        (inode, segment.stat().st_size),
    ]


def test_spool_full_segment_begins_the_next(home: Path):
    spool = Spool(home, LIMIT, segment_bytes=1000)
    given = [batch(number) for number in range(1, 31)]
    for one in given:
        spool.append([one])
    spool.append(given[:12])  # a group larger than a segment gets its own segment
    numbers = [segment.number for segment in spool.drainable_segments()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 4
    assert all(path.stat().st_size <= 1000 for path in files(home)[:-1])
    spool.seal()
    assert drain(spool) == given + given[:12]
    spool.close()


def test_spool_growing_segment_is_neither_read_nor_deleted(home: Path, spool: Spool):
    spool.append([batch(1)])
    current = Segment(files(home)[0].name[:28], 1)
    with pytest.raises(ValueError, match="still being written"):
        list(spool.read(current))
    with pytest.raises(ValueError, match="not been drained"):
        spool.delete(current)
    other = reader(home)
    with pytest.raises(ValueError, match="still being written"):
        list(other.read(current))
    assert read_status(home).hits == 2


def test_spool_delete_segment_not_read_raises(spool: Spool):
    spool.append([batch(1), batch(2)])
    spool.seal()
    (segment,) = spool.drainable_segments()
    assert next(spool.read(segment)) == batch(1)
    with pytest.raises(ValueError, match="not been drained"):
        spool.delete(segment)
    assert drain(spool) == [batch(1), batch(2)]


def test_spool_append_after_close_raises(home: Path, spool: Spool):
    spool.append([batch(1)])
    spool.close()
    with pytest.raises(ValueError, match="closed"):
        spool.append([batch(2)])
    assert spool.drainable_segments() == []
    assert drain(reader(home)) == [batch(1)]


def test_spool_limit_counts_segments_of_all_processes(home: Path):
    now = NOW
    one = Spool(home, 1000, clock=lambda: now)
    two = Spool(home, 1000, clock=lambda: now)
    one.append([batch(1)])
    two.append([batch(2)])
    while read_status(home).bytes + 200 < 1000:
        one.append([batch(3)])
    now += 1  # other processes are measured once a second
    before = read_status(home)
    with pytest.raises(SpoolFull) as full:
        two.append([batch(4), batch(5)])
    assert full.value.errno == errno.ENOSPC
    assert read_status(home) == before
    one.seal()
    drain(one)
    now += 1
    two.append([batch(4), batch(5)])
    assert read_status(home).hits == 6
    one.close()
    two.close()


def test_spool_full_disk_keeps_acknowledged_batches(
    home: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
):
    spool.append([batch(1)])
    pwrite, room = os.pwrite, 50

    def full(file: int, data: memoryview, offset: int) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken, room = min(room, len(data)), 0
        return pwrite(file, data[:taken], offset)

    size = files(home)[0].stat().st_size
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            spool.append([batch(2)])
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            spool.append([batch(2)])
    assert [path.stat().st_size for path in files(home)] == [size]
    spool.append([batch(2), batch(3)])
    spool.seal()
    assert drain(spool) == [batch(1), batch(2), batch(3)]


def test_spool_write_in_pieces_is_whole(spool: Spool, monkeypatch: pytest.MonkeyPatch):
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: pwrite(file, data[:7], offset))
    spool.append([batch(1), batch(2)])
    spool.seal()
    assert drain(spool) == [batch(1), batch(2)]


@pytest.mark.parametrize("cut_fails", [False, True])
@pytest.mark.parametrize("acknowledged", [0, 1])
def test_spool_disk_that_does_not_sync_acknowledges_nothing(
    home: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch, cut_fails: bool, acknowledged: int
):
    sync, failures = spool_module.sync_data, 99 if cut_fails else 1

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def sync_or_fail(file: int) -> None:
        nonlocal failures
        failures -= 1
        broken() if failures >= 0 else sync(file)

    if acknowledged:
        spool.append([batch(1)])
    with monkeypatch.context() as patch:
        patch.setattr(spool_module, "sync_data", sync_or_fail)
        if cut_fails:
            patch.setattr(os, "ftruncate", broken)
            patch.setattr(os, "unlink", broken)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            spool.append([batch(2)])
        assert len(files(home)) == (1 if cut_fails else acknowledged)
        assert len(spool.drainable_segments()) == acknowledged
        if cut_fails:
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                spool.append([batch(2)])
    assert len(spool.drainable_segments()) == acknowledged
    spool.append([batch(2)])
    spool.seal()
    assert drain(spool) == [batch(1)] * acknowledged + [batch(2)]


@pytest.fixture
def uncut(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> Spool:
    """Returns a spool with one acknowledged batch, and one that it can neither sync nor cut back."""

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    spool.append([batch(1)])
    monkeypatch.setattr(spool_module, "sync_data", broken)
    monkeypatch.setattr(os, "ftruncate", broken)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        spool.append([batch(2)])
    return spool


def test_spool_uncut_segment_drains_acknowledged_batches_only(
    home: Path, uncut: Spool, monkeypatch: pytest.MonkeyPatch
):
    assert drain(uncut) == [batch(1)]
    assert files(home) == []
    monkeypatch.undo()
    uncut.append([batch(2)])
    uncut.seal()
    assert drain(uncut) == [batch(2)]


def test_spool_uncut_segment_of_dead_writer_is_drained_whole(home: Path, uncut: Spool):
    uncut.close()
    assert drain(reader(home)) == [batch(1), batch(2)]


def test_spool_uncut_segment_failed_removal_is_retried(
    home: Path, uncut: Spool, monkeypatch: pytest.MonkeyPatch
):
    def broken(file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    (segment,) = uncut.drainable_segments()
    assert list(uncut.read(segment)) == [batch(1)]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            uncut.delete(segment)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            uncut.append([batch(2)])
    assert files(home) == []
    monkeypatch.undo()
    uncut.append([batch(2)])
    assert read_status(home).hits == 2


def test_spool_directory_that_does_not_sync_acknowledges_nothing(
    home: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
):
    spool.append([batch(1)])
    spool.seal()

    def broken(file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            spool.append([batch(2)])
    assert len(files(home)) == 1
    assert drain(spool) == [batch(1)]


def test_spool_open_without_hits_has_an_empty_status(home: Path):
    opened = Spool(home, LIMIT)
    opened.open()
    assert len(files(home)) == 1
    assert read_status(home) == SpoolStatus(0, 0, 0, None, 0)
    assert waiting_since_ms(home) is None
    opened.seal()
    assert opened.drainable_segments() == []
    opened.close()
    assert list(home.iterdir()) == []


def test_spool_removed_directory_keeps_new_and_reports_lost_hits(
    home: Path, caplog: pytest.LogCaptureFixture
):
    opened = Spool(home, LIMIT)
    opened.open()
    opened.append([batch(1, hits=3)])
    opened.seal()
    sealed = files(home)[0].name
    opened.append([batch(2)])
    shutil.rmtree(home)
    opened.append([batch(3)])
    assert opened.take_removed() == [RemovedFile(sealed, 3)]
    assert "3 hits that were answered as recorded are lost" in caplog.text
    assert opened.take_removed() == []
    opened.seal()
    assert drain(opened) == [batch(2), batch(3)]  # the file of the growing segment was still open
    opened.close()


@pytest.mark.parametrize("what", ["directory", "segment", "moved"])
def test_spool_removed_while_idle_is_made_again(home: Path, what: str):
    opened = Spool(home, LIMIT)
    opened.open()
    opened.append([batch(1)])
    if what == "directory":
        shutil.rmtree(home)
    elif what == "moved":
        home.rename(home.with_name("moved"))
    else:
        files(home)[0].unlink()
    opened.drainable_segments()
    opened.seal()
    assert drain(opened) == [batch(1)]
    assert opened.take_removed() == []
    opened.close()


def test_spool_removed_and_not_writable_keeps_batches_in_memory(home: Path):
    opened = Spool(home, LIMIT)
    opened.open()
    opened.append([batch(1)])
    shutil.rmtree(home)
    home.write_text("in the way")
    with pytest.raises(OSError):  # noqa: PT011 - the class differs by platform
        opened.append([batch(2)])
    home.unlink()
    opened.append([batch(2)])
    opened.seal()
    assert drain(opened) == [batch(1), batch(2)]
    opened.close()


def test_spool_closed_before_removed_file_is_written_anew_reports_it(home: Path):
    opened = Spool(home, LIMIT)
    opened.open()
    opened.append([batch(1, hits=3)])
    growing = files(home)[0].name
    shutil.rmtree(home)
    home.write_text("in the way")
    with pytest.raises(OSError):  # noqa: PT011 - the class differs by platform
        opened.append([batch(2)])
    opened.close()
    assert opened.take_removed() == [RemovedFile(growing, 3)]


def test_spool_segment_of_ended_writer_removed_is_reported(home: Path, segment_file: Path):
    opened = reader(home)
    assert [segment.name for segment in opened.drainable_segments()] == [segment_file.name]
    segment_file.unlink()
    assert opened.drainable_segments() == []
    assert opened.take_removed() == [RemovedFile(segment_file.name, 6)]


def test_spool_segment_that_another_process_drained_is_not_reported(home: Path):
    """A writer that lost its growing segment gives up its lock, so another process drains its sealed ones."""
    opened, other = Spool(home, LIMIT), reader(home)
    opened.open()
    opened.append([batch(1)])
    opened.seal()
    files(home)[-1].unlink()
    opened.append([batch(2)])
    assert drain(other) == [batch(1)]
    opened.seal()
    assert drain(opened) == [batch(2)]
    assert opened.take_removed() == []
    opened.close()
