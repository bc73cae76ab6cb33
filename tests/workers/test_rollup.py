"""Which shards a job drains beside each other."""

from __future__ import annotations

import pytest

from workers.rollup import BESIDE, group


@pytest.mark.parametrize("shards", [1, 2, 3, 4, 7, 256])
@pytest.mark.parametrize("workers", [1, 2, 3, 4, 9])
def test_jobs_that_run_at_once_drain_no_shard_twice(shards, workers):
    for first in range(shards):
        jobs = [group((first + i) % shards, shards, workers) for i in range(min(workers, shards))]
        drained = [shard for job in jobs for shard in job]
        assert len(set(drained)) == len(drained)
        assert all(job[0] == (first + i) % shards and len(job) <= BESIDE for i, job in enumerate(jobs))


def test_a_worker_alone_drains_all():
    assert sorted(group(2, 4, 1)) == [0, 1, 2, 3]
