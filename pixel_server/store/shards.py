"""Which shard a hit belongs to: by person, so that the unique counts of shards simply add up."""

from __future__ import annotations

from struct import Struct

_first = Struct(">I").unpack_from


def of_key(key: bytes, shards: int) -> int:
    """The shard of a keyed hash: a recipient key, a visitor key or a routing key."""
    return _first(key)[0] % shards  # type: ignore[no-any-return]
