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
    ("trip", "within"), [(0.0005, 0.12), (0.06, 0.12), (0.1, 0.15), (0.15, 0.2), (0.4, 0.2)]
)
def test_trips_steady_round_trip_gives_a_limit_between_both_bounds(trip: float, within: float):
    assert measured(trip).timeout_seconds == pytest.approx(within, abs=0.002)


def test_trips_slower_than_the_bound_is_not_in_time():
    trips = RoundTrips(0.12, 0.2)
    assert trips.add(0.19)
    assert not trips.add(0.21)
