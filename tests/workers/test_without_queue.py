"""The schedule counts hits itself where the job queue, or its workers, do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pixel_server import hit
from pixel_server.hit import Hit
from pixel_server.secret import Secrets
from pixel_server.store import jobs, keys
from tests.store.test_compatibility import full
from workers import heartbeat, worker
from workers.context import context
from workers.worker import Schedule

NOW = 1e9


@pytest.fixture
def waiting(client, settings, monkeypatch):
    """Two hits that wait, of a server whose secrets lie in its data directory; gives the hits left."""
    Secrets.make(settings.data)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("PIXEL_DATA_DIR", str(settings.data))
    context.cache_clear()
    for shard in (0, 3):
        batch = hit.encode_batch([hit.encode(Hit(int(NOW * 1000), "none", hit.EMAIL, "GET"))])
        client.xadd(keys.hits(shard), {"1": batch})
    yield lambda: sum(client.xlen(keys.hits(shard)) for shard in range(settings.shards))
    context.cache_clear()


def tick(schedule: Schedule) -> None:
    schedule.tick()
    schedule.direct.wait()


def test_schedule_redis_full_counts_and_does_the_chores(waiting, client, settings, caplog):
    schedule = Schedule(settings)
    client.hset(keys.producers(0), "0" * 28, "1 1000")
    client.hset(keys.checkpoint(0), "newest", int(NOW * 1000))
    with full(client):
        tick(schedule)
        assert waiting() == 0
        assert client.hkeys(keys.producers(0)) == [b"floor"]
        assert client.zcard(keys.WORKERS) == 1
        tick(schedule)
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "the job queue takes no jobs, so they are run here, slower: Redis is full: used" in line
    tick(schedule)
    assert "takes jobs again" in caplog.text


def test_schedule_queue_away_counts(waiting, settings):
    """The queue may have a Redis of its own."""
    tick(Schedule(replace(settings, queue_url="unix:///nowhere/valkey.sock")))
    assert waiting() == 0


def test_schedule_workers_count_nothing_counts(waiting, client, settings, monkeypatch):
    """Jobs are taken and never done, as by a worker whose connection died in silence."""
    schedule = Schedule(settings)
    tick(schedule)
    assert waiting() == 2
    monkeypatch.setattr(worker, "LATE", 0.0)
    tick(schedule)
    assert waiting() == 0


def test_schedule_shard_is_counted_by_workers_leaves_it_to_them(waiting, client, settings, monkeypatch):
    monkeypatch.setattr(worker, "LATE", 0.0)
    schedule = Schedule(settings)
    for n in range(3):
        for shard in (0, 3):
            client.hset(keys.checkpoint(shard), "id", f"{n}-1")
        tick(schedule)
    assert waiting() == 2


def test_schedule_asks_the_queue_where_it_works(waiting, client, settings):
    tick(Schedule(settings))
    assert {job.func_name for job in jobs.queue(client).get_jobs()} == {jobs.ROLLUP, *jobs.EVERY}


def test_worker_without_progress_gives_no_sign_of_life(client, settings, monkeypatch):
    progress = heartbeat.Progress(settings)
    with full(client):
        progress.step(client)
    assert client.zcard(keys.WORKERS) == 1
    client.delete(keys.WORKERS)
    monkeypatch.setattr(heartbeat, "STALLED", 0.0)
    progress.step(client)
    assert client.zcard(keys.WORKERS) == 0
