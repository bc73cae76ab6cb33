"""One RQ worker, and the schedule that keeps an eye on all shards."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType

import redis
from rq import Queue, SimpleWorker

from pixel_server import jobs, keys
from pixel_server.rewrite import Rewriter
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import Redis, StoreAwayError, StoreError, check, connect, connect_async
from workers.context import mark

log = logging.getLogger("workers.work")

BEAT = 2.0
"""Seconds between two signs of life of a worker; one silent for five of them is not seen."""

GRACE = 8.0
"""Seconds that a worker has to stop; longer than any job takes. What is cut off then is done again."""

AGAIN = 0.5
"""Seconds until a worker that lost Redis looks for it again."""
_AWAY = (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError, redis.exceptions.OutOfMemoryError)


class Worker(SimpleWorker):
    """Runs jobs in its own process: a roll-up keeps its caches, and a killed worker takes its job with it.

    RQ waits up to a minute for a Redis that was away; hits should be counted sooner.
    """

    max_connection_wait_time = 1.0
    was_told = False

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
    threading.Thread(target=_beat, args=(settings,), daemon=True).start()
    failing = False
    while True:
        connection = redis.Redis.from_url(settings.queue_url or settings.redis_url, protocol=2)
        try:
            asyncio.run(_check(settings, secrets))
            worker = Worker([jobs.queue(connection)], connection=connection)
            worker.work(logging_level="WARNING")
            if worker.was_told:
                return
        except (redis.RedisError, StoreAwayError) as error:  # away, or full, or a replica
            if not failing:
                log.error("worker: Redis cannot be worked with: %s", error)
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


def _beat(settings: Settings) -> None:
    """Signs of life, for /readyz."""
    store = connect(settings.redis_url)
    name = f"{socket.gethostname()}:{os.getpid()}"
    while True:
        now = time.time()
        try:
            store.zadd(keys.WORKERS, {name: now})
            store.zremrangebyscore(keys.WORKERS, 0, now - 60)
            store.zremrangebyscore(keys.WORKERS, now + keys.SKEW, "+inf")
        except Exception:  # noqa: S110 - the worker itself says so
            pass
        time.sleep(BEAT)


class Schedule:
    """The safety net: looks each second for shards with hits that no roll-up took."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Short waits: whoever calls `tick` has children to look after.
        self._store: Redis = connect(settings.redis_url, timeout=0.5)
        self._jobs: Queue = jobs.queue(connect(settings.queue_url or settings.redis_url, timeout=0.5))
        self._rewriter = Rewriter(settings)
        self._asked: dict[str, int] = {}
        self._failing = False

    def tick(self, now: float) -> None:
        """Asks for a roll-up of each shard with hits, the chores of the minute, retention, a rewrite."""
        try:
            pipe = self._store.pipeline(transaction=False)
            for shard in range(self._settings.shards):
                pipe.xlen(keys.hits(shard))
                pipe.hget(keys.turn(shard), "id")
            lengths, counted = (found[i::2] for found in [pipe.execute()] for i in range(2))
            waiting = [shard for shard, length in enumerate(lengths) if length]
            jobs.ask_rollups(self._jobs, waiting, now)
            for function, seconds in jobs.EVERY.items():
                if self._asked.get(function) != int(now) // seconds:
                    jobs.ask(self._jobs, function, now)
                    self._asked[function] = int(now) // seconds
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
