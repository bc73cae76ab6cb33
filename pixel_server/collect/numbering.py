"""The numbers of batches: a producer id, and a sequence number by shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pixel_server import hit
from pixel_server.collect.batch import Batch
from pixel_server.store import producer
from pixel_server.times import DAY

RENEW_SECONDS = DAY
"""Seconds without a hit after which the recorder takes a new producer id. Redis prunes ids after 30 days."""


class Numbering:
    """Numbers the batches of one recorder. `renew` must be called first. now: s since 1970.

    producer: the producer id.
    """

    def __init__(self) -> None:
        self.producer = ""
        self._last_sequences: dict[int, int] = {}
        self._used_at = 0.0

    def renew(self, now: float, floor: int = 0) -> None:
        """Takes a new producer id, whose time is later than `floor` (ms since 1970)."""
        self.producer = producer.new_id(now, floor)
        self._last_sequences = {}
        self._used_at = now

    def is_idle(self, now: float) -> bool:
        """Returns whether the last batch was numbered so long ago that a new id is needed."""
        return now - self._used_at > RENEW_SECONDS

    def number(self, shards: Mapping[int, Sequence[bytes]], now: float) -> list[Batch]:
        """Returns a numbered batch for each shard. shards: encoded hits by shard."""
        self._used_at = now
        batches = []
        for shard, hits in shards.items():
            sequence = self._last_sequences[shard] = self._last_sequences.get(shard, 0) + 1
            batches.append(Batch(shard, self.producer, sequence, hit.encode_batch(hits)))
        return batches
