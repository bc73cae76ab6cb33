"""What the worker's own log says while Redis is away."""

from __future__ import annotations

import logging

import pytest
import redis

from workers import work


def test_rq_says_once_a_minute_that_redis_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """As RQ does it, from within `except`: in a line, with its stack, or with one that it has written out."""
    now = 1000.0
    monkeypatch.setattr(work.time, "monotonic", lambda: now)
    log = logging.getLogger("rq.of.this.test")
    log.addFilter(work._News())
    for _ in range(3):
        try:
            raise redis.TimeoutError("Timeout reading from socket")
        except redis.TimeoutError as error:
            log.error("could not connect: %s retrying in %d seconds...", error, 2)
            log.error("quitting...", exc_info=True)
            log.error("job %s: %s", "retention", "Traceback ...")
        now += 40
    log.error("of another kind")
    assert [record.getMessage() for record in caplog.records] == [
        "could not connect: Timeout reading from socket retrying in 2 seconds...",
        "could not connect: Timeout reading from socket retrying in 2 seconds...",
        "of another kind",
    ]
