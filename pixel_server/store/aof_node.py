"""A node's append-only file: whether the node keeps one, and when the node has rewritten it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import redis

from pixel_server.store.nodes import node_name, nodes_sync
from pixel_server.store.protocols import Redis


@dataclass(frozen=True, slots=True)
class AofNode:
    """A node of a store, as it was when it was asked.

    persistence, replication: its replies to these sections of INFO. Both are empty if the node does not
    answer; `replication` is also empty if the store has one node.
    """

    name: str
    client: Redis
    persistence: Mapping[str, Any] = field(default_factory=dict)
    replication: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_away(self) -> bool:
        return not self.persistence

    @property
    def has_file(self) -> bool:
        return bool(int(self.persistence.get("aof_enabled", 0)))

    @property
    def rewrites(self) -> int:
        """Returns the number of rewrites since the node was started."""
        return int(self.persistence.get("aof_rewrites", 0))

    @property
    def is_rewriting(self) -> bool:
        """Returns whether a rewrite runs or is scheduled."""
        fields = ("aof_rewrite_in_progress", "aof_rewrite_scheduled")
        return any(int(self.persistence.get(name, 0)) for name in fields)

    def has_rewritten(self, before: int) -> bool:
        """Returns whether a rewrite has ended well. before: `rewrites` when it began.

        A node that was started again meanwhile has not rewritten its file.
        """
        if not self.has_file:
            return not self.is_away
        rewrites = int(self.persistence.get("aof_rewrites", before + 1))
        return rewrites > before and self.persistence.get("aof_last_bgrewrite_status", "ok") == "ok"

    def lag_bytes(self, offsets: Mapping[str, int]) -> int | None:
        """Returns how many bytes of its primary's writes a replica lacks, at least; 0 for a primary.

        Returns None if the replica has no connection to a primary. offsets: from `primary_offsets`.
        """
        if self.replication.get("role") != "slave":
            return 0
        offset = offsets.get(str(self.replication.get("master_replid")))
        if offset is None or self.replication.get("master_link_status") != "up":
            return None
        return max(0, offset - int(self.replication.get("slave_repl_offset", 0)))

    def begin(self) -> str:
        """Begins a rewrite. Returns "", or why the node cannot begin."""
        try:
            self.client.bgrewriteaof()
        except redis.ResponseError as error:
            return f"{self.name} refused: {error}"
        except redis.TimeoutError:
            pass  # Redis forks first, which takes long if it holds much
        except (redis.ConnectionError, OSError):
            return f"{self.name} does not answer"
        return ""


def read_nodes(store: Redis) -> list[AofNode]:
    """Returns the nodes of a store, replicas too: each has a file of its own.

    Raises redis.RedisError if no node answers, or if one forbids INFO.
    """
    members = nodes_sync(store, replicas=True)
    return [_read_node(member, is_only=len(members) == 1) for member in members]


def primary_offsets(nodes: list[AofNode]) -> dict[str, int]:
    """Returns the number of bytes that each primary has written for its replicas, by its replication id."""
    primaries = [node.replication for node in nodes if node.replication.get("role") == "master"]
    return {str(primary["master_replid"]): int(primary["master_repl_offset"]) for primary in primaries}


def _read_node(client: Redis, is_only: bool) -> AofNode:
    try:
        persistence = client.info("persistence")
        return AofNode(node_name(client), client, persistence, {} if is_only else client.info("replication"))
    except (redis.ConnectionError, redis.TimeoutError, OSError):
        if is_only:
            raise
        return AofNode(node_name(client), client)
