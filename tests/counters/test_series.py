"""Counts over time, packed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_server import times
from pixel_server.counters.series import (
    COUNTS,
    FORMAT,
    Cells,
    add,
    bucket_number,
    bucket_start,
    pack,
    unpack,
    utc_day,
)
from pixel_server.counters.stored_format import NewerFormat

cells = st.dictionaries(
    st.integers(0, 95), st.lists(st.integers(0, 2**40), min_size=len(COUNTS), max_size=len(COUNTS))
)
NOW = 1_790_000_000


@given(cells)
def test_pack_any_cells_unpack_to_the_same_without_trailing_zeros(written: Cells):
    read = unpack(pack(written))
    assert {n: cell + [0] * (len(COUNTS) - len(cell)) for n, cell in read.items()} == written
    assert all(cell[-1:] != [0] for cell in read.values())


@given(cells)
def test_pack_same_cells_in_any_order_gives_the_same_bytes(written: Cells):
    assert pack(written) == pack(dict(reversed(written.items()))) == pack(unpack(pack(written)))


def test_unpack_missing_value_returns_no_cells():
    assert unpack(None) == {}


def test_pack_day_of_few_hits_takes_few_bytes():
    assert len(pack({40: [3, 2, 1, 0], 41: [1, 0, 0, 0]})) <= 12


@pytest.mark.parametrize(
    "value", [[FORMAT + 1, {}], [FORMAT + 1], [FORMAT + 1, {}, "more"], [FORMAT + 1, "of another shape"]]
)
def test_unpack_newer_format_of_any_shape_raises(value: list):
    with pytest.raises(NewerFormat, match=f"format {FORMAT + 1}"):
        unpack(msgspec.msgpack.encode(value))


def test_add_changes_grow_the_cell_and_counts_stop_at_zero():
    counted: Cells = {}
    add(counted, 7, [1])
    add(counted, 7, [1, 2, 1])
    assert counted == {7: [2, 2, 1]}
    add(counted, 7, [0, 0, -1])
    add(counted, 7, [0, 0, -1])
    assert counted == {7: [2, 2, 0]}


@pytest.mark.parametrize(("second", "start"), [(0, 0), (899, 0), (900, 900), (NOW, NOW - 800)])
def test_bucket_start_instant_returns_the_start_of_its_15_minutes(second: int, start: int):
    assert bucket_start(second * 1000) == bucket_start(second * 1000 + 999) == start


@pytest.mark.parametrize(
    ("start", "zone", "day"),
    [
        ("2026-09-21T14:00", "UTC", "20260921"),
        ("2026-09-21T23:45", "Europe/Berlin", "20260922"),
        ("2026-09-21T00:00", "America/New_York", "20260920"),
        ("2026-09-21T18:15", "Asia/Kathmandu", "20260922"),
        ("2026-09-21T18:00", "Asia/Kathmandu", "20260921"),
        ("2026-10-25T22:45", "Europe/Berlin", "20261025"),
        ("2026-10-25T23:00", "Europe/Berlin", "20261026"),
        ("2026-03-28T23:00", "Europe/Berlin", "20260329"),
    ],
)
def test_days_across_clock_changes_follow_their_zone(start: str, zone: str, day: str):
    at = int(datetime.fromisoformat(start).replace(tzinfo=UTC).timestamp())
    assert times.local_day(at, ZoneInfo(zone))[0] == day
    assert utc_day(at) == start[:10].replace("-", "")


@given(st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)), st.sampled_from(["Asia/Kathmandu", "UTC"]))
def test_days_any_instant_begin_with_a_bucket(at: datetime, zone: str):
    second = int(at.replace(tzinfo=UTC).timestamp())
    start = bucket_start(second * 1000)
    assert utc_day(start) == f"{at:%Y%m%d}"
    assert (
        start
        == int(datetime.strptime(utc_day(start) + "+0000", "%Y%m%d%z").timestamp())
        + bucket_number(start) * 900
    )
    if at >= datetime(1987, 1, 1):
        local = datetime.fromtimestamp(second, ZoneInfo(zone))
        assert times.local_day(start, ZoneInfo(zone))[0] == f"{local:%Y%m%d}"
        assert local - datetime.fromtimestamp(start, ZoneInfo(zone)) < timedelta(minutes=15)
