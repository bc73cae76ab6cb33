"""Segments that are torn, damaged, or of a newer format."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from pixel_server.collect.spool import format as spool_format
from pixel_server.collect.spool.format import NewerFormat, pack_payload, pack_record
from pixel_server.collect.spool.spool import Spool
from pixel_server.collect.spool.status import read_status
from tests.collect.spool.batches import LIMIT, batch, drain, files, reader
from tests.conftest import NOW


def test_spool_tail_torn_at_any_byte_is_skipped(
    home: Path, segment_file: Path, caplog: pytest.LogCaptureFixture
):
    whole = segment_file.read_bytes()
    ends = [24, *(whole.index(batch(n).data) + len(batch(n).data) for n in (1, 2, 3))]
    assert ends[-1] == len(whole)
    for cut in range(len(whole)):
        segment_file.write_bytes(whole[:cut])
        caplog.clear()
        after = reader(home)
        assert drain(after) == [batch(n) for n in (1, 2, 3) if ends[n] <= cut]
        after.close()
        levels = [record.levelno for record in caplog.records]
        assert levels == ([] if cut in (0, *ends) else [logging.WARNING])
        assert list(home.iterdir()) == []  # no folder aside, no lock


def test_spool_damaged_byte_costs_its_record_only(
    home: Path, segment_file: Path, caplog: pytest.LogCaptureFixture
):
    whole = segment_file.read_bytes()
    ends = [24, *(whole.index(batch(n).data) + len(batch(n).data) for n in (1, 2, 3))]
    for at in range(len(whole)):
        damaged = whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :]
        segment_file.write_bytes(damaged)
        hurt = next(n for n, end in enumerate(ends) if at < end)
        start = ends[hurt - 1] if hurt else 0
        caplog.clear()
        after = reader(home)
        assert drain(after) == [batch(n) for n in (1, 2, 3) if n != hurt]
        assert after.counts["damaged"] == 1
        after.close()
        (aside,) = (home / "aside").iterdir()
        assert aside.name == f"{segment_file.name}-{start}.bad"
        assert aside.read_bytes() == damaged[start : ends[hurt]]
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert f"{segment_file.name} is damaged at byte {start}" in record.message
        assert f"{ends[hurt] - start} bytes" in record.message
        shutil.rmtree(home / "aside")


def test_spool_damage_over_records_is_set_aside_as_one_piece(home: Path, segment_file: Path):
    whole = segment_file.read_bytes()
    first, third = whole.index(b"\xffHIT"), whole.rindex(b"\xffHIT")
    segment_file.write_bytes(whole[: first + 6] + bytes(third - first) + whole[third + 6 :])
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


def test_spool_segment_of_newer_format_stays_with_all_later_segments(
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
    first, second, third = now.drainable_segments()
    assert list(now.read(first)) == [batch(1)]
    now.delete(first)
    for left in (second, third):  # later segments of the writer must not overtake it
        with pytest.raises(NewerFormat):
            list(now.read(left))
        with pytest.raises(ValueError, match="not been drained"):
            now.delete(left)
    assert now.drainable_segments() == []
    assert now.counts["newer"] == 1
    assert f"{second.name} has a newer format" in caplog.text
    after = read_status(home)
    assert (after.segments, after.newer) == (before.segments - 1, 1)
    newest = reader(home)  # the lock is free
    assert [segment.number for segment in newest.drainable_segments()] == [2, 3]
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
    status = read_status(home)
    assert (status.hits, status.newer) == (batch(1).hits, 1)
    now = reader(home)
    (segment,) = now.drainable_segments()
    reading = now.read(segment)
    assert next(reading) == batch(1)
    with pytest.raises(NewerFormat):
        next(reading)
    with pytest.raises(ValueError, match="not been drained"):
        now.delete(segment)
    assert read_status(home).segments == 1
    assert not (home / "aside").exists()
    now.close()
