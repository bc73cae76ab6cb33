"""The log of each process: lines on standard error, each with the name of an event.

A module writes with a `Log`: `log.warning("redis-away", "Redis does not answer: %(error)s", error=error)`.
The text form shows the sentence, and behind it the fields that the sentence does not show. The JSON form
shows the sentence and all fields.

No line holds an address, a user agent, a token or a key, because nothing that could hold one is written:
- The text of an exception is written only if its class is known to be safe: see `describe`. Of all others the
  line has the class and the place.
- A traceback is a list of places, without texts and without source lines.
- Of a line that a library logs, only its constant words and its numbers are written: see `_library_line`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

Value = str | int | float | Path | BaseException | None
"""A field's value. Give an exception itself, not its text: `describe` knows what may be shown of it."""
Level = Literal["debug", "info", "warning", "error"]
FORMS = ("text", "json")
LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error")

HEAD = ("time", "level", "process", "pid", "event", "message")
"""Names that every line in JSON has. No field has one of these names."""
BURST = 10
"""Number of lines of one event that may be written at once."""
REFILL_SECONDS = 60.0
"""Seconds after which one more line of the same event may be written."""
MAX_VALUE_CHARACTERS = 1000
"""Characters of a field's value that are written."""
MAX_PLACES = 12
"""Places of a traceback that are written: the innermost."""
_LIBRARY_LEVELS = {
    **{"uvicorn.error": logging.ERROR, "mail.log": logging.ERROR},
    **{"rq": logging.WARNING, "rq.worker": logging.WARNING},
}
"""Lowest level of libraries that are talkative. uvicorn warns of each malformed request, and aiosmtpd, whose
log is `mail.log`, of each unknown command, so a stranger could fill the log. RQ
sets the level of `rq.worker` itself if it has none. With PIXEL_LOG_LEVEL=debug, all lines are written."""
_OWN_PACKAGES = ("pixel_server", "workers")


class Log:
    """Writes the lines of one module: `log = Log(__name__)`.

    event: the name of what happened, such as `"redis-away"`. A name has one meaning, and so one sentence.
    sentence: what happened and what to do, with fields as in `"%(hits)d hits wait"`. exc: an exception whose
    class and places the line gets. docs/logs.md lists all events; tests/test_log_events.py checks them.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, sentence: str, /, **fields: Value) -> None:
        self._write(logging.DEBUG, event, sentence, None, fields)

    def info(self, event: str, sentence: str, /, **fields: Value) -> None:
        self._write(logging.INFO, event, sentence, None, fields)

    def warning(
        self, event: str, sentence: str, /, *, exc: BaseException | None = None, **fields: Value
    ) -> None:
        self._write(logging.WARNING, event, sentence, exc, fields)

    def error(
        self, event: str, sentence: str, /, *, exc: BaseException | None = None, **fields: Value
    ) -> None:
        self._write(logging.ERROR, event, sentence, exc, fields)

    def critical(
        self, event: str, sentence: str, /, *, exc: BaseException | None = None, **fields: Value
    ) -> None:
        """Writes a line on something that ends this process. Its level in the log is `critical`."""
        self._write(logging.CRITICAL, event, sentence, exc, fields)

    def _write(
        self,
        level: int,
        event: str,
        sentence: str,
        exc: BaseException | None,
        fields: Mapping[str, Value],
    ) -> None:
        if not self._logger.isEnabledFor(level):
            return
        shown = {name: _shown(value) for name, value in fields.items()}
        message = sentence % shown if shown else sentence
        own = _Event(event, sentence, shown, exc)
        self._logger.log(level, "%s", message, extra={"own": own}, stacklevel=3)


def describe(error: BaseException) -> str:
    """Returns what may be logged of an exception.

    That is its text if the class has `is_loggable`, or is an OSError or an error of redis-py; of the latter
    without the command that failed, because its arguments may name a recipient. Of every other class it is
    the name and the place: `"ValueError at workers/fold.py:41"`, because its text may quote a value.
    """
    if getattr(error, "is_loggable", False) or isinstance(error, OSError):
        return str(error) or type(error).__name__
    modules = {base.__module__.partition(".")[0] for base in type(error).__mro__}
    is_of_redis = not modules.isdisjoint(("redis", "hiredis"))
    if is_of_redis and type(error).__name__ not in ("InvalidResponse", "ProtocolError", "DataError"):
        return _without_command(str(error)) or type(error).__name__
    places = _places(error)
    return f"{type(error).__name__} at {places[-1]}" if places else type(error).__name__


def _without_command(text: str) -> str:
    """Returns the text of an error of Redis without the arguments of the command."""
    text = re.sub(r"^Command # \d+ \(.*\) of pipeline caused error: ", "", text, flags=re.DOTALL)
    return re.sub(r",? with args beginning with:.*", "", text, flags=re.DOTALL)


def _shown(value: Value) -> str | int | float | None:
    """Returns a value as it is written."""
    if isinstance(value, BaseException):
        value = describe(value)
    if isinstance(value, float):
        return round(value, 3)
    if value is None or isinstance(value, int):
        return value
    return str(value)[:MAX_VALUE_CHARACTERS]


def _places(error: BaseException) -> list[str]:
    """Returns where an exception was raised, outermost first: `["pixel_server/cli.py:7", ...]`."""
    frames = traceback.walk_tb(error.__traceback__)
    return [f"{_short_path(frame.f_code.co_filename)}:{line}" for frame, line in frames]


def _short_path(path: str) -> str:
    """Returns a file's path without the directory that it is installed in: `"workers/fold.py"`."""
    return re.sub(r"^.*/(?:site-packages|python3\.\d+)/|^.*/(?=(?:pixel_server|workers)/)", "", path)


def _exception_fields(error: BaseException | None) -> dict[str, str]:
    """Returns the fields on an exception: its class, the classes that caused it, and the places."""
    if error is None:
        return {}
    classes: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(classes) < MAX_PLACES:
        classes.append(type(cause).__name__)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    places = " > ".join(_places(error)[-MAX_PLACES:])
    return {"exception": " from ".join(classes), "traceback": places}


class _Event(NamedTuple):
    """Event and fields of a record of this project, beside its message."""

    name: str
    sentence: str
    fields: dict[str, str | int | float | None]
    error: BaseException | None


class _Line(NamedTuple):
    """A line of the log. in_sentence: names of the fields that the message shows."""

    time: str
    level: str
    process: str
    pid: int
    event: str
    message: str
    fields: dict[str, Any]
    in_sentence: frozenset[str]


def _line(record: logging.LogRecord, process: str) -> _Line:
    """Returns the line of a record of this project or of a library."""
    own: _Event | None = getattr(record, "own", None)
    if own is not None:
        event, message, error = own.name, record.getMessage(), own.error
        fields: dict[str, Any] = dict(own.fields)
        in_sentence = frozenset(re.findall(r"%\((\w+)\)", own.sentence))
    else:
        event, message, fields, error = _library_line(record)
        in_sentence = frozenset()
    fields |= _exception_fields(error)
    if left_out := getattr(record, "left_out", 0):
        fields["left_out"] = left_out
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    level, pid = record.levelname.lower(), record.process or os.getpid()
    return _Line(at.replace("+00:00", "Z"), level, process, pid, event, message, fields, in_sentence)


def _library_line(
    record: logging.LogRecord,
) -> tuple[str, str, dict[str, Any], BaseException | None]:
    """Returns event, message, fields and exception of a record that a library has logged.

    A library may log what a stranger sent. Of a message with arguments, only numbers are filled in. A message
    without arguments may have been put together before: it ends where the first value could begin.
    """
    package = record.name.partition(".")[0]
    event = f"library-{package}" if package in ("uvicorn", "rq", "asyncio", "redis") else "library"
    template = str(record.msg)
    if isinstance(record.args, tuple) and record.args:
        message = template
        for value in record.args:
            shown = str(value) if isinstance(value, int | float) else "..."
            message = re.sub(r"%[-#0 +.\d]*[a-zA-Z]", shown, message, count=1)
    else:
        words = re.match(r"[A-Za-z ,.;'-]*", template)
        message = words[0] if words else ""
    error = record.exc_info[1] if record.exc_info else None
    if error is None and record.levelno >= logging.ERROR:
        error = sys.exc_info()[1]
    place = f"{_short_path(record.pathname)}:{record.lineno}"
    return event, message.strip() or "...", {"logger": record.name, "place": place}, error


class _TextFormatter(logging.Formatter):
    """Formats a line as text: `2027-01-31T08:00:00.000Z warning web[7] redis-away: Redis ... shard=3`."""

    def format(self, record: logging.LogRecord) -> str:
        line = _line(record, _State.process)
        rest = {name: value for name, value in line.fields.items() if name not in line.in_sentence}
        fields = "".join(f" {name}={_quoted(value)}" for name, value in rest.items())
        message = _printable(line.message)
        return f"{line.time} {line.level} {line.process}[{line.pid}] {line.event}: {message}{fields}"


class _JsonFormatter(logging.Formatter):
    """Formats a line as a JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        line = _line(record, _State.process)
        head = {name: getattr(line, name) for name in HEAD}
        return json.dumps({**head, **line.fields})


def _printable(text: str) -> str:
    """Returns a text in which a line break and each other control character is escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _quoted(value: object) -> str:
    """Returns a value, in quotes if it is a text that has spaces or quotes, or is empty."""
    text = str(value)
    return text if re.fullmatch(r"[^\s\"=]+", text) and text.isprintable() else json.dumps(text)


class RateLimit(logging.Filter):
    """Limits the lines of each event, so that an unstable Redis cannot fill the disk with log lines.

    Lines of INFO and below are not limited. After lines of an event were left out, its next line has their
    number in the field `left_out`. clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        # For each event: number of lines that may be written, time at which it was computed, number left out.
        self._events: dict[str, tuple[float, float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether to write a line. Adds the number of lines of its event that were left out."""
        if record.levelno <= logging.INFO:
            return True
        own: _Event | None = getattr(record, "own", None)
        event = f"{record.pathname}:{record.lineno}" if own is None else own.name
        now = self._clock()
        allowance, since, left_out = self._events.get(event, (float(BURST), now, 0))
        allowance = min(float(BURST), allowance + (now - since) / REFILL_SECONDS)
        if allowance < 1:
            self._events[event] = allowance, now, left_out + 1
            return False
        self._events[event] = allowance - 1, now, 0
        record.left_out = left_out
        return True


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines to standard error."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name of logging
        """Drops a line that cannot be written. logging would print the values of the line."""


class _State:
    """Name of this process in its lines, and the form in which it writes them."""

    process = "command"
    form = "text"


def configure(environ: Mapping[str, str] = os.environ) -> None:
    """Configures the log of this process by PIXEL_LOG and PIXEL_LOG_LEVEL.

    An unusable value counts as the default here; `Settings.from_env` reports it. Does nothing if the log is
    configured already, as in a test.
    """
    root = logging.getLogger()
    if root.handlers:
        return
    _State.form = parse_form(environ)
    handler = _Handler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if is_json() else _TextFormatter())
    handler.addFilter(RateLimit())
    root.addHandler(handler)
    level = getattr(logging, parse_level(environ).upper())
    root.setLevel(level)
    for name, lowest in _LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(level if level == logging.DEBUG else max(level, lowest))
    _report_uncaught()


def parse_form(environ: Mapping[str, str]) -> str:
    """Returns PIXEL_LOG, or the default `"text"` if it is not a form."""
    form = environ.get("PIXEL_LOG", "").strip().lower()
    return form if form in FORMS else "text"


def parse_level(environ: Mapping[str, str]) -> str:
    """Returns PIXEL_LOG_LEVEL, or the default `"info"` if it is not a level."""
    level = environ.get("PIXEL_LOG_LEVEL", "").strip().lower()
    return level if level in LEVELS else "info"


def is_json() -> bool:
    """Returns whether this process writes its lines in JSON."""
    return _State.form == "json"


def set_process(name: Literal["up", "web", "pages", "worker", "schedule", "relay", "metrics"]) -> None:
    """Sets what this process calls itself in its lines. Without it a process is `command`."""
    _State.process = name


def leave_out(logger: str, is_expected: Callable[[BaseException], bool]) -> None:
    """Leaves out what a library logs of an exception that is expected, or while it handles one.

    logger: the library's logger, such as `"rq.worker"`.
    """

    def is_unexpected(record: logging.LogRecord) -> bool:
        error = (record.exc_info or sys.exc_info())[1]
        return error is None or not is_expected(error)

    logging.getLogger(logger).addFilter(is_unexpected)


log = Log(__name__)


def _report_uncaught() -> None:
    """Logs exceptions that nothing has caught, and Python's warnings, in place of printing them."""
    sys.excepthook = lambda kind, error, trace: _log_uncaught(error)
    threading.excepthook = lambda caught: _log_uncaught(caught.exc_value)
    sys.unraisablehook = lambda caught: log.error(
        "exception-ignored", "Python has ignored an exception", exc=caught.exc_value
    )
    warnings.showwarning = _log_python_warning


def _log_uncaught(error: BaseException | None) -> None:
    log.critical(
        "exception-uncaught",
        "nothing has caught an exception: please report this line",
        exc=error,
    )


def _log_python_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Logs class and place of a warning. Its text may quote a value."""
    place = f"{_short_path(filename)}:{lineno}"
    log.warning(
        "python-warning", "Python warns: %(category)s at %(place)s", category=category.__name__, place=place
    )
