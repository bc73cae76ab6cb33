"""The log of each process: lines on standard error, with a limit on lines of the same kind."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
BURST = 10
"""Number of lines of one kind that may be written at once."""
REFILL_SECONDS = 60.0
"""Seconds after which one more line of the same kind may be written."""


def configure() -> None:
    """Configures the log of this process: INFO and above, but for uvicorn and RQ only WARNING and above."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RateLimit())
    logging.basicConfig(level=logging.INFO, format=FORMAT, handlers=[handler])
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("rq").setLevel(logging.WARNING)


class RateLimit(logging.Filter):
    """Limits the lines of each kind, so that an unstable Redis cannot fill the disk with log lines.

    A kind is a logger and a message before its values are filled in. Lines of INFO and below are not limited.
    After lines of a kind were left out, the next line of this kind ends with their number. clock: returns
    seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        # For each kind: number of lines that may be written, time at which it was computed, number left out.
        self._kinds: dict[tuple[str, str], tuple[float, float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether to write a line. Adds the number of lines of its kind that were left out before."""
        if record.levelno <= logging.INFO:
            return True
        kind, now = (record.name, str(record.msg)), self._clock()
        allowance, since, left_out = self._kinds.get(kind, (float(BURST), now, 0))
        allowance = min(float(BURST), allowance + (now - since) / REFILL_SECONDS)
        if allowance < 1:
            self._kinds[kind] = allowance, now, left_out + 1
            return False
        self._kinds[kind] = allowance - 1, now, 0
        if left_out:
            record.msg = f"{record.getMessage()} ({left_out} more like this were not written)"
            record.args = ()
        return True
