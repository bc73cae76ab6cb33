"""The time is Redis's, whatever the clock of this machine says, and a wrong clock is reported."""

from __future__ import annotations

import asyncio
import time

import pytest

from pixel_server.store import checkpoint, keys, producer
from pixel_server.store import clock as clocks
from pixel_server.store.client import connect_async
from pixel_server.store.clock import Clock, ClockReport
from tests.stack import until
from workers import maintenance, retention
from workers.rollup_pass import Outcome, Rollup

DAYS = 500 * 86_400.0


@pytest.fixture
def ahead(monkeypatch):
    """Returns a function that sets this process's clock ahead by some seconds."""
    right = time.time

    def set_ahead(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: right() + seconds)

    return set_ahead


@pytest.fixture
def job(settings, secrets, client, monkeypatch):
    """Returns a function that runs a worker's job with this store."""

    def run(function):
        parts = client, settings, secrets
        for module in (maintenance, retention):
            monkeypatch.setattr(module, "context", lambda: parts)
        function()

    return run


def difference(clock: Clock, client) -> float:
    seconds, microseconds = client.time()
    return abs(clock() - seconds - microseconds / 1e6)


@pytest.mark.parametrize("seconds", [DAYS, -DAYS, 3600.0, 0.0])
def test_clock_wrong_machine_goes_by_redis(client, ahead, seconds):
    ahead(seconds)
    clock = Clock()
    clock.measure(client)
    assert difference(clock, client) < 2
    assert clock.ahead == pytest.approx(seconds, abs=2)
    assert clock.is_far_off == bool(seconds)


def test_clock_set_while_redis_is_away_keeps_the_last_offset(client, ahead):
    clock = Clock()
    clock.measure(client)
    ahead(DAYS)
    assert difference(clock, client) < 2
    assert clock.is_far_off


def test_report_wrong_clock_is_in_the_store_until_it_is_right(client, ahead, caplog):
    clock = Clock()
    clock.measure(client)
    report = ClockReport(clock, "worker")
    assert report.command() is None
    ahead(DAYS)
    for _ in range(3):
        client.execute_command(*report.command())
    [wrong] = clocks.parse_wrong_clocks(client.hgetall(keys.CLOCKS), clock())
    assert wrong.process.startswith("worker ")
    assert wrong.ahead == pytest.approx(DAYS, abs=2)
    assert clocks.parse_wrong_clocks(client.hgetall(keys.CLOCKS), clock() + 60) == [], "the report is too old"
    assert "500.0 days ahead of" in caplog.text
    assert len(caplog.records) == 1
    ahead(0)
    client.execute_command(*report.command())
    assert client.hgetall(keys.CLOCKS) == {}
    assert report.command() is None


def test_report_clock_off_by_seconds_warns_and_allows_chores(client, ahead, caplog):
    """Half a minute is more than hosts with NTP differ by, and less than forbids chores."""
    clock = Clock()
    clock.measure(client)
    report = ClockReport(clock, "web")
    ahead(3)
    assert report.command() is None
    ahead(-30)
    client.execute_command(*report.command())
    [wrong] = clocks.parse_wrong_clocks(client.hgetall(keys.CLOCKS), clock())
    assert wrong.ahead == pytest.approx(-30, abs=2)
    assert not clock.is_far_off
    assert "seconds behind that of Redis: set both right (NTP)" in caplog.text
    assert "no chores" not in caplog.text
    ahead(-70)
    client.execute_command(*report.command())
    assert "this process does no chores" in caplog.text


@pytest.mark.parametrize(
    ("value", "known"), [(b"1 70 100", True), (b"2 70 100", False), (b"1 70", False), (b"", False)]
)
def test_parse_wrong_clocks_another_format_is_left_out(value, known):
    assert bool(clocks.parse_wrong_clocks({b"web": value}, 100)) == known


def test_retention_wrong_clock_does_nothing(client, job, ahead, caplog):
    ahead(DAYS)
    job(retention.run)
    assert not client.exists(keys.SWEEP)
    assert "no retention: the clock of this worker is 500.0 days ahead" in caplog.text
    ahead(0)
    job(retention.run)
    assert client.hget(keys.SWEEP, "begun")


@pytest.mark.parametrize(("seconds", "pruned"), [(DAYS, False), (0, True)])
def test_chores_wrong_clock_prunes_no_producer(client, job, ahead, seconds, pruned):
    now = int(time.time() * 1000)
    idle = producer.new_id(now / 1000 - 31 * 86_400)
    client.hset(keys.producers(0), idle, f"1 {now - producer.IDLE_MS - 5000}")
    client.hset(keys.checkpoint(0), "newest", now)
    ahead(seconds)
    job(maintenance.run)
    assert client.hexists(keys.producers(0), idle) != pruned


def test_chores_redis_clock_far_ahead_prunes_no_producer(client, settings):
    """The shard's newest hit shows that 30 days have not passed."""
    now = time.time()
    known = producer.new_id(now)
    client.hset(keys.producers(0), known, f"1 {int(now * 1000)}")
    client.hset(keys.checkpoint(0), "newest", int(now * 1000))
    maintenance.prune_producers(client, settings, now + DAYS)
    assert client.hexists(keys.producers(0), known)


def test_append_batch_stores_the_time_of_redis(client):
    name = producer.new_id(time.time() + DAYS)
    names = keys.hits(0), keys.producers(0)
    assert client.eval(producer.APPEND, 2, *names, name, 1, "1", b"\x90", 0) == 0
    number, at = client.hget(keys.producers(0), name).split()
    assert (number, abs(int(at) / 1000 - client.time()[0]) <= 2) == (b"1", True)


def test_rollup_newest_hit_of_the_future_is_forgotten(client, settings, secrets):
    now = client.time()[0]
    client.hset(keys.checkpoint(0), "newest", (now + 86_400) * 1000)
    client.hset(keys.visits(0), b"x", b"y")
    client.xadd(keys.hits(0), {"1": b"\x90"})
    rollup = Rollup(client, settings, secrets, 0)
    assert [rollup.run_pass(now) for _ in range(3)] == [Outcome.COUNTED, Outcome.COUNTED, Outcome.EMPTY]
    assert checkpoint.read_checkpoint(client, 0).newest_ms == 0
    assert not client.exists(keys.visits(0))


def test_follow_wrong_clock_is_measured_and_reported(settings, client, ahead, monkeypatch):
    monkeypatch.setattr(clocks, "MEASURE_SECONDS", 0.01)
    clock = Clock()

    async def run() -> None:
        store = connect_async(settings.redis_url)
        task = asyncio.create_task(clocks.follow(clock, store))
        ahead(-DAYS)
        await asyncio.to_thread(until, lambda: client.exists(keys.CLOCKS))
        ahead(0)
        await asyncio.to_thread(until, lambda: not client.exists(keys.CLOCKS))
        task.cancel()
        await store.aclose()

    asyncio.run(run())
    assert difference(clock, client) < 2
