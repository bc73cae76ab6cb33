"""A replica that lacks the newest hits is promoted: the web process sends them again, and none is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from pixel_server import hit
from pixel_server.store import keys
from pixel_server.store.client import connect
from tests.chaos.switch import Server, Switch
from tests.journeys.test_emptied_store import ask, serving
from tests.stack import until


class Pair:
    """A primary and its replica, which is connected through `link`. Clients connect through `address`."""

    def __init__(self, stack: ExitStack) -> None:
        self.primary = Server()
        stack.callback(self.primary.remove)
        self.link = Switch(self.primary.socket)
        self.replica = Server(self.link.port)
        stack.callback(self.replica.remove)
        self.address = Switch(self.primary.socket)
        with connect(self.replica.url) as client:
            until(lambda: client.info("replication")["master_link_status"] == "up")

    def wait_until_replicated(self) -> None:
        """Waits until the primary and its replica hold the same."""
        with connect(self.primary.url) as primary, connect(self.replica.url) as replica:
            info = primary.info("replication")
            until(lambda: replica.info("replication")["slave_repl_offset"] >= info["master_repl_offset"])

    def promote(self) -> None:
        """Makes the replica a primary of its own."""
        with connect(self.replica.url) as client:
            client.replicaof("NO", "ONE")


@pytest.fixture
def pair() -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(stack)


def hits_of(server: Server, shards: int) -> Counter[bytes]:
    """Returns how many hits of each recipient a server holds."""
    hits: Counter[bytes] = Counter()
    with connect(server.url) as client:
        for shard in range(shards):
            for _, fields in client.xrange(keys.hits(shard)):
                hits.update(record.recipient for record in hit.decode_batch(fields[b"1"])[0])
    return hits


@pytest.fixture
def settings(settings, pair):
    return replace(settings, redis_url=pair.address.url)


def record(web, secrets, names) -> None:
    assert [ask(web, secrets, "mail", name) for name in names] == ["recorded"] * len(names)


@pytest.mark.parametrize("tail_seconds", [30, 0])
def test_tail_promoted_replica_gets_the_hits_it_lacks(pair, settings, secrets, tail_seconds):
    """Without the tail the same hits are lost, and reported. No new hit comes after the promotion."""
    with serving(replace(settings, tail_seconds=tail_seconds), secrets) as web:
        until(lambda: web.get("/readyz").json()["redis"]["replicas"])
        record(web, secrets, ["ada"])
        pair.wait_until_replicated()
        pair.link.turn_to(None)
        record(web, secrets, [f"reader{n}" for n in range(8)])
        pair.promote()
        pair.primary.kill()
        pair.address.turn_to(pair.replica.socket)
        if tail_seconds:
            until(lambda: len(hits_of(pair.replica, settings.shards)) == 9)
            record(web, secrets, ["bob"])
            until(lambda: len(hits_of(pair.replica, settings.shards)) == 10)
            assert set(hits_of(pair.replica, settings.shards).values()) == {1}
            health = web.get("/readyz").json()
            assert (health["losses"]["hits"], health["recorder"]["gaps"]) == (0, 0)
        else:
            until(lambda: web.get("/readyz").json()["losses"]["hits"] == 8)
            assert len(hits_of(pair.replica, settings.shards)) == 1


@pytest.mark.parametrize("becomes_replica", [True, False])
def test_tail_old_primary_answers_on_hits_reach_the_new_primary(pair, settings, secrets, becomes_replica):
    """Connections to the old primary stay open, and it accepts hits until it becomes a replica."""
    with serving(settings, secrets) as web:
        until(lambda: web.get("/readyz").json()["redis"]["replicas"])
        record(web, secrets, ["ada"])
        pair.wait_until_replicated()
        pair.promote()
        pair.link.turn_to(None)
        record(web, secrets, ["bob", "eve"])
        pair.address.turn_to(pair.replica.socket, ends_connections=False)
        if becomes_replica:
            back = Switch(pair.replica.socket)
            with connect(pair.primary.url) as client:
                client.replicaof("127.0.0.1", str(back.port))
        until(lambda: len(hits_of(pair.replica, settings.shards)) == 3)
        record(web, secrets, ["dan"])
        until(lambda: len(hits_of(pair.replica, settings.shards)) == 4)
        assert set(hits_of(pair.replica, settings.shards).values()) == {1}
        assert web.get("/readyz").json()["losses"]["hits"] == 0
