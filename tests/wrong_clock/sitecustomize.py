"""Gives a process a wrong clock: Python imports this at its start if this folder is in PYTHONPATH.

The file WRONG_CLOCK_FILE holds the seconds by which the clock is ahead. A test may change the file while the
process runs. `time.time`, `time.time_ns` and `datetime.now` are shifted. `time.monotonic` is not, as on a
machine whose clock was set wrong.
"""

from __future__ import annotations

import datetime
import os
import time

_time, _time_ns, _monotonic = time.time, time.time_ns, time.monotonic
_datetime = datetime.datetime
_path = os.environ["WRONG_CLOCK_FILE"]
_ahead, _read_at = 0.0, -1.0


def _shift() -> float:
    global _ahead, _read_at  # noqa: PLW0603
    if _monotonic() - _read_at > 0.02:
        _read_at = _monotonic()
        try:
            with open(_path) as file:
                _ahead = float(file.read() or 0)
        except (OSError, ValueError):
            pass  # it is being written
    return _ahead


class _Meta(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _datetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _datetime)


class _Wrong(_datetime, metaclass=_Meta):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> _datetime:  # type: ignore[override]
        return _datetime.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> _datetime:  # type: ignore[override]
        return _datetime.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)


time.time = lambda: _time() + _shift()
time.time_ns = lambda: _time_ns() + int(_shift() * 1e9)
datetime.datetime = _Wrong  # type: ignore[misc]
