"""A field shows its value also if the value is not a date or a number."""

from __future__ import annotations

import pytest

from pixel_server.dashboard.input_types import input_type


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        ("date", "", "date"),
        ("date", "2026-11-24", "date"),
        ("date", "soon", "text"),
        ("date", "20261124", "text"),
        ("date", "2026-02-31", "text"),
        ("date", "2026-11-24T18:00", "text"),
        ("time", "09:30", "time"),
        ("time", "9:30", "text"),
        ("datetime-local", "2026-11-24T09:30", "datetime-local"),
        ("datetime-local", "2026-11-24T09:30:15", "datetime-local"),
        ("datetime-local", "2026-11-24T09:30:00+01:00", "text"),
        ("datetime-local", "2026-11-24", "text"),
        ("number", "12", "number"),
        ("number", "many", "text"),
        ("number", "", "number"),
        ("url", "nowhere", "url"),
    ],
)
def test_input_type_shows_the_value(kind, value, shown):
    assert input_type(kind, value) == shown
