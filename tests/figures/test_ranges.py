"""Ranges of queries, and their intervals."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixel_server.figures import ranges
from pixel_server.problems import Problem

NOW = datetime(2025, 6, 10, 12, 20, tzinfo=UTC).timestamp()


def shown(query, zone="UTC"):
    found = ranges.parse(query, zone, NOW)
    return ranges.show(found.start, found.zone), ranges.show(found.end, found.zone)


@pytest.mark.parametrize(
    ("query", "start", "end"),
    [
        ({}, "2025-05-12T00:00:00+00:00", "2025-06-11T00:00:00+00:00"),
        ({"to": "2025-06-01"}, "2025-05-02T00:00:00+00:00", "2025-06-01T00:00:00+00:00"),
        ({"from": "2025-06-01"}, "2025-06-01T00:00:00+00:00", "2025-06-11T00:00:00+00:00"),
        ({"interval": "hour"}, "2025-05-12T00:00:00+00:00", "2025-06-10T13:00:00+00:00"),
        ({"interval": "15m"}, "2025-05-12T00:00:00+00:00", "2025-06-10T12:30:00+00:00"),
        (
            {"interval": "hour", "tz": "Asia/Kathmandu"},
            "2025-05-12T00:00:00+05:45",
            "2025-06-10T19:00:00+05:45",
        ),
        (
            {"from": "2025-06-01T00:00:00 02:00", "tz": "Europe/Berlin"},
            "2025-06-01T00:00:00+02:00",
            "2025-06-11T00:00:00+02:00",
        ),
    ],
)
def test_ranges_missing_parameters_get_defaults(query, start, end):
    assert shown(query) == (start, end)
    assert ranges.parse(query, "UTC", NOW).is_all_time == (not {"from", "to"} & query.keys())


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ({"from": "2025-06-02", "to": "2025-06-01"}, ["from"]),
        ({"from": "2025-06-01", "to": "2025-06-01"}, ["from"]),
        ({"from": "2025-06-12"}, ["from"]),
        ({"from": "0001-01-01"}, ["from"]),
        ({"to": "9999-12-31T23:59:59Z"}, ["to"]),
        ({"from": "0001-01-01T00:00+23:59", "to": "9999-12-31T23:59-23:59"}, ["from", "to"]),
        ({"from": "1999-12-31"}, ["from"]),
        ({"to": "2100-01-01"}, ["to"]),
        ({"from": "2000-01-01", "to": "2010-01-10"}, ["from"]),
        ({"from": "2025-01-01", "to": "2025-02-12", "interval": "hour"}, ["from"]),
        ({"from": "2025-01-01", "to": "2025-02-12", "tz": "Asia/Tokyo"}, ["from"]),
        ({"from": "2025-06-01T00:15Z"}, ["from"]),
        ({"from": "2025-06-01T00:00Z", "tz": "Europe/Berlin"}, ["from"]),
        ({"from": "2025-06-01T00:15Z", "interval": "hour"}, ["from"]),
        ({"from": "2025-06-01T00:01Z", "interval": "15m"}, ["from"]),
        ({"from": "2025-06-01T00:00:00.000001Z"}, ["from"]),
        ({"from": "", "to": "yesterday"}, ["from", "to"]),
        ({"from": "1e400", "to": "NaN"}, ["from", "to"]),
        ({"from": "2025-02-30"}, ["from"]),
        ({"from": "\0", "to": "\ud800"}, ["from", "to"]),
        ({"interval": "week"}, ["interval"]),
        ({"interval": ""}, ["interval"]),
        *(
            ({"tz": name}, ["tz"])
            for name in ("", "Mars/Base", "../../etc/passwd", "/etc/localtime", "localtime", "europe/berlin")
        ),
        ({"tz": "Europe/Berlin\0"}, ["tz"]),
        ({"interval": "x", "tz": "x", "from": "x", "to": "x"}, ["interval", "tz", "from", "to"]),
    ],
)
def test_ranges_bad_parameters_are_named(query, fields):
    with pytest.raises(Problem) as caught:
        ranges.parse(query, "UTC", NOW)
    assert caught.value.status == 422
    assert [error["field"] for error in caught.value.errors] == fields


def test_ranges_widest_is_accepted_wider_is_422():
    assert len(ranges.parse({"from": "2000-01-01", "to": "2010-01-08"}, "UTC", NOW).starts()) == 3660
    fine = {"from": "2025-01-01", "to": "2025-02-10", "interval": "15m"}
    assert len(ranges.parse(fine, "UTC", NOW).starts()) == 40 * 96


@pytest.mark.parametrize(
    ("zone", "day", "starts"),
    [
        ("Europe/Berlin", "2025-03-30", ["01:00+01:00", "03:00+02:00", "04:00+02:00"]),
        ("Europe/Berlin", "2025-10-26", ["02:00+02:00", "02:00+01:00", "03:00+01:00"]),
        ("Australia/Lord_Howe", "2025-10-05", ["01:00+10:30", "02:30+11:00", "03:00+11:00"]),
        ("Australia/Lord_Howe", "2025-04-06", ["01:00+11:00", "01:30+10:30", "02:00+10:30"]),
        ("Asia/Kathmandu", "2025-04-06", ["02:00+05:45", "03:00+05:45", "04:00+05:45"]),
        ("America/Sao_Paulo", "2018-11-04", ["01:00-02:00", "02:00-02:00", "03:00-02:00"]),
    ],
)
def test_ranges_hours_follow_the_wall_clock(zone, day, starts):
    after = (datetime.fromisoformat(day) + timedelta(days=1)).date().isoformat()
    found = ranges.parse({"from": day, "to": after, "interval": "hour"}, zone, NOW)
    shown = [ranges.show(at, found.zone)[11:16] + ranges.show(at, found.zone)[19:] for at in found.starts()]
    assert ",".join(starts) in ",".join(shown)


def test_ranges_day_left_out_by_zone_is_skipped():
    found = ranges.parse({"from": "2011-12-29", "to": "2012-01-01"}, "Pacific/Apia", NOW)
    assert [ranges.show(at, found.zone)[:10] for at in found.starts()] == ["2011-12-29", "2011-12-31"]


ZONES = [
    "UTC",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/Sao_Paulo",
    "America/Havana",
]


@settings(deadline=None)
@given(
    st.sampled_from(ZONES),
    st.sampled_from(ranges.INTERVALS),
    st.dates(datetime(2005, 1, 1).date(), datetime(2030, 1, 1).date()),
    st.integers(1, 40),
)
def test_ranges_intervals_tile_the_range(zone, interval, day, length):
    query = {"from": day.isoformat(), "to": (day + timedelta(days=length)).isoformat(), "interval": interval}
    found = ranges.parse(query, zone, NOW)
    starts = found.starts()
    assert starts[0] == found.start
    lengths = [b - a for a, b in zip(starts, [*starts[1:], found.end], strict=True)]
    at_most = {"15m": 900, "hour": 3600 + 900, "day": 25 * 3600}[interval]
    assert all(0 < seconds <= at_most and seconds % 900 == 0 for seconds in lengths)
    again = ranges.parse({**query, "from": ranges.show(starts[-1], found.zone)}, zone, NOW)
    assert again.starts() == starts[-1:]


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["from", "to", "interval", "tz"]), st.text(max_size=40)))
def test_ranges_any_text_is_a_range_or_422(query):
    with suppress(Problem):
        found = ranges.parse(query, "Europe/Berlin", NOW)
        assert found.start < found.end
