"""Durations counted in bins, and their quantiles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_server.counters.histogram import (
    MAX_BIN,
    RELATIVE_ERROR,
    delay_bin,
    delay_bounds,
    delay_seconds,
    quantiles,
    span_bin,
    span_seconds,
)


@given(st.integers(100, 10**8))
def test_span_bin_middle_is_within_the_relative_error(ms: int):
    assert span_seconds(span_bin(ms)) * 1000 == pytest.approx(ms, rel=RELATIVE_ERROR + 1e-9)


@given(st.integers(0, 10**8))
def test_delay_bin_middle_is_within_the_relative_error(seconds: int):
    assert delay_seconds(delay_bin(seconds)) + 1 == pytest.approx(seconds + 1, rel=RELATIVE_ERROR + 1e-9)


@given(st.integers(0, 10**8))
def test_delay_bounds_of_the_bin_of_a_delay_hold_it(seconds: int):
    first, last = delay_bounds(delay_seconds(delay_bin(seconds)))
    assert first - 1e-6 <= seconds <= last + 1e-6 * last


def test_bins_extreme_durations_stay_within_the_bounds():
    assert [delay_bin(-1), delay_bin(0), delay_bin(2**63)] == [0, 1, MAX_BIN]
    assert [span_bin(-5), span_bin(0), span_bin(108), span_bin(2**63)] == [1, 1, 1, MAX_BIN]


def test_quantiles_two_bins_returns_the_middle_of_the_bin_of_each_share():
    counts = {delay_bin(60): 3, delay_bin(3600): 1}
    low, high = delay_seconds(delay_bin(60)), delay_seconds(delay_bin(3600))
    assert quantiles(counts, (0.25, 0.5, 0.75, 1)) == [low, low, low, high]


def test_quantiles_nothing_counted_returns_none():
    assert quantiles({}, (0.5,)) is None
    assert quantiles({3: 0}, (0.5,)) is None
