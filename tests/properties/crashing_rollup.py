"""A roll-up that is killed at chosen commands, over a stream that is cut into chosen batches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from pixel_server import hit
from pixel_server.hit import Hit
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import keys
from tests.conftest import ANY_YEAR, NOW
from workers.rollup_pass import Outcome, Rollup

Step = tuple[int, bool]
"""(number of a command from 1 on, whether it is meant after the command was carried out)"""


def steps(commands: int) -> st.SearchStrategy[Step]:
    """Returns the strategy of steps among so many commands."""
    return st.tuples(st.integers(1, commands), st.booleans())


cuts_of_a_stream = st.lists(st.integers(1, 9), min_size=1, max_size=8)
"""Sizes of batches, taken in turn."""


class Killed(BaseException):
    """The process was killed."""


def kill() -> None:
    raise Killed


class Wire:
    """A client that acts at chosen steps: before a command is sent, or after it was carried out."""

    def __init__(self, client: Any, acts: dict[Step, Callable[[], None]]) -> None:
        self._client = client
        self._acts = acts
        self.commands = 0

    def __getattr__(self, name: str) -> Any:
        if name == "pipeline":
            return self._pipeline
        return lambda *args, **options: self._send(lambda: getattr(self._client, name)(*args, **options))

    def _pipeline(self, **options: Any) -> Any:
        pipe = self._client.pipeline(**options)
        execute = pipe.execute
        pipe.execute = lambda: self._send(execute)
        return pipe

    def _send(self, command: Callable[[], Any]) -> Any:
        self.commands += 1
        number = self.commands
        self._acts.get((number, False), lambda: None)()
        result = command()
        self._acts.get((number, True), lambda: None)()
        return result


def store_in_batches(client: Any, hits: Sequence[Hit], cuts: Sequence[int]) -> None:
    """Stores hits in the stream of shard 0, in batches of the sizes `cuts`."""
    rest = list(hits)
    for i in range(len(hits)):
        size = cuts[i % len(cuts)]
        batch, rest = rest[:size], rest[size:]
        if batch:
            data = hit.encode_batch([hit.encode(stored) for stored in batch])
            client.xadd(keys.hits(0), {str(hit.FORMAT): data})


def count_all(client: Any, settings: Settings, secrets: Secrets, max_entries: int) -> None:
    """Rolls up shard 0, in passes of so many entries, until nothing more is counted."""
    rollup = Rollup(client, settings, secrets, 0, max_entries=max_entries, max_ahead_ms=ANY_YEAR)
    while rollup.run_pass(NOW) is Outcome.COUNTED:
        pass


def count_all_with_crashes(
    client: Any, settings: Settings, secrets: Secrets, crashes: Sequence[Step]
) -> None:
    """Rolls up shard 0. Each roll-up is killed at one of the crashes, and the next begins anew."""
    for number, crash in enumerate([*crashes, None]):
        with contextlib.suppress(Killed):
            wire = Wire(client, {crash: kill} if crash else {})
            count_all(wire, settings, secrets, 1 + number % 3)
