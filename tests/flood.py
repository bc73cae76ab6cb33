"""A client that requests a web pixel again and again."""

from __future__ import annotations

import threading
from collections import Counter

from tests.stack import Stack


class Flood(threading.Thread):
    """Requests a web pixel again and again. answers: number of answers of each kind."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(daemon=True)
        self._stack = stack
        self._is_stopped = threading.Event()
        self.answers: Counter[tuple[int, str]] = Counter()
        self.start()

    def run(self) -> None:
        while not self._is_stopped.wait(0.005):
            self.answers[self._stack.get("/p/site.gif")] += 1

    def stop(self) -> None:
        self._is_stopped.set()
        self.join()
