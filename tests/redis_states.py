"""States of Redis in which it takes no writes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import redis


@contextlib.contextmanager
def full(client: redis.Redis) -> Iterator[None]:
    """Makes Redis full for the time of the block."""
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


@contextlib.contextmanager
def read_only(client: redis.Redis) -> Iterator[None]:
    """Makes Redis a replica for the time of the block."""
    client.replicaof("127.0.0.1", "1")
    try:
        yield
    finally:
        client.replicaof("NO", "ONE")
