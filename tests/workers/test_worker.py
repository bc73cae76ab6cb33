"""The log of a worker, and how it is told to stop."""

from __future__ import annotations

import logging

import pytest
import redis

from pixel_server import logs
from workers import worker


@pytest.mark.parametrize("kind", [redis.TimeoutError, redis.ConnectionError, redis.ReadOnlyError])
def test_worker_log_expected_error_of_redis_is_left_out(
    kind: type[Exception], caplog: pytest.LogCaptureFixture
):
    """RQ logs within `except`: the error in a line, its stack, or a stack that RQ has written out."""
    log = logging.getLogger("rq.of.this.test")
    logs.leave_out(log.name, worker._is_expected)
    for raised in (kind("away"), redis.ResponseError("a fault of ours")):
        try:
            raise raised
        except redis.RedisError as error:
            log.error("could not connect: %s retrying in %d seconds...", error, 2)
            log.error("quitting...", exc_info=True)
            log.error("job %s: %s", "retention", "Traceback ...")
    log.error("not about an exception")
    assert [record.getMessage() for record in caplog.records] == [
        "could not connect: a fault of ours retrying in 2 seconds...",
        "quitting...",
        "job retention: Traceback ...",
        "not about an exception",
    ]


@pytest.mark.parametrize(("is_away", "seconds"), [(True, []), (False, [worker.STOP_TIMEOUT_SECONDS])])
def test_worker_told_to_stop_ends_at_once_without_redis(monkeypatch, redis_url, is_away, seconds):
    slept: list[float] = []

    def end(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(worker.os, "_exit", end)
    monkeypatch.setattr(worker.time, "sleep", slept.append)
    with pytest.raises(SystemExit):
        worker._end_in_time("redis://127.0.0.1:1/0" if is_away else redis_url)
    assert slept == seconds
