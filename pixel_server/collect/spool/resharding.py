"""Splits batches of the spool that were numbered before a copy to another number of shards.

A hit of a recipient must reach the recipient's shard, which holds the recipient's record. Any shard can count
other hits. A batch whose recipients all belong to its shard stays as it is, which holds for every batch of an
unchanged store. Otherwise the batch becomes one part for each shard. The part for the batch's own shard keeps
the producer id, even if it holds no hits, so that the shard knows the batch's number. The other parts have
the id `PRODUCER.SHARD`, with the batch's shard. `pixel-server copy` gives these ids to the target, too. The
parts depend on the batch alone, so Redis takes each part once.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pixel_server import hit
from pixel_server.collect.batch import Batch, Sink
from pixel_server.store.shards import shard_of


class _Recipient(msgspec.Struct, array_like=True, gc=False):
    """The first fields of a hit."""

    time: int
    campaign: str
    kind: str
    method: str
    flags: int = 0
    token_time: int = 0
    recipient: bytes = b""


_decode_parts = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_decode_recipient = msgspec.msgpack.Decoder(_Recipient).decode


def split(batch: Batch, shards: int) -> list[Batch]:
    """Returns the parts of a batch: the batch itself if its shard has all of its recipients."""
    home = batch.shard % shards
    try:
        hits = _decode_parts(batch.data)
    except msgspec.DecodeError:
        hits = []  # the roll-up sets the batch aside, in any shard
    places = [_place(data, home, shards) for data in hits]
    if home == batch.shard and all(place == home for place in places):
        return [batch]
    by_shard: dict[int, list[bytes]] = {home: []}
    for data, place in zip(hits, places, strict=True):
        by_shard.setdefault(place, []).append(bytes(data))
    part_id = f"{batch.producer}.{batch.shard}"
    return [
        Batch(
            shard,
            batch.producer if shard == batch.shard else part_id,
            batch.sequence,
            hit.encode_batch(part) if hits else batch.data,
        )
        for shard, part in by_shard.items()
    ]


def _place(data: msgspec.Raw, home: int, shards: int) -> int:
    """Returns the shard of a hit: that of its recipient, or `home` if it has none or cannot be read."""
    try:
        recipient = _decode_recipient(data).recipient
    except (msgspec.DecodeError, UnicodeDecodeError):
        return home
    return shard_of(recipient, shards) if len(recipient) >= 4 else home


class ReshardingSink:
    """A sink that splits batches before it stores them. shards: number of shards of the store."""

    def __init__(self, sink: Sink, shards: int) -> None:
        self._sink = sink
        self._shards = shards

    async def append(self, batches: Sequence[Batch]) -> list[int]:
        """Stores all batches, as `Sink.append` does.

        A batch that was split counts as seen if all of its parts were, and otherwise as the next in line.
        """
        parts = [split(batch, self._shards) for batch in batches]
        replies = iter(await self._sink.append([part for split_batch in parts for part in split_batch]))
        return [
            _reply(batch, [next(replies) for _ in split_batch])
            for batch, split_batch in zip(batches, parts, strict=True)
        ]


def _reply(batch: Batch, replies: Sequence[int]) -> int:
    if len(replies) == 1:
        return replies[0]
    least = min(replies)
    return least if least < 0 or least >= batch.sequence else batch.sequence - 1
