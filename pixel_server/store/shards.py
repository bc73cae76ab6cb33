"""The shard of a hit. It depends on the person, so that the unique counts of shards simply add up."""

from __future__ import annotations

from struct import Struct

_first_number = Struct(">I").unpack_from


def shard_of(key: bytes, shards: int) -> int:
    """Returns the shard of a keyed hash: a recipient key, a visitor key or a routing key."""
    return _first_number(key)[0] % shards  # type: ignore[no-any-return]
