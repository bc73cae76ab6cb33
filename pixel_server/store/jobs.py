"""Asking for a roll-up: by dotted name, so that who asks never imports the workers."""

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

EVERY = {CHORES: 60, RETENTION: 30}
"""Seconds between two runs of these."""

SLICE = 5
"""Seconds. One roll-up of a shard may be asked for in each slice while another of it is listed. A job whose
worker was killed stays listed for minutes, so a shard waits this long for it at most. Two at once do no
harm: the roll-up whose commit fails ends."""


def queue(connection: redis.Redis) -> Queue:
    return Queue(QUEUE, connection=connection)


def ask_rollups(jobs: Queue, shards: Iterable[int], now: float) -> list[int]:
    """Enqueues a roll-up of each shard; those for which one was listed already."""
    listed = []
    for shard in shards:
        try:
            _enqueue(jobs, ROLLUP, (shard,), f"rollup-{shard}-{int(now) // SLICE}")
        except DuplicateJobError:
            listed.append(shard)
    return listed


def ask(jobs: Queue, function: str, now: float) -> None:
    """Enqueues one of EVERY, unless it is listed already for this time."""
    with suppress(DuplicateJobError):
        _enqueue(jobs, function, (), f"{function.split('.')[1]}-{int(now) // EVERY[function]}", ttl=600)


def _enqueue(jobs: Queue, function: str, args: tuple[int, ...], job: str, ttl: int = 60) -> None:
    """ttl: seconds that it may wait."""
    jobs.enqueue_call(
        function, args=args, timeout=60, result_ttl=0, failure_ttl=60, ttl=ttl, job_id=job, unique=True
    )
