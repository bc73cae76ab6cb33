"""Days, and times as the API writes them."""

from __future__ import annotations

from pixel_server import times


def test_day_in_seconds_and_ms_is_24_hours():
    assert (times.DAY, times.DAY_MS) == (24 * 60 * 60, 24 * 60 * 60 * 1000)


def test_iso_seconds_ends_in_z():
    assert times.iso(1795509000) == "2026-11-24T08:30:00Z"
    assert times.iso(0) == "1970-01-01T00:00:00Z"


def test_iso_ms_has_three_digits_of_a_second():
    assert times.iso_ms(1795509000250) == "2026-11-24T08:30:00.250Z"
    assert times.iso_ms(1795509000000) == "2026-11-24T08:30:00.000Z"


def test_iso_day_number_is_days_since_1970():
    assert [times.iso_day(number) for number in (0, 20_781)] == ["1970-01-01", "2026-11-24"]
