"""The roll-up job: which shards it drains, and how it retries."""

from __future__ import annotations

import time

import pytest

from pixel_server import hit
from pixel_server.hit import Hit
from pixel_server.secret import Secrets
from pixel_server.store import checkpoint, keys
from workers import rollup
from workers.context import context
from workers.rollup import MAX_THREADS, drain, drain_shards, shards_of_job
from workers.rollup_pass import Outcome, Rollup


@pytest.mark.parametrize("shards", [1, 2, 3, 4, 7, 256])
@pytest.mark.parametrize("workers", [1, 2, 3, 4, 9])
def test_shards_of_job_jobs_at_once_share_no_shard(shards, workers):
    for first in range(shards):
        jobs = [shards_of_job((first + i) % shards, shards, workers) for i in range(min(workers, shards))]
        drained = [shard for job in jobs for shard in job]
        assert len(set(drained)) == len(drained)
        assert all(job[0] == (first + i) % shards and len(job) <= MAX_THREADS for i, job in enumerate(jobs))


def test_shards_of_job_one_worker_drains_all_shards():
    assert sorted(shards_of_job(2, 4, 1)) == [0, 1, 2, 3]


def store_hit(client, shard: int = 0, entry: str = "*") -> None:
    """Stores one hit as one stream entry."""
    client.xadd(
        keys.hits(shard), {"1": hit.encode_batch([hit.encode(Hit(0, "none", hit.EMAIL, "GET"))])}, id=entry
    )


@pytest.fixture
def of_64_shards(settings, environment, monkeypatch):
    """Makes the jobs of this process use a store of 64 shards."""
    Secrets.load_or_create(settings.data)
    monkeypatch.setenv("PIXEL_SHARDS", "64")
    context.cache_clear()
    yield
    context.cache_clear()


def test_drain_many_shards_drains_the_shards_of_its_rollup(client, of_64_shards):
    for shard in (3, 19, 51, 4):
        store_hit(client, shard)
    assert drain(3) == 3
    assert [client.xlen(keys.hits(shard)) for shard in (3, 19, 51, 4)] == [0, 0, 0, 1]


def test_drain_many_shards_begins_with_the_longest_wait(client, of_64_shards, monkeypatch):
    for shard, entry in {3: "9-1", 19: "10-2", 35: "10-1"}.items():
        store_hit(client, shard, entry)
    order = []
    monkeypatch.setattr(rollup, "drain_shards", lambda *arguments: order.extend(arguments[3]) or 0)
    drain(3)
    assert order == [3, 35, 19]


@pytest.mark.parametrize("raises", [1, 2, 5])
def test_drain_generation_raised_by_others_retries_within_the_job(
    client, settings, secrets, monkeypatch, raises
):
    """Others that raise the generation all the time cannot keep a shard from being counted."""
    for _ in range(3):
        store_hit(client)
    commit, raises_left = checkpoint.commit, [raises]
    leads = []

    def commit_too_late(*arguments):
        if raises_left[0]:
            raises_left[0] -= 1
            client.hincrby(keys.checkpoint(0), "n", 1)
        leads.append(client.exists(keys.lead(0)))
        return commit(*arguments)

    monkeypatch.setattr(checkpoint, "commit", commit_too_late)
    assert drain_shards(client, settings, secrets, [0], time.monotonic() + 60, time.time) == 3
    assert leads[:3] == [0, 0, 1][: len(leads)]
    assert not client.exists(keys.lead(0))


def test_drain_shard_counted_by_another_gives_up(client, settings, secrets, monkeypatch):
    store_hit(client)
    commit = checkpoint.commit
    other = Rollup(client, settings, secrets, 0)

    def commit_after_the_other(*arguments):
        monkeypatch.setattr(checkpoint, "commit", commit)
        assert other.run_pass(0) is Outcome.COUNTED
        return commit(*arguments)

    monkeypatch.setattr(checkpoint, "commit", commit_after_the_other)
    assert drain_shards(client, settings, secrets, [0], time.monotonic() + 60, time.time) == 0
