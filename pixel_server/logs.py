"""The log of each process: lines on standard error, and not the same kind of line without end."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
BURST = 10
"""Lines of one kind that are written at once; after that one for each EVERY that has passed."""
EVERY = 60.0


def begin() -> None:
    """Of this process: from INFO on, of others' packages from WARNING on."""
    logging.basicConfig(level=logging.INFO, format=FORMAT, stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.addFilter(Sparse())
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("rq").setLevel(logging.WARNING)


class Sparse(logging.Filter):
    """Bounds what a Redis that comes and goes for a day writes. A kind: logger and text before its values.

    The next line of a kind that is written says how many were not. clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[tuple[str, str], tuple[float, float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.INFO:
            return True
        kind, now = (record.name, str(record.msg)), self._clock()
        left, since, hidden = self._kinds.get(kind, (float(BURST), now, 0))
        left = min(float(BURST), left + (now - since) / EVERY)
        if left < 1:
            self._kinds[kind] = left, now, hidden + 1
            return False
        self._kinds[kind] = left - 1, now, 0
        if hidden:
            record.msg = f"{record.getMessage()} ({hidden} more like this were not written)"
            record.args = ()
        return True
