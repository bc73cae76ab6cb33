"""The nodes of the store: which node has a shard, and which nodes answer."""

from __future__ import annotations

from collections.abc import Hashable, Set
from typing import Protocol


class Nodes(Protocol):
    """The nodes of a store. A node can be any value that compares equal only to itself."""

    def node_of(self, shard: int) -> Hashable:
        """Returns the node that has a shard now. Safe to call in any thread."""
        ...

    def present(self) -> Set[Hashable]:
        """Returns the nodes that are worth a try: each that is not known to be away."""
        ...


class OneNode:
    """The `Nodes` of a store that is one Redis. Redis is always worth a try."""

    def node_of(self, shard: int) -> Hashable:
        return ""

    def present(self) -> Set[Hashable]:
        return frozenset({""})
