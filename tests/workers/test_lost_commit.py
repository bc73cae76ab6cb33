"""A replica that lacks the newest commit takes over, while another roll-up is under way."""

from __future__ import annotations

import asyncio
from itertools import combinations

import pytest

from pixel_server import hit
from pixel_server.hit import Hit
from pixel_server.store import keys
from tests.cluster_nodes import client_of
from tests.workers.test_count_visits import FIREFOX
from tests.workers.test_rollup_pass import create_campaigns, mailed
from workers.rollup_pass import Outcome, Rollup

COUNTERS = ("total", "people", "last", "buckets", "months", "breakdown", "web")
"""Kinds of keys whose values depend on the hits alone. The other kinds hold random salts and marks."""
NOW = 5.0
"""Time of the roll-ups, s."""


def hits_of(kind):
    """Returns 12 hits of 4 recipients or visitors."""
    if kind == "mail":
        return [mailed(time=5000 + n, recipient=b"%08d" % (n % 4), address=bytes(4)) for n in range(12)]
    views = {"campaign": "page", "kind": hit.WEB, "method": "GET", "agent": FIREFOX}
    return [Hit(5000 + n, address=b"\x0a\x00\x00%c" % (n % 4), **views) for n in range(12)]


def fill(client, redis_url, kind):
    """Empties the store, and stores 12 hits in three entries."""
    client.flushall()
    asyncio.run(create_campaigns(redis_url))
    hits = hits_of(kind)
    for start in (0, 4, 8):
        batch = hit.encode_batch([hit.encode(each) for each in hits[start : start + 4]])
        client.xadd(keys.hits(0), {"1": batch})


def counters(client):
    """Returns the values of the keys of COUNTERS, by name."""
    names = [name for name in client.keys("px:{0}:*") if name.decode().split(":")[2] in COUNTERS]
    return {name: client.get(name) if b":buckets:" in name else client.hgetall(name) for name in names}


def copy_of_shard(client):
    """Returns the values of all keys of shard 0, with the milliseconds until they expire."""
    names = client.keys("px:{0}:*")
    return {name: (client.dump(name), max(0, client.pttl(name))) for name in names}


def put_back(client, copy):
    """Puts shard 0 back to an earlier state, as if a replica with this state had taken over."""
    client.delete(*client.keys("px:{0}:*"))
    for name, (value, expires_ms) in copy.items():
        client.restore(name, expires_ms, value)


@pytest.mark.parametrize("kind", ["mail", "page"])
@pytest.mark.parametrize("counted_before", [0, 1])
def test_pass_another_commit_is_read_and_then_lost_counts_each_hit_once(
    client, redis_url, settings, secrets, monkeypatch, kind, counted_before
):
    """Another roll-up commits before any round trip of the pass. Its commit is lost before a later one."""
    before_trip = []

    def get_connection(*arguments, **options):
        before_trip.pop(0)()
        return real_get_connection(*arguments, **options)

    with client_of(redis_url) as other:

        def begin():
            fill(other, redis_url, kind)
            for _ in range(counted_before):
                assert Rollup(other, settings, secrets, 0, max_entries=1).run_pass(NOW) is Outcome.COUNTED

        def run_pass(events):
            """Runs a pass. events: a function for each of its round trips. Returns the events left over."""
            before_trip[:] = events
            Rollup(client, settings, secrets, 0).run_pass(NOW)
            return before_trip[:]

        def commit():
            copies.append(copy_of_shard(other))
            assert Rollup(other, settings, secrets, 0).run_pass(NOW) is Outcome.COUNTED

        def lose():
            put_back(other, copies.pop())

        begin()
        assert client.ping()
        pool = client.connection_pool
        real_get_connection = pool.get_connection
        monkeypatch.setattr(pool, "get_connection", get_connection)
        copies: list = []
        nothing = lambda: None  # noqa: E731
        trips = 100 - len(run_pass([nothing] * 100))
        assert trips >= 4
        expected = counters(other)
        for committed_at, lost_at in combinations(range(1, trips + 1), 2):
            begin()
            events = [nothing] * 100
            events[committed_at], events[lost_at] = commit, lose
            run_pass(events)
            if copies:
                lose()
            while Rollup(other, settings, secrets, 0).run_pass(NOW) is Outcome.COUNTED:
                pass
            assert counters(other) == expected, (committed_at, lost_at)
