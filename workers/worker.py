"""One RQ worker, and the schedule that keeps an eye on all shards."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

import redis
from redis.client import Pipeline
from rq import Queue, SimpleWorker

from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import jobs, keys
from pixel_server.store.aof_rewrite import Rewriter
from pixel_server.store.client import Redis, StoreAwayError, StoreError, connect, connect_async
from pixel_server.store.compatibility import check
from pixel_server.store.memory_reserve import explain
from workers.context import mark
from workers.heartbeat import Progress
from workers.without_queue import Direct

log = logging.getLogger("workers.worker")

WAIT, ANSWER = 2, 4
"""Seconds that a worker waits for a job in one command, and in which Redis must answer that command. A
connection that died in silence is noticed after ANSWER seconds."""

LATE, HELP = 2.0, 10.0
"""Seconds after which a shard that waits, and of which nothing is counted, is rolled up without the queue;
and for how long all shards then are: a worker whose connection died needs a while until it is back."""

GRACE = 8.0
"""Seconds that a worker has to stop; longer than any job takes. What is cut off then is done again."""

AGAIN = 0.5
"""Seconds until a worker that lost Redis looks for it again."""
_AWAY = (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError, redis.exceptions.OutOfMemoryError)


class Worker(SimpleWorker):
    """Runs jobs in its own process: a roll-up keeps its caches, and a killed worker takes its job with it.

    RQ waits up to a minute for a Redis that was away, and seven for a job; hits should be counted sooner.
    """

    max_connection_wait_time = 1.0
    dequeue_timeout = WAIT
    connection_timeout = ANSWER
    was_told = False
    progress: Progress

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """RQ calls this whenever it waited for a job or has done one."""
        super().heartbeat(timeout, pipeline)
        if pipeline is None:
            self.progress.note()

    def subscribe(self) -> None:
        """Opens no connection for RQ's commands: nobody sends one here, and it could die in silence."""

    def _set_ip_address(self, connection: Redis) -> None:
        """RQ asks Redis for it, and cannot read the answer where the path of a socket has a blank in it."""
        self.ip_address = "unknown"

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """RQ can miss this, when Redis comes or goes just then, and would wait for a job for minutes."""
        self.was_told = True
        late = threading.Timer(GRACE, os._exit, (0,))
        late.daemon = True
        late.start()
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]


def run_worker(settings: Settings) -> None:
    """Works until told to stop by a signal; a job in hand is finished first.

    A worker of RQ ends when Redis goes away in the middle of a job; another then takes its place here.
    StoreError: the store does not fit, as where the secrets were lost while this server ran.
    """
    logging.getLogger("rq.worker").addFilter(_is_news)
    secrets = Secrets.load(settings.data, settings.signing, settings.recipient_secret)
    progress = Progress(settings)
    progress.start()
    failing = False
    while True:
        connection = connect(settings.queue_url or settings.redis_url, timeout=ANSWER)
        try:
            asyncio.run(_check(settings, secrets))
            worker = Worker([jobs.queue(connection)], connection=connection)
            worker.progress = progress
            worker.work(logging_level="WARNING")
            if worker.was_told:
                return
        except (redis.RedisError, StoreAwayError) as error:  # away, or full, or a replica
            if not failing:
                log.error("worker: Redis cannot be worked with: %s", explain(connection, error))
            failing = True
        except StoreError:
            raise
        except Exception as error:  # an odd reply of Redis: RQ is begun anew
            if not failing:
                log.error("worker: Redis answers what cannot be read, trying again: %r", error)
            failing = True
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)  # RQ's own would ask Redis
        time.sleep(AGAIN)


async def _check(settings: Settings, secrets: Secrets) -> None:
    store = connect_async(settings.redis_url, timeout=5.0)
    try:
        await check(store, settings.redis_url, settings.shards, secrets, mark())
    finally:
        await store.aclose()


def _is_news(record: logging.LogRecord) -> bool:
    """RQ logs a Redis that is away, full or a replica with all of its stack, and each try to reach it; the
    schedule and `run_worker` say it once."""
    return not isinstance(sys.exc_info()[1], _AWAY)  # it logs while it handles it


class Schedule:
    """The safety net: looks each second for shards with hits that no roll-up took.

    Where the queue takes no jobs, or its workers count nothing of a shard for LATE seconds, the jobs are run
    here: a Redis that is full refuses what RQ writes, and would stay full.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Short waits: whoever calls `tick` has children to look after.
        self._store: Redis = connect(settings.redis_url, timeout=0.5)
        self._jobs: Queue = jobs.queue(connect(settings.queue_url or settings.redis_url, timeout=0.5))
        self._rewriter = Rewriter(settings)
        self.direct = Direct(settings)
        self._asked: dict[str, int] = {}
        self._help_until = 0.0
        self._seen: dict[int, tuple[bytes | None, float]] = {}
        self._failing = False
        self._queue_failing = False

    def tick(self) -> None:
        """Asks for a roll-up of each shard with hits, the chores of the minute, retention, a rewrite.

        All goes by Redis's time.
        """
        try:
            pipe = self._store.pipeline(transaction=False)
            for shard in range(self._settings.shards):
                pipe.xlen(keys.hits(shard))
                pipe.hget(keys.checkpoint(shard), "id")
            pipe.time()
            *found, (now, _) = pipe.execute()
            lengths, counted = found[::2], found[1::2]
            waiting = [shard for shard, length in enumerate(lengths) if length]
            self._ask(waiting, self._is_late(waiting, counted), now)
            self._rewriter.tick(self._store, counted, now)
            if self._failing:
                log.warning("schedule: Redis answers again")
            self._failing = False
        except (redis.RedisError, OSError) as error:
            if not self._failing:
                log.error("schedule: Redis does not answer, nothing is counted meanwhile: %s", error)
            self._failing = True
        except Exception as error:  # whatever the store holds, the schedule goes on
            if not self._failing:
                log.error("schedule: the store holds what this version cannot read: %r", error)
            self._failing = True

    def _ask(self, waiting: list[int], late: bool, now: float) -> None:
        """Asks the queue for what is due, and runs it here if the queue cannot be written to."""
        due = [name for name, seconds in jobs.EVERY.items() if self._asked.get(name) != int(now) // seconds]
        try:
            jobs.ask_rollups(self._jobs, waiting, now)
            for function in due:
                jobs.ask(self._jobs, function, now)
            if self._queue_failing:
                log.warning("schedule: the job queue takes jobs again")
            self._queue_failing = False
            if late:
                self._help_until = time.monotonic() + HELP
            if time.monotonic() < self._help_until:
                self.direct.roll_up(waiting)
        except (redis.RedisError, OSError) as error:
            if not self._queue_failing:
                why = explain(self._jobs.connection, error)
                log.error("schedule: the job queue takes no jobs, so they are run here, slower: %s", why)
            self._queue_failing = True
            self._help_until = time.monotonic() + HELP
            self.direct.roll_up(waiting)
            if due and not self.direct.run(due):
                return
        self._asked |= {name: int(now) // jobs.EVERY[name] for name in due}

    def _is_late(self, waiting: list[int], counted: Sequence[bytes | None]) -> bool:
        """Whether nothing of some shard was counted for LATE seconds although it waited; then again after as
        long."""
        now = time.monotonic()
        late, seen = False, {}
        for shard in waiting:
            last, since = self._seen.get(shard, (None, now))
            if last != counted[shard]:
                since = now
            elif now - since >= LATE:
                late, since = True, now
            seen[shard] = counted[shard], since
        self._seen = seen
        return late
