"""A store that loses its newest commits, as when a replica takes over, counts each remaining hit once."""

from __future__ import annotations

import contextlib
from typing import Any

import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pixel_server import hit
from pixel_server.hit import Hit
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import checkpoint, keys
from pixel_server.tokens import Mode, Token
from tests.cluster_nodes import client_of
from tests.conftest import ANY_YEAR, NOW
from tests.properties import examples
from tests.properties.crashing_rollup import count_all, store_in_batches
from workers.rollup_pass import Outcome, Rollup

SHARD = 0
OWN = Settings(redis_url="", shards=1, keep_buckets=3650)
HIT = Hit(
    int(NOW * 1000),
    "mail",
    hit.EMAIL,
    "GET",
    Token("mail", 0, b"", Mode.COUNT).flags,
    0,
    b"",
    b"",
    b"\x0a\0\0\1",
)

events = st.one_of(
    st.just(("hit", 0)),
    st.tuples(st.just("pass"), st.integers(0, 1)),
    st.tuples(st.just("pass until the commit"), st.integers(0, 1)),
    st.tuples(st.just("late commit"), st.integers(0, 1)),
    st.tuples(st.just("forget"), st.integers(1, 3)),
)
"""What happens next: a hit is stored, a worker makes a pass, a worker falls asleep before its commit, this
commit is carried out, or the store loses its newest changes."""


class FellAsleep(Exception):
    """The worker sleeps before its commit."""


class Worker:
    """One of several workers of a shard. It keeps what it knows of the checkpoint from pass to pass.

    max_entries: entries that a pass counts at most.
    """

    def __init__(self, client: redis.Redis, secrets: Secrets, max_entries: int) -> None:
        self._client = client
        self._sleeps = False
        self._late: tuple[Any, ...] | None = None
        self._rollup = Rollup(self, OWN, secrets, SHARD, max_entries=max_entries, max_ahead_ms=ANY_YEAR)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def eval(self, text: str, *words: Any) -> Any:
        if self._sleeps and text == checkpoint._COMMIT:
            self._late = (text, *words)
            raise FellAsleep
        return self._client.eval(text, *words)

    def make_pass(self, sleeps: bool) -> None:
        self._sleeps = sleeps
        with contextlib.suppress(FellAsleep):
            assert self._rollup.run_pass(NOW) is not Outcome.STOPPED

    def commit_late(self) -> None:
        if self._late is not None:
            self._client.eval(*self._late)
            self._late = None


class History:
    """The states of a store, with the number of hits that it had been given at each."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.hits = 0
        self._states: list[tuple[int, dict[bytes, bytes]]] = []
        self.note()

    def note(self) -> None:
        names = self._client.keys("px:*")
        state = self.hits, {name: self._client.dump(name) for name in names}
        if not self._states or state != self._states[-1]:
            self._states.append(state)

    def forget(self, changes: int) -> None:
        """Returns to the state before the newest changes."""
        del self._states[max(1, len(self._states) - changes) :]
        self._client.flushall()
        self.hits, kept = self._states[-1]
        for name, value in kept.items():
            self._client.restore(name, 0, value)


@settings(
    max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(story=st.lists(events, max_size=24))
@example(
    # The store forgets the first commit, and another worker's commit gets its number.
    story=[
        *[("hit", 0)] * 4,
        *[("pass", 0), ("pass until the commit", 0), ("forget", 1)],
        *[("hit", 0), ("pass", 1), ("late commit", 0)],
    ]
)
def test_rollup_store_forgets_commits_counts_each_remaining_hit_once(
    valkey_url: str, secrets: Secrets, story: list[tuple[str, int]]
):
    client = client_of(valkey_url)
    client.flushall()
    workers, history = [Worker(client, secrets, entries) for entries in (2, 1)], History(client)
    for event, number in story:
        if event == "hit":
            store_in_batches(client, [HIT], [1])
            history.hits += 1
        elif event == "late commit":
            workers[number].commit_late()
        elif event == "forget":
            history.forget(number)
        else:
            workers[number].make_pass(sleeps=event == "pass until the commit")
        history.note()
    count_all(client, OWN, secrets, 2)
    assert client.xlen(keys.hits(SHARD)) == 0
    assert int(client.hget(keys.total(SHARD, "mail"), "hits") or 0) == history.hits
    client.close()
