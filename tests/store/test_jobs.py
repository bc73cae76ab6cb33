"""Roll-up jobs: each job drains several shards if there are many."""

from __future__ import annotations

import pytest

from pixel_server.store import jobs


@pytest.mark.parametrize("shards", [1, 4, 16, 17, 64, 100, 256])
def test_shards_of_rollup_rollups_have_each_shard_once(shards):
    rollups = {tuple(jobs.shards_of_rollup(shard, shards)) for shard in range(shards)}
    assert sorted(shard for rollup in rollups for shard in rollup) == list(range(shards))
    assert len(rollups) == jobs.rollup_count(shards) <= max(16, shards // 4)


def test_request_rollups_of_256_shards_queues_64_jobs_once(queue_client):
    queue = jobs.queue(queue_client)
    assert jobs.request_rollups(queue, range(256), 1e9, 256) == []
    first_shards = sorted(job.args[0] for job in queue.get_jobs())
    assert first_shards == list(range(64))
    calls_before = queue_client.info()["total_commands_processed"]
    assert sorted(jobs.request_rollups(queue, range(256), 1e9, 256)) == list(range(256))
    assert queue_client.info()["total_commands_processed"] - calls_before <= 64 + 1


def test_request_rollups_of_4_shards_queues_a_job_for_each(queue_client):
    queue = jobs.queue(queue_client)
    assert jobs.request_rollups(queue, [1, 3], 1e9, 4) == []
    assert jobs.request_rollups(queue, [0, 3], 1e9, 4) == [3]
    assert sorted(job.args[0] for job in queue.get_jobs()) == [0, 1, 3]
