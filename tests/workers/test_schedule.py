"""The schedule counts hits itself if the job queue, or the workers behind it, do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pixel_server import hit
from pixel_server.hit import Hit
from pixel_server.secret import Secrets
from pixel_server.store import jobs, keys
from tests.redis_states import full
from workers import schedule as schedule_module
from workers.context import context
from workers.schedule import Schedule

NOW = 1e9


@pytest.fixture
def uncounted(client, settings, environment):
    """Stores two hits in two shards; returns a function that counts the stream entries left.

    The server's secrets lie in its data directory.
    """
    Secrets.load_or_create(settings.data)
    context.cache_clear()
    for shard in (0, 3):
        batch = hit.encode_batch([hit.encode(Hit(int(NOW * 1000), "none", hit.EMAIL, "GET"))])
        client.xadd(keys.hits(shard), {"1": batch})
    yield lambda: sum(client.xlen(keys.hits(shard)) for shard in range(settings.shards))
    context.cache_clear()


def tick(schedule: Schedule) -> None:
    """Runs one tick, and waits for the jobs that it runs itself."""
    schedule.tick()
    schedule.job_threads.wait()


def test_schedule_redis_full_counts_and_does_the_chores(uncounted, client, queue_client, settings, caplog):
    schedule = Schedule(settings)
    client.hset(keys.producers(0), "0" * 28, "1 1000")
    client.hset(keys.checkpoint(0), "newest", int(NOW * 1000))
    with full(client), full(queue_client):
        tick(schedule)
        assert uncounted() == 0
        assert client.hkeys(keys.producers(0)) == [b"floor"]
        assert client.zcard(keys.WORKERS) == 1
        tick(schedule)
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "the job queue takes no jobs, so they are run here, slower: Redis is full: used" in line
    tick(schedule)
    assert "takes jobs again" in caplog.text


@pytest.mark.parametrize(
    ("has_endpoints", "has_courier", "is_due"),
    [(False, False, False), (True, False, True), (True, True, False)],
)
def test_schedule_enqueues_the_job_of_webhooks_if_endpoints_have_no_courier(
    client, queue_client, settings, has_endpoints, has_courier, is_due
):
    if has_endpoints:
        client.hset(keys.WEBHOOKS, "3f9a0c51d2", "a record")
    if has_courier:
        client.set(keys.COURIER, "a worker", px=60_000)
    Schedule(settings).tick()
    names = {job.func_name for job in jobs.queue(queue_client).jobs}
    assert names - {jobs.WEBHOOKS} == {jobs.CHORES, jobs.RETENTION}
    assert (jobs.WEBHOOKS in names) == is_due


def test_schedule_queue_with_its_own_redis_away_counts(uncounted, settings):
    tick(Schedule(replace(settings, queue_url="unix:///nowhere/valkey.sock")))
    assert uncounted() == 0


def test_schedule_jobs_taken_and_never_done_counts(uncounted, client, settings, monkeypatch):
    """A worker whose connection died silently leaves its jobs like this."""
    schedule = Schedule(settings)
    tick(schedule)
    assert uncounted() == 2
    monkeypatch.setattr(schedule_module, "LATE_SECONDS", 0.0)
    tick(schedule)
    assert uncounted() == 0


def test_schedule_workers_make_progress_leaves_the_shards_to_them(uncounted, client, settings, monkeypatch):
    monkeypatch.setattr(schedule_module, "LATE_SECONDS", 0.0)
    schedule = Schedule(settings)
    for n in range(3):
        for shard in (0, 3):
            client.hset(keys.checkpoint(shard), "id", f"{n}-1")
        tick(schedule)
    assert uncounted() == 2


def test_schedule_queue_works_enqueues_each_due_job(uncounted, queue_client, settings):
    tick(Schedule(settings))
    queued = {job.func_name for job in jobs.queue(queue_client).get_jobs()}
    assert queued == {jobs.ROLLUP, jobs.CHORES, jobs.RETENTION}, "PIXEL_NETWORKS_REFRESH is off"


def test_schedule_weekly_refresh_is_a_job_of_its_own(uncounted, queue_client, settings):
    tick(Schedule(replace(settings, networks_refresh="weekly")))
    assert jobs.NETWORKS in {job.func_name for job in jobs.queue(queue_client).get_jobs()}


def test_schedule_many_shards_merges_their_values(uncounted, client, settings):
    for shards, is_merged in ((4, False), (9, True)):
        schedule = Schedule(replace(settings, shards=shards))
        tick(schedule)
        schedule.merge_thread.wait()
        assert client.hexists(keys.MERGED, "as_of") is is_merged
