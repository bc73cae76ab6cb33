"""Heartbeats of a worker."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from redis import ConnectionError as RedisConnectionError

from pixel_server import lifeline
from pixel_server.secret import Secrets
from pixel_server.store import hosts, keys
from tests.redis_states import full
from workers import heartbeat, maintenance, retention, rollup
from workers.context import context


@pytest.fixture
def beats(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """Gives this process a lifeline. Returns a function that returns the number of new heartbeats."""
    parents_end, childs_end = socket.socketpair()
    parents_end.setblocking(False)
    monkeypatch.setattr(lifeline, "_childs_end", childs_end.fileno())
    monkeypatch.setattr(lifeline, "BEAT_SECONDS", 0.01)

    def read() -> int:
        try:
            return len(parents_end.recv(1 << 16))
        except BlockingIOError:
            return 0

    with parents_end, childs_end:
        yield read


@pytest.fixture
def jobs_here(settings, environment) -> Iterator[None]:
    """Lets the jobs of this process use the store of the test."""
    Secrets.load_or_create(settings.data)
    context.cache_clear()
    yield
    context.cache_clear()


def test_progress_worker_stalled_sends_no_heartbeat(client, settings, secrets, monkeypatch):
    progress = heartbeat.Progress(settings, secrets)
    with full(client):
        progress.step(client)
    assert client.zcard(keys.WORKERS) == 1
    (host,) = hosts.parse(client.hgetall(keys.HOSTS))
    assert (host.kind, host.has_spool, host.settings["PIXEL_SHARDS"]) == (
        "worker",
        False,
        hosts.fingerprints(settings, secrets, "web")["PIXEL_SHARDS"],
    )
    client.delete(keys.WORKERS)
    monkeypatch.setattr(heartbeat, "STALLED_SECONDS", 0.0)
    progress.step(client)
    assert client.zcard(keys.WORKERS) == 0


def test_progress_redis_away_tells_the_parent(client, settings, secrets, beats, monkeypatch):
    """The parent does not kill a worker that waits for Redis."""
    progress = heartbeat.Progress(settings, secrets)
    progress.step(client)
    assert beats() == 0, "only work counts while Redis answers"

    def refuse() -> None:
        raise RedisConnectionError

    monkeypatch.setattr(client, "time", refuse)
    progress.step(client)
    assert beats() == 1


@pytest.mark.parametrize(("job", "part"), [(retention, "step"), (maintenance, "_finish")])
def test_long_job_sends_heartbeats(client, jobs_here, beats, monkeypatch, job, part):
    """The job goes on until it has sent ten heartbeats, as if a campaign were very big."""

    async def wait_for_beats(*_: object) -> None:
        async with asyncio.timeout(20):
            count = 0
            while count < 10:
                await asyncio.sleep(0.01)
                count += beats()

    monkeypatch.setattr(job, part, wait_for_beats)
    job.run()


def test_rollup_sends_a_heartbeat_each_pass(client, settings, secrets, beats):
    rollup.drain_shards(client, settings, secrets, [0, 1], math.inf, time.time)
    assert beats() == 2


def test_prune_producers_sends_a_heartbeat_each_shard(client, settings, beats):
    maintenance.prune_producers(client, replace(settings, shards=4), 1_790_000_000.0)
    assert beats() == 4


def test_beat_parent_away_or_not_reading_never_blocks(beats, monkeypatch):
    os.set_blocking(lifeline._childs_end, False)
    for _ in range(100_000):
        lifeline.beat()
    assert beats() > 0
    monkeypatch.setattr(lifeline, "_childs_end", os.open(os.devnull, os.O_RDONLY))
    lifeline.beat()
    os.close(lifeline._childs_end)
