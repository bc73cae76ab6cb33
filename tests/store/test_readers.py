"""Readers that share their round trips."""

from __future__ import annotations

from pixel_server.store.readers import read, together


class CountedTrips:
    """A client that counts the round trips of its pipelines."""

    def __init__(self, client):
        self._client = client
        self.trips = 0

    def pipeline(self, *, transaction):
        pipe = self._client.pipeline(transaction=transaction)
        execute = pipe.execute

        def counted():
            self.trips += 1
            return execute()

        pipe.execute = counted
        return pipe


def follow(pipe, key):
    """Reads a chain of keys, each of which holds the name of the next. Returns the names."""
    names = []
    while key is not None:
        names.append(key)
        pipe.get(key)
        (key,) = yield
    return names


def test_together_readers_of_different_length_share_round_trips(client):
    client.mset({"{t}a1": "{t}a2", "{t}a2": "{t}a3", "{t}b1": "{t}b2"})
    store = CountedTrips(client)
    results = read(
        store,
        lambda pipe: together(
            pipe,
            follow(pipe, "{t}a1"),
            follow(pipe, None),
            together(pipe, follow(pipe, "{t}b1"), follow(pipe, "{t}c1")),
        ),
    )
    assert results == [["{t}a1", b"{t}a2", b"{t}a3"], [], [["{t}b1", b"{t}b2"], ["{t}c1"]]]
    assert store.trips == 3


def test_together_without_readers_makes_no_round_trip(client):
    store = CountedTrips(client)
    assert read(store, together) == []
    assert store.trips == 0
