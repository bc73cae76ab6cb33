"""What a worker's log says, and what it leaves to others."""

from __future__ import annotations

import logging

import pytest
import redis

from workers import worker


@pytest.mark.parametrize("kind", [redis.TimeoutError, redis.ConnectionError, redis.ReadOnlyError])
def test_rq_does_not_say_what_others_say_in_a_line(kind: type[Exception], caplog: pytest.LogCaptureFixture):
    """As RQ does it, from within `except`: in a line, with its stack, or with one that it has written out."""
    log = logging.getLogger("rq.of.this.test")
    log.addFilter(worker._is_news)
    for raised in (kind("away"), redis.ResponseError("a fault of ours")):
        try:
            raise raised
        except redis.RedisError as error:
            log.error("could not connect: %s retrying in %d seconds...", error, 2)
            log.error("quitting...", exc_info=True)
            log.error("job %s: %s", "retention", "Traceback ...")
    log.error("of another kind")
    assert [record.getMessage() for record in caplog.records] == [
        "could not connect: a fault of ours retrying in 2 seconds...",
        "quitting...",
        "job retention: Traceback ...",
        "of another kind",
    ]
