"""The timeout of a group commit, from measured round trips."""

from __future__ import annotations

import pytest

from pixel_server.collect.round_trips import RoundTrips


def measured(seconds: float, times: int = 30) -> RoundTrips:
    trips = RoundTrips(0.12, 0.2)
    for _ in range(times):
        trips.add(seconds)
    return trips


@pytest.mark.parametrize(
    ("trip_seconds", "timeout_seconds"), [(0.0005, 0.12), (0.06, 0.12), (0.1, 0.15), (0.15, 0.2), (0.4, 0.2)]
)
def test_round_trips_steady_time_gives_a_timeout_between_the_bounds(
    trip_seconds: float, timeout_seconds: float
):
    assert measured(trip_seconds).timeout_seconds == pytest.approx(timeout_seconds, abs=0.002)


def test_round_trips_slower_than_the_bound_is_not_in_time():
    trips = RoundTrips(0.12, 0.2)
    assert trips.add(0.19)
    assert not trips.add(0.21)
