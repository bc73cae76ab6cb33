"""States of Redis in which it refuses writes: full and read-only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import redis


@contextlib.contextmanager
def full(client: redis.Redis) -> Iterator[None]:
    """Makes Redis refuse writes as if it were full, until the block ends."""
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


@contextlib.contextmanager
def read_only(client: redis.Redis) -> Iterator[None]:
    """Makes Redis a read-only replica, until the block ends."""
    client.replicaof("127.0.0.1", "1")
    try:
        yield
    finally:
        client.replicaof("NO", "ONE")
