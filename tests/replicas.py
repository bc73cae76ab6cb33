"""A primary and its replica, which can be cut off and promoted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pixel_server.store.client import connect
from tests.chaos.switch import Server, Switch
from tests.stack import until


class Pair:
    """A primary and its replica, which is connected through `link`. Clients connect through `address`."""

    def __init__(self, stack: ExitStack) -> None:
        self.primary = Server()
        stack.callback(self.primary.remove)
        self.link = Switch(self.primary.socket)
        self.replica = Server()
        stack.callback(self.replica.remove)
        self.address = Switch(self.primary.socket)
        with connect(self.replica.url) as client:
            client.replicaof("127.0.0.1", str(self.link.port))  # a second faster than by its configuration
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
