"""The spool: its files on disk, failing disks, damage, and several processes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pixel_server import hit
from pixel_server.collect.batch import Batch
from pixel_server.collect.spool import format as spool_format
from pixel_server.collect.spool import spool as spool_module
from pixel_server.collect.spool.format import NewerFormat, Segment, pack_payload, pack_record, unpack_payload
from pixel_server.collect.spool.spool import Spool, SpoolFull
from pixel_server.collect.spool.status import SpoolStatus, read_status, waiting_since
from pixel_server.hit import Hit
from pixel_server.store import producer
from tests.conftest import NOW

LIMIT = 1 << 20
PRODUCER = producer.new_id(NOW)


def batch(sequence: int, hits: int = 2, shard: int = 0) -> Batch:
    encoded = hit.encode(Hit(sequence, "news", hit.EMAIL, "GET", agent=f"agent of batch {sequence}"))
    return Batch(shard, PRODUCER, sequence, hit.encode_batch([encoded] * hits))


def drain(spool: Spool) -> list[Batch]:
    drained = []
    for segment in spool.segments():
        drained += spool.read(segment)
        spool.delete(segment)
    return drained


def files(directory: Path, pattern: str = "*.seg") -> list[Path]:
    return sorted(directory.glob(pattern))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(home: Path) -> Iterator[Spool]:
    made = Spool(home, LIMIT, clock=lambda: NOW)
    yield made
    made.close()


@pytest.fixture
def kept(home: Path) -> Path:
    """Returns a segment of three batches whose writer has closed."""
    made = Spool(home, LIMIT, clock=lambda: NOW)
    made.append([batch(1), batch(2), batch(3)])
    made.close()
    return files(home)[0]


def reader(home: Path) -> Spool:
    return Spool(home, LIMIT, clock=lambda: NOW + 60)


def test_spool_drain_appended_batches_come_once_in_order(home: Path, spool: Spool):
    given = [batch(number, hits=number, shard=number % 3) for number in (1, 2, 15, 16, 1000)]
    spool.append(given[:2])
    spool.append(given[2:])
    assert spool.segments() == []
    spool.seal()
    assert drain(spool) == given
    assert drain(spool) == []
    assert files(home) == []


def test_spool_without_batches_leaves_nothing_on_disk(home: Path):
    spool = Spool(home, LIMIT)
    assert spool.segments() == []
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
            found = os.fstat(file)
            synced.append((found.st_ino, found.st_size if stat.S_ISREG(found.st_mode) else None))

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
    numbers = [segment.number for segment in spool.segments()]
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
    (segment,) = spool.segments()
    assert next(spool.read(segment)) == batch(1)
    with pytest.raises(ValueError, match="not been drained"):
        spool.delete(segment)
    assert drain(spool) == [batch(1), batch(2)]


def test_spool_append_after_close_raises(home: Path, spool: Spool):
    spool.append([batch(1)])
    spool.close()
    with pytest.raises(ValueError, match="closed"):
        spool.append([batch(2)])
    assert spool.segments() == []
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
        assert len(spool.segments()) == acknowledged
        if cut_fails:
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                spool.append([batch(2)])
    assert len(spool.segments()) == acknowledged
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

    (segment,) = uncut.segments()
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


def test_spool_tail_torn_at_any_byte_is_skipped(home: Path, kept: Path, caplog: pytest.LogCaptureFixture):
    whole = kept.read_bytes()
    ends = [24, *(whole.index(batch(n).data) + len(batch(n).data) for n in (1, 2, 3))]
    assert ends[-1] == len(whole)
    for cut in range(len(whole)):
        kept.write_bytes(whole[:cut])
        caplog.clear()
        after = reader(home)
        assert drain(after) == [batch(n) for n in (1, 2, 3) if ends[n] <= cut]
        after.close()
        told = [record.levelno for record in caplog.records]
        assert told == ([] if cut in (0, *ends) else [logging.WARNING])
        assert list(home.iterdir()) == []  # no folder aside, no lock


def test_spool_damaged_byte_costs_its_record_only(home: Path, kept: Path, caplog: pytest.LogCaptureFixture):
    whole = kept.read_bytes()
    ends = [24, *(whole.index(batch(n).data) + len(batch(n).data) for n in (1, 2, 3))]
    for at in range(len(whole)):
        damaged = whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :]
        kept.write_bytes(damaged)
        hurt = next(n for n, end in enumerate(ends) if at < end)
        start = ends[hurt - 1] if hurt else 0
        caplog.clear()
        after = reader(home)
        assert drain(after) == [batch(n) for n in (1, 2, 3) if n != hurt]
        assert after.counts["damaged"] == 1
        after.close()
        (aside,) = (home / "aside").iterdir()
        assert aside.name == f"{kept.name}-{start}.bad"
        assert aside.read_bytes() == damaged[start : ends[hurt]]
        (told,) = caplog.records
        assert told.levelno == logging.ERROR
        assert f"{kept.name} is damaged at byte {start}" in told.message
        assert f"{ends[hurt] - start} bytes" in told.message
        shutil.rmtree(home / "aside")


def test_spool_damage_over_records_is_set_aside_as_one_piece(home: Path, kept: Path):
    whole = kept.read_bytes()
    first, third = whole.index(b"\xffHIT"), whole.rindex(b"\xffHIT")
    kept.write_bytes(whole[: first + 6] + bytes(third - first) + whole[third + 6 :])
    after = reader(home)
    assert drain(after) == []
    (aside,) = (home / "aside").iterdir()
    assert aside.stat().st_size == len(whole) - first
    assert read_status(home).aside == 1


def test_spool_record_cut_short_keeps_later_records(home: Path, spool: Spool):
    spool.append([batch(1, hits=50), batch(2)])
    spool.seal()
    (path,) = files(home)
    whole = path.read_bytes()
    path.write_bytes(whole[:60] + whole[-200:])
    assert drain(spool) == [batch(2)]
    assert spool.counts["damaged"] == read_status(home).aside == 1


def test_spool_damage_not_set_aside_keeps_its_segment(
    home: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = bytearray(kept.read_bytes())
    whole[40] ^= 1
    kept.write_bytes(whole)
    after = reader(home)
    (segment,) = after.segments()

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


def test_spool_record_inside_a_hit_is_not_drained(home: Path, spool: Spool):
    forged = pack_record(pack_payload(batch(9)), 0)
    plain = batch(1)
    spool.append([plain._replace(data=b"\x91" + forged), batch(2)])
    spool.seal()
    (path,) = files(home)
    damaged = bytearray(path.read_bytes())
    damaged[30] ^= 1
    path.write_bytes(damaged)
    assert drain(spool) == [batch(2)]


def test_spool_segment_of_newer_format_stays_with_all_later(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    later = Spool(home, LIMIT, clock=lambda: NOW)
    later.append([batch(1)])
    later.seal()
    with monkeypatch.context() as patch:
        patch.setattr(spool_format, "FORMAT", 2)
        later.append([batch(2)])
        later.seal()
    later.append([batch(3)])
    later.close()
    before = read_status(home)
    now = reader(home)
    first, second, third = now.segments()
    assert list(now.read(first)) == [batch(1)]
    now.delete(first)
    for left in (second, third):  # later segments of the writer must not overtake it
        with pytest.raises(NewerFormat):
            list(now.read(left))
        with pytest.raises(ValueError, match="not been drained"):
            now.delete(left)
    assert now.segments() == []
    assert now.counts["newer"] == 1
    assert f"{second.name} has a newer format" in caplog.text
    assert read_status(home).segments == before.segments - 1
    newest = reader(home)  # the lock is free
    assert [segment.number for segment in newest.segments()] == [2, 3]
    newest.close()
    now.close()


def test_spool_record_of_newer_format_holds_back_later_records(home: Path, monkeypatch: pytest.MonkeyPatch):
    later = Spool(home, LIMIT, clock=lambda: NOW)
    later.append([batch(1)])
    with monkeypatch.context() as patch:
        patch.setattr(spool_format, "FORMAT", 2)
        later.append([batch(2)])
    later.append([batch(3)])
    later.close()
    now = reader(home)
    (segment,) = now.segments()
    reading = now.read(segment)
    assert next(reading) == batch(1)
    with pytest.raises(NewerFormat):
        next(reading)
    with pytest.raises(ValueError, match="not been drained"):
        now.delete(segment)
    assert read_status(home).segments == 1
    assert not (home / "aside").exists()
    now.close()


def test_spool_drop_aside_deletes_old_files_only(home: Path, spool: Spool, caplog: pytest.LogCaptureFixture):
    assert spool.drop_aside(7) == 0
    spool.set_aside(batch(7), "its producer is older than the floor")
    spool.set_aside(batch(8), "its producer is older than the floor")
    old = home / "aside" / f"{PRODUCER}-0-7.batch"
    os.utime(old, (0, spool._clock() - 7 * 86_400 - 1))
    assert spool.drop_aside(7) == 1
    assert [path.name for path in (home / "aside").iterdir()] == [f"{PRODUCER}-0-8.batch"]
    assert "deleted 1 files that were set aside 7 days ago" in caplog.text


def test_spool_refused_batch_is_set_aside(home: Path, spool: Spool, caplog: pytest.LogCaptureFixture):
    spool.set_aside(batch(7, hits=3), "its producer is older than the floor")
    spool.set_aside(batch(7, hits=3), "its producer is older than the floor")
    (path,) = (home / "aside").iterdir()
    assert path.name == f"{PRODUCER}-0-7.batch"
    assert unpack_payload(path.read_bytes()) == batch(7, hits=3)
    assert spool.counts["stale"] == read_status(home).aside == 1
    assert "3 hits set aside" in caplog.text
    assert "older than the floor" in caplog.text


def test_status_of_another_process_counts_acknowledged_hits(home: Path, spool: Spool):
    spool.append([batch(1, hits=5), batch(2, hits=20)])
    spool.seal()
    spool.append([batch(3, hits=300)])
    with files(home)[1].open("ab") as torn:
        torn.write(b"\xffHIT")
    code = (
        "import pathlib, sys; from pixel_server.collect.spool.status import read_status\n"
        "print(*read_status(pathlib.Path(sys.argv[1])))"
    )
    seen = subprocess.run(
        [sys.executable, "-c", code, str(home)], capture_output=True, text=True, check=True, timeout=15
    )
    size = sum(path.stat().st_size for path in files(home))
    assert seen.stdout.split() == ["2", "325", str(size), str(int(NOW * 1000)), "0"]


def test_status_damaged_head_gives_the_writers_time(home: Path, kept: Path):
    kept.write_bytes(b"?" + kept.read_bytes()[1:])
    assert read_status(home) == SpoolStatus(1, 0, kept.stat().st_size, int(NOW * 1000), 0)


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
        assert other.segments() == []
        assert read_status(home).hits == 1
    finally:
        writer.kill()
        writer.communicate()
    assert drain(other) == [Batch(0, PRODUCER, 1, b"\x91\x01")]
    assert other.segments() == []
    assert list(home.iterdir()) == []


def test_spool_two_processes_never_drain_one_segment(home: Path, kept: Path):
    one, two = reader(home), reader(home)
    (segment,) = one.segments()
    assert two.segments() == []
    list(one.read(segment))
    one.close()
    assert two.segments() == [segment]
    assert drain(two) == [batch(1), batch(2), batch(3)]
    two.close()
    assert list(home.iterdir()) == []


def test_spool_lock_on_a_removed_file_does_not_count(home: Path, kept: Path, monkeypatch: pytest.MonkeyPatch):
    flock = fcntl.flock
    (lock,) = files(home, "*.lock")

    def another_was_first(file: int, how: int) -> None:
        lock.unlink()
        flock(file, how)

    late = reader(home)
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", another_was_first)
        assert late.segments() == []
    assert drain(late) == [batch(1), batch(2), batch(3)]
    late.close()


def test_spool_foreign_files_are_left_alone(home: Path, kept: Path):
    for name in ("notes.txt", "other.lock", "x-00000001.seg"):
        (home / name).write_text("mine")
    after = reader(home)
    assert drain(after) == [batch(1), batch(2), batch(3)]
    after.close()
    assert sorted(path.name for path in home.iterdir()) == ["notes.txt", "other.lock", "x-00000001.seg"]


def test_spool_open_without_hits_counts_for_nothing(home: Path):
    opened = Spool(home, LIMIT)
    opened.open()
    assert len(files(home)) == 1
    assert read_status(home) == SpoolStatus(0, 0, 0, None, 0)
    assert waiting_since(home) is None
    opened.seal()
    assert opened.segments() == []
    opened.close()
    assert list(home.iterdir()) == []


def test_spool_open_without_free_descriptors_takes_batches(home: Path):
    """Appends more than one segment holds, and drains in between."""
    opened = Spool(home, LIMIT, segment_bytes=400)
    opened.open()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    used: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, most[1]))
        with contextlib.suppress(OSError):
            while True:
                used.append(os.open(os.devnull, os.O_RDONLY))
        given = [batch(number) for number in range(1, 8)]
        for one in given:
            opened.append([one])
        opened.seal()
        assert drain(opened) == given
        opened.append([batch(8)])
    finally:
        for file in used:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
    opened.close()
    assert drain(reader(home)) == [batch(8)]


def test_spool_removed_directory_keeps_new_and_reports_lost_hits(
    home: Path, caplog: pytest.LogCaptureFixture
):
    opened = Spool(home, LIMIT)
    opened.open()
    opened.append([batch(1, hits=3)])
    opened.seal()
    opened.append([batch(2)])
    shutil.rmtree(home)
    opened.append([batch(3)])
    assert opened.take_removed() == 3
    assert "3 hits that were answered as recorded are lost" in caplog.text
    assert opened.take_removed() == 0
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
    opened.segments()
    opened.seal()
    assert drain(opened) == [batch(1)]
    assert opened.take_removed() == 0
    opened.close()


def test_spool_removed_and_not_writable_keeps_batches_in_memory(home: Path):
    opened = Spool(home, LIMIT)
    opened.open()
    opened.append([batch(1)])
    shutil.rmtree(home)
    home.write_text("in the way")
    with pytest.raises(OSError):  # noqa: PT011 - which of them differs by platform
        opened.append([batch(2)])
    home.unlink()
    opened.append([batch(2)])
    opened.seal()
    assert drain(opened) == [batch(1), batch(2)]
    opened.close()
