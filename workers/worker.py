"""The RQ worker: runs jobs from the queue, and starts again when Redis comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from types import FrameType

import redis
from redis.client import Pipeline
from rq import Queue, SimpleWorker
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.executions import Execution
from rq.job import Job

from pixel_server import lifeline
from pixel_server.logs import Log, leave_out
from pixel_server.metrics.process_file import Publisher
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import jobs
from pixel_server.store.client import StoreAwayError, StoreError, connect, connect_async, connect_queue
from pixel_server.store.compatibility import check_store
from pixel_server.store.memory_reserve import explain
from workers.context import known_mark
from workers.heartbeat import Progress
from workers.numbers import WORK

log = Log(__name__)

JOB_WAIT_SECONDS = 2
"""Seconds that one blocking read of the queue waits for a job."""
REDIS_TIMEOUT_SECONDS = 4
"""Seconds in which Redis must answer. Without a limit, a dead connection would stay unnoticed."""
STOP_TIMEOUT_SECONDS = 8.0
"""Seconds after which a worker that should stop is ended. Every job is shorter."""
STOP_ANSWER_SECONDS = 0.5
"""Seconds in which Redis must answer a worker that should stop, or the worker is ended at once."""
RECONNECT_SECONDS = 0.5
"""Seconds until a worker that lost Redis connects again."""
_EXPECTED_ERRORS = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    InvalidJobOperation,  # the queue was emptied during a job
    NoSuchJobError,
)


class Worker(SimpleWorker):
    """Runs jobs in its own process, so that a roll-up keeps its caches.

    RQ by itself waits up to a minute for a Redis that was away, and up to 7 minutes for a job. Hits must be
    counted sooner.
    """

    max_connection_wait_time = 1.0
    dequeue_timeout = JOB_WAIT_SECONDS
    connection_timeout = REDIS_TIMEOUT_SECONDS
    has_stop_signal = False
    progress: Progress

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """Notes progress. RQ calls this after each wait for a job and after each job.

        Writes in one round trip. RQ by itself would need three.
        """
        lifeline.beat()
        if pipeline is not None:
            super().heartbeat(timeout, pipeline)
            return
        with self.connection.pipeline() as own_pipeline:
            super().heartbeat(timeout, own_pipeline)
            own_pipeline.execute()
        self.progress.note()

    def perform_job(self, job: Job, queue: Queue, execution: Execution) -> bool:
        """Runs a job, and counts it. Returns whether it succeeded."""
        has_succeeded = super().perform_job(job, queue, execution)
        WORK.note_job(has_succeeded)
        return has_succeeded

    def subscribe(self) -> None:
        """Does nothing. RQ would open a connection that nobody uses, and that could die silently."""

    def _set_ip_address(self, connection: redis.Redis) -> None:
        """Leaves the address out. RQ asks Redis for it, and fails if the socket's path contains a space."""
        self.ip_address = "unknown"

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Stops after the job in hand, and in any case after STOP_TIMEOUT_SECONDS.

        Stops at once if Redis does not answer: the job cannot go on, and each hit is counted once whoever
        runs the job again. RQ misses the signal if its connection to Redis breaks or comes back at that
        instant. Without the limit RQ would then wait minutes for a job.
        """
        self.has_stop_signal = True
        threading.Thread(target=_end_in_time, args=(self.progress.url,), daemon=True).start()
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]


def _end_in_time(url: str) -> None:
    """Ends this process at once if Redis does not answer at this URL, and otherwise after the timeout."""
    try:
        with connect(url, timeout=STOP_ANSWER_SECONDS) as store:
            store.time()
    except (redis.ConnectionError, redis.TimeoutError, OSError):
        os._exit(0)
    except redis.RedisError:
        pass  # it answers
    time.sleep(STOP_TIMEOUT_SECONDS)
    os._exit(0)


def run_worker(settings: Settings) -> None:
    """Runs jobs until a signal stops the process. Finishes the job in hand first.

    RQ's worker ends if Redis goes away during a job. This function then starts a new worker. Raises
    StoreError if the store does not fit this server, as after its secrets were lost.
    """
    leave_out("rq.worker", _is_expected)
    secrets = Secrets.load(settings.data, settings.signing_secrets, settings.recipient_secret)
    progress = Progress(settings, secrets)
    progress.start()
    publisher = Publisher(settings.data, lambda: WORK.gather("worker"))
    publisher.start_thread()
    try:
        _work_until_stopped(settings, secrets, progress)
    finally:
        publisher.close()


def _work_until_stopped(settings: Settings, secrets: Secrets, progress: Progress) -> None:
    """Runs workers, one after the other, until a signal stops the process."""
    is_failing = False
    while True:
        lifeline.beat()
        connection = connect_queue(settings.queue_url or settings.redis_url, timeout=REDIS_TIMEOUT_SECONDS)
        try:
            asyncio.run(_check_store(settings, secrets))
            worker = Worker([jobs.queue(connection)], connection=connection)
            worker.progress = progress
            worker.work()
            if worker.has_stop_signal:
                return
        except (redis.RedisError, StoreAwayError) as error:  # Redis is away, full, or a replica
            if not is_failing:
                log.error(
                    "worker-redis-away",
                    "the worker cannot work with Redis, trying again: %(reason)s",
                    reason=explain(connection, error),
                )
            is_failing = True
        except StoreError:
            raise
        except Exception as error:  # RQ could not read a reply of Redis
            if not is_failing:
                log.error(
                    "worker-reply-unreadable",
                    "the worker cannot read what Redis answers, trying again: %(error)s",
                    error=error,
                )
            is_failing = True
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)  # RQ's handlers would ask Redis
        time.sleep(RECONNECT_SECONDS)


async def _check_store(settings: Settings, secrets: Secrets) -> None:
    """Raises StoreError if this worker must not use the store."""
    store = connect_async(settings.redis_url, timeout=5.0)
    try:
        url, shards = settings.redis_url, settings.shards
        await check_store(store, url, shards, secrets, known_mark(), is_server=True)
    finally:
        await store.aclose()


def _is_expected(error: BaseException) -> bool:
    """Returns whether an error of RQ is expected: Redis is away, full, a replica or empty.

    RQ logs such an error at each try. The schedule and `run_worker` report it once.
    """
    is_role_change = isinstance(error, redis.ResponseError) and str(error).startswith("UNBLOCKED")
    is_emptied = isinstance(error, ValueError) and str(error).endswith("not found in Redis")
    return isinstance(error, _EXPECTED_ERRORS) or is_role_change or is_emptied
