"""Puts jobs into the queue, by their dotted names, so that no caller imports the workers."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import redis
from rq import Queue
from rq.exceptions import DuplicateJobError
from rq.job import Job

QUEUE = "pixel-rollup"

ROLLUP = "workers.rollup.drain"
CHORES = "workers.maintenance.run"
RETENTION = "workers.retention.run"
NETWORKS = "workers.networks.run"
WEBHOOKS = "workers.webhooks.run"
"""Dotted names of the functions that the jobs call."""

PERIOD_SECONDS = {CHORES: 60, RETENTION: 30, NETWORKS: 600, WEBHOOKS: 2}
"""Seconds between two runs of a periodic job. The job NETWORKS mostly finds that nothing is due. The job
WEBHOOKS is queued only if there are endpoints and no worker sends."""

SLICE_SECONDS = 5
"""Seconds after which another roll-up of a shard can be queued although a roll-up is queued already.

RQ lists a job for minutes after its worker was killed; a shard waits only this long for such a job. Two
roll-ups of a shard at once do no harm: the roll-up whose commit fails ends.
"""
FEW_SHARDS, SHARDS_PER_ROLLUP = 16, 4
"""Number of shards up to which each shard has a roll-up of its own, and with many more shards the number of
shards that share a roll-up. A job costs about as much as a pass over a shard with few hits."""
_MAX_WAIT_SECONDS = {ROLLUP: 60, CHORES: 600, RETENTION: 600, NETWORKS: 600, WEBHOOKS: 10}
"""Seconds after which a job that no worker took leaves the queue."""


def queue(connection: redis.Redis) -> Queue:
    """Returns the queue of this server."""
    return Queue(QUEUE, connection=connection)


def rollup_count(shard_count: int) -> int:
    """Returns the number of roll-ups that can be queued at once: at most so many workers count at once."""
    return min(shard_count, max(FEW_SHARDS, shard_count // SHARDS_PER_ROLLUP))


def shards_of_rollup(shard: int, shard_count: int) -> list[int]:
    """Returns the shards that a shard's roll-up drains. `shards_of_rollup(3, 64)` is `[3, 19, 35, 51]`."""
    rollups = rollup_count(shard_count)
    return list(range(shard % rollups, shard_count, rollups))


def request_rollups(jobs: Queue, shards: Iterable[int], now: float, shard_count: int) -> list[int]:
    """Queues the roll-ups of these shards. Returns the shards whose roll-up was queued already.

    now: s. shard_count: number of all shards. First asks in one round trip which roll-ups are queued: to
    enqueue a job takes several round trips.
    """
    rollups = rollup_count(shard_count)
    shards_by_job: dict[str, list[int]] = {}
    for shard in shards:
        job_id = f"rollup-{shard % rollups}-{int(now) // SLICE_SECONDS}"
        shards_by_job.setdefault(job_id, []).append(shard)
    pipe = jobs.connection.pipeline(transaction=False)
    for job_id in shards_by_job:
        pipe.exists(Job.key_for(job_id))
    already_queued = []
    for (job_id, waiting), is_queued in zip(shards_by_job.items(), pipe.execute(), strict=True):
        try:
            if not is_queued:
                _enqueue(jobs, ROLLUP, job_id, waiting[0] % rollups)
                continue
        except DuplicateJobError:
            pass  # another process has queued the roll-up since
        already_queued += waiting
    return already_queued


def request(jobs: Queue, function: str, now: float) -> None:
    """Queues a periodic job, unless the job of this period is queued already.

    function: the dotted name of the job's function, a key of PERIOD_SECONDS. now: s.
    """
    with suppress(DuplicateJobError):
        _enqueue(jobs, function, f"{function.split('.')[1]}-{int(now) // PERIOD_SECONDS[function]}")


def _enqueue(jobs: Queue, function: str, job_id: str, *arguments: int) -> None:
    """Queues a job. Raises DuplicateJobError if a job of this id is queued or kept."""
    jobs.enqueue_call(
        function,
        args=arguments,
        timeout=60,
        result_ttl=0,
        failure_ttl=60,
        ttl=_MAX_WAIT_SECONDS[function],
        job_id=job_id,
        unique=True,
    )
