"""The limit on log lines of the same kind."""

from __future__ import annotations

import logging

from pixel_server import logs


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def line(text: str, *values: object, level: int = logging.ERROR, name: str = "a") -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, text, values, None)


def test_rate_limit_redis_flaps_for_a_day_writes_few_lines_and_the_number_left_out():
    clock = Clock()
    sparse = logs.RateLimit(clock)
    written = []
    for second in range(86_400):
        clock.now = float(second)
        for record in (line("away: %s", second), line("back, after %.1f s", 0.5, level=logging.WARNING)):
            if sparse.filter(record):
                written.append(record.getMessage())
    assert written[:2] == ["away: 0", "back, after 0.5 s"]
    assert len(written) <= 2 * (logs.BURST + 86_400 / logs.REFILL_SECONDS)
    assert written[-1].endswith("(59 more like this were not written)")


def test_rate_limit_kind_exhausted_writes_other_kinds_and_info():
    sparse = logs.RateLimit(Clock())
    while sparse.filter(line("away: %s", 1)):
        pass
    assert sparse.filter(line("shard %d lost %d batches", 1, 2))
    assert sparse.filter(line("away: %s", 1, name="b"))
    assert all(sparse.filter(line("made a key", level=logging.INFO)) for _ in range(100))


def test_rate_limit_percent_in_a_value_is_written_as_it_is():
    clock = Clock()
    sparse = logs.RateLimit(clock)
    while sparse.filter(line("refused: %s", "100 %s")):
        pass
    clock.now = logs.REFILL_SECONDS
    record = line("refused: %s", "100 %s")
    assert sparse.filter(record)
    assert record.getMessage() == "refused: 100 %s (1 more like this were not written)"
