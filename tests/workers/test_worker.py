"""The log of a worker."""

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
