"""Days, and times as the API writes them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from pixel_server import times


def test_day_in_seconds_and_ms_is_24_hours():
    assert (times.DAY, times.DAY_MS) == (24 * 60 * 60, 24 * 60 * 60 * 1000)


def test_iso_seconds_ends_in_z():
    assert times.iso(1795509000) == "2026-11-24T08:30:00Z"
    assert times.iso(0) == "1970-01-01T00:00:00Z"


def test_iso_ms_has_three_digits_of_a_second():
    assert times.iso_ms(1795509000250) == "2026-11-24T08:30:00.250Z"
    assert times.iso_ms(1795509000000) == "2026-11-24T08:30:00.000Z"
    draw = random.Random(3)
    for ms in (0, 999, 1000, 253_402_300_799_999, *(draw.randrange(2**42) for _ in range(1000))):
        expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
        assert times.iso_ms(ms) == expected.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    with pytest.raises(ValueError, match="year 10000"):
        times.iso_ms(253_402_300_800_000)


def test_iso_day_number_is_days_since_1970():
    assert [times.iso_day(number) for number in (0, 20_781)] == ["1970-01-01", "2026-11-24"]


@pytest.mark.parametrize(
    "text",
    [
        *("2026-11-24T09:00:00Z", "2026-11-24t09:00:00z", "2026-11-24 09:00:00.000Z", "2026-11-24T09:00"),
        *("2026-11-24T14:45:00+05:45", " 2026-11-24T09:00:00-00:00 ", "20261124T0900"),
    ],
)
def test_parse_instant_reads_rfc_3339_in_small_letters_too(text):
    assert times.parse_instant(text, UTC) == 1795510800


def test_parse_instant_leap_second_is_the_second_before():
    assert times.iso(times.parse_instant("1990-12-31T15:59:60-08:00", None)) == "1990-12-31T23:59:59Z"


@pytest.mark.parametrize("text", ["1969-12-30", "2106-02-08", "9999-12-31", "0001-01-01"])
def test_parse_instant_out_of_range_is_refused(text):
    for parse in (times.parse_instant, times.parse_end_of_day):
        with pytest.raises(times.InstantOutOfRangeError):
            parse(text, ZoneInfo("Pacific/Kiritimati"))


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "2026-11-24T09:00:60Z", "24.11.2026"])
def test_parse_instant_other_text_is_refused(text):
    with pytest.raises(ValueError, match=r"^(?!must lie)"):
        times.parse_instant(text, UTC)
