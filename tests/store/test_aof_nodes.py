"""Rewrites of the files of several nodes: each primary and replica must have rewritten."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pixel_server.settings import Settings
from pixel_server.store import aof_rewrite, keys
from pixel_server.store.aof_rewrite import RETRY_SECONDS, Rewriter
from pixel_server.store.client import connect
from pixel_server.store.nodes import nodes_sync
from pixel_server.store_url import shown_address
from tests.cluster_nodes import running_cluster
from tests.disk import forms, search
from tests.sentinels import Watched
from tests.stack import until

NOW = 1_790_000_000.0
ENTRIES = [b"0-0"]
REMOVED = forms("recipient", bytes.fromhex("cb00714d01020304"))


@dataclass
class Store:
    """A store with a primary and a replica. replica: its process. home: the directory of both."""

    url: str
    home: Path
    replica: Any

    def stop_replica(self) -> None:
        self.replica.process.send_signal(signal.SIGKILL)
        self.replica.process.wait()


@pytest.fixture(params=["sentinel", "cluster"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "cluster":
        for cluster in running_cluster(tmp_path, 1, 1):
            yield Store(cluster.url, tmp_path, cluster.nodes[1])
        return
    watched = Watched()
    watched.wait_for_replica()
    yield Store(watched.url, watched.home, watched.replica)
    watched.remove()


def test_rewriter_replica_goes_away_is_named_and_rewrites_when_it_is_back(store: Store):
    rewriter = Rewriter(Settings(rewrite_minutes=60))
    times = itertools.count(NOW, RETRY_SECONDS)
    with connect(store.url) as client:

        def fields() -> tuple[bytes | None, ...]:
            return tuple(client.hmget(keys.REWRITE, ["asked", "answered", aof_rewrite.WAITING]))

        def tick_until(expected: tuple[bytes | None, ...]) -> None:
            """Lets the schedule tick until the fields have these values. A minute passes between ticks."""

            def is_reached() -> bool:
                rewriter.tick(client, ENTRIES, next(times))
                return fields() == expected

            until(is_reached)

        client.set("recipient", REMOVED["recipient: packed"])
        assert len(until(lambda: _files(store, 2))) == 2
        client.delete("recipient")
        aof_rewrite.request_sync(client)
        until(lambda: rewriter.tick(client, ENTRIES, next(times)))
        tick_until((b"2", b"2", None))
        until(lambda: not search(store.home, REMOVED))

        aof_rewrite.request_sync(client)
        store.stop_replica()
        name = shown_address(store.replica.address).encode()
        tick_until((b"3", b"2", name + b" does not answer"))
        count = _rewrites(client)
        store.replica.start()
        tick_until((b"3", b"3", None))
        assert _rewrites(client) == count


def _files(store: Store, count: int) -> set[str]:
    """Returns the files that hold what is to be removed, an empty set if they are fewer than `count`."""
    files = search(store.home, REMOVED).get("recipient: packed", set())
    return files if len(files) >= count else set()


def _rewrites(client: Any) -> int:
    """Returns how often the primary was told to rewrite its file."""
    primary = nodes_sync(client, replicas=True)[0]
    return int(primary.info("commandstats")["cmdstat_bgrewriteaof"]["calls"])
