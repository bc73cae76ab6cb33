"""The lines of the log: both forms, what they leave out, and the limit on lines of the same event."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

import pytest
import redis

from pixel_server import logs
from pixel_server.counters.stored_format import NewerFormat

SECRET = "ada@example.org"
"""A value that no line may hold."""
log = logs.Log("tests")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


Configure = Callable[..., Callable[[], list[str]]]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Configure]:
    """Configures the log as a process does. Returns a function that returns the lines written so far."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    libraries = {name: logging.getLogger(name).level for name in logs._LIBRARY_LEVELS}
    for module, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(logs._State, "form", "text")
    monkeypatch.setattr(logs._State, "process", "command")
    written = io.StringIO()

    def set_up(**environ: str) -> Callable[[], list[str]]:
        root.handlers.clear()
        monkeypatch.setattr(sys, "stderr", written)
        logs.configure(environ)
        return lambda: written.getvalue().splitlines()

    yield set_up
    root.handlers[:], level = before
    root.setLevel(level)
    for name, level in libraries.items():
        logging.getLogger(name).setLevel(level)


def write_one_of_each() -> None:
    log.warning("hits-late", "%(hits)d hits wait", hits=3, path="a b", seconds=1.23456)
    log.debug("detail", "only at the level debug")
    try:
        int(SECRET)
    except ValueError as error:
        log.error("broken", "cannot read a value: %(error)s", error=error, exc=error)


def test_logs_both_forms_have_the_same_events_and_fields(configure):
    text = configure()
    write_one_of_each()
    first, second = text()
    head = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (warning|error) command\[\d+\] "
    assert re.fullmatch(head + r'hits-late: 3 hits wait path="a b" seconds=1.235', first)
    assert re.fullmatch(
        head + r"broken: cannot read a value: ValueError at \S*tests/test_logs.py:\d+ "
        r"exception=ValueError traceback=\S*tests/test_logs.py:\d+",
        second,
    )
    configured = configure(PIXEL_LOG="JSON")
    write_one_of_each()
    first, second = (json.loads(line) for line in configured()[2:])
    assert list(first) == [*logs.HEAD, "hits", "path", "seconds"]
    assert (first["level"], first["event"], first["message"]) == ("warning", "hits-late", "3 hits wait")
    assert (first["hits"], first["path"], first["seconds"]) == (3, "a b", 1.235)
    assert list(second) == [*logs.HEAD, "error", "exception", "traceback"]


@pytest.mark.parametrize(
    ("level", "events"),
    [("debug", ["hits-late", "detail", "broken"]), ("ERROR", ["broken"]), ("", ["hits-late", "broken"])],
)
def test_logs_level_leaves_out_lower_levels(configure, level, events):
    written = configure(PIXEL_LOG="json", PIXEL_LOG_LEVEL=level)
    write_one_of_each()
    assert [json.loads(line)["event"] for line in written()] == events


@pytest.mark.parametrize("form", ["text", "json"])
def test_logs_uncaught_exceptions_and_warnings_are_lines_without_values(configure, form):
    written = configure(PIXEL_LOG=form)

    def fail() -> None:
        int(SECRET)

    class Resource:
        def __del__(self) -> None:
            fail()

    async def fail_in_task() -> None:
        asyncio.get_running_loop().call_soon(fail)
        await asyncio.sleep(0)

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    Resource()
    asyncio.run(fail_in_task())
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = logs._log_python_warning
        warnings.warn(SECRET, stacklevel=1)
    try:
        fail()
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    events = ["exception-uncaught", "exception-ignored", "library-asyncio", "python-warning"]
    assert [event in line for event, line in zip([*events, events[0]], written(), strict=True)] == [True] * 5
    assert not [line for line in written() if SECRET in line]


def test_logs_library_line_has_constant_words_and_numbers_only(configure):
    written = configure(PIXEL_LOG="json", PIXEL_LOG_LEVEL="debug")
    logging.getLogger("uvicorn.error").debug("%s - HTTP connection %d made", SECRET, 7)
    logging.getLogger("rq.worker").warning(f"Job of {SECRET} failed")
    try:
        int(SECRET)
    except ValueError:
        logging.getLogger("other").error("Traceback (most recent call last)")
    first, second, third = (json.loads(line) for line in written())
    assert (first["event"], first["message"]) == ("library-uvicorn", "... - HTTP connection 7 made")
    assert (second["event"], second["logger"]) == ("library-rq", "rq.worker")
    assert (third["event"], third["exception"]) == ("library", "ValueError")
    assert not [line for line in written() if SECRET in line]


def test_logs_talkative_libraries_are_quiet_unless_debug(configure):
    written = configure()
    for name in ("uvicorn.error", "rq.worker"):
        logging.getLogger(name).info("hello")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    assert written() == []


def test_logs_line_break_in_a_value_stays_in_its_line(configure):
    written = configure()
    log.info("named", "the name is %(name)s", name="a\nb\x1b[31m", other="c\nd")
    [line] = written()
    assert line.endswith(r'the name is a\nb\x1b[31m other="c\nd"')


def test_logs_stderr_closed_raises_nothing(configure):
    configure()
    sys.stderr.close()
    log.error("broken", "nobody reads this")


def pipeline_error() -> redis.ResponseError:
    return redis.ResponseError(
        f"Command # 1 (HSET px:1 {SECRET} 1) of pipeline caused error: WRONGTYPE Operation"
    )


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError(SECRET), "ValueError"),
        (KeyError(SECRET), "KeyError"),
        (redis.exceptions.InvalidResponse(SECRET), "InvalidResponse"),
        (pipeline_error(), "WRONGTYPE Operation"),
        (
            redis.ResponseError(f"unknown command 'X', with args beginning with: '{SECRET}'"),
            "unknown command 'X'",
        ),
        (redis.ConnectionError("Connection refused"), "Connection refused"),
        (redis.TimeoutError(), "TimeoutError"),
        (
            FileNotFoundError(2, "No such file or directory", "/x"),
            "[Errno 2] No such file or directory: '/x'",
        ),
        (NewerFormat("a note of format 9"), "a note of format 9"),
    ],
)
def test_describe_shows_no_value_of_an_unknown_error(error, text):
    assert logs.describe(error) == text


def test_describe_raised_error_has_its_place():
    with pytest.raises(ValueError, match="ada") as caught:
        int(SECRET)
    assert re.fullmatch(r"ValueError at \S*tests/test_logs.py:\d+", logs.describe(caught.value))


def record(event: str, level: int = logging.ERROR) -> logging.LogRecord:
    made = logging.LogRecord("a", level, __file__, 1, "a line", (), None)
    made.own = logs._Event(event, "a line", {}, None)
    return made


def test_rate_limit_redis_flaps_for_a_day_writes_few_lines_and_the_number_left_out():
    clock = Clock()
    sparse = logs.RateLimit(clock)
    written = []
    for second in range(86_400):
        clock.now = float(second)
        for made in (record("redis-away"), record("redis-back", logging.WARNING)):
            if sparse.filter(made):
                written.append(made)
    assert len(written) <= 2 * (logs.BURST + 86_400 / logs.REFILL_SECONDS)
    assert (written[0].left_out, written[-1].left_out) == (0, 59)
    assert logs._line(written[-1], "web").fields == {"left_out": 59}


def test_rate_limit_event_exhausted_writes_other_events_and_info():
    sparse = logs.RateLimit(Clock())
    while sparse.filter(record("redis-away")):
        pass
    assert sparse.filter(record("batches-lost"))
    assert all(sparse.filter(record("redis-away", logging.INFO)) for _ in range(100))


def test_leave_out_of_a_library_also_what_it_logs_after_the_exception(caplog: pytest.LogCaptureFixture):
    logger = logging.getLogger("tests.a-library")
    logs.leave_out(logger.name, lambda error: isinstance(error, socket.gaierror))
    for error in (socket.gaierror(-2, "unknown"), OSError("other")):
        logger.error("never retrieved", exc_info=error)
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info] == [("other",)]
