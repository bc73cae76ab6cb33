"""Puts jobs into the queue, by their dotted names, so that no caller imports the workers."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import redis
from rq import Queue
from rq.exceptions import DuplicateJobError

QUEUE = "pixel-rollup"

ROLLUP = "workers.rollup.drain"
CHORES = "workers.maintenance.run"
RETENTION = "workers.retention.run"
"""Dotted names of the functions that the jobs call."""

PERIOD_SECONDS = {CHORES: 60, RETENTION: 30}
"""Seconds between two runs of a periodic job."""

SLICE_SECONDS = 5
"""Seconds after which another roll-up of a shard can be queued although a roll-up is queued already.

RQ lists a job for minutes after its worker was killed; a shard waits only this long for such a job. Two
roll-ups of a shard at once do no harm: the roll-up whose commit fails ends.
"""
_MAX_WAIT_SECONDS = {ROLLUP: 60, CHORES: 600, RETENTION: 600}
"""Seconds after which a job that no worker took leaves the queue."""


def queue(connection: redis.Redis) -> Queue:
    """Returns the queue of this server."""
    return Queue(QUEUE, connection=connection)


def request_rollups(jobs: Queue, shards: Iterable[int], now: float) -> list[int]:
    """Queues a roll-up of each shard. Returns the shards for which a roll-up was queued already. now: s."""
    already_queued = []
    for shard in shards:
        try:
            _enqueue(jobs, ROLLUP, f"rollup-{shard}-{int(now) // SLICE_SECONDS}", shard)
        except DuplicateJobError:
            already_queued.append(shard)
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
