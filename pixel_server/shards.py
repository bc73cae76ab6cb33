"""Which shard a hit belongs to: by person, so that the unique counts of shards simply add up."""

from __future__ import annotations


def of_key(key: bytes, shards: int) -> int:
    """The shard of a keyed hash: a recipient key, a visitor key or a routing key."""
    return int.from_bytes(key[:4], "big") % shards
