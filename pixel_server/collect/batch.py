"""A batch of hits, and the sinks that store batches."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Sequence
from typing import NamedTuple, Protocol

log = logging.getLogger("pixel_server.recorder")


class Batch(NamedTuple):
    """The hits of one shard that one group commit stores as one entry. Never changes once it has a number.

    after: the number that Redis must have seen before it accepts this batch, 0 if it need not have seen any.
    It belongs to one try, not to the batch.
    """

    shard: int
    producer: str
    sequence: int
    data: bytes
    after: int = 0

    @property
    def hits(self) -> int:
        """The number of hits in the batch, by the head of its msgpack array (`hit.encode_batch`)."""
        data = self.data
        return int.from_bytes(data[1:3], "big") if data[:1] == b"\xdc" else data[0] & 0x0F if data else 0


class Sink(Protocol):
    """A place that stores batches: Redis, the spool, or a list in tests."""

    def append(self, batches: Sequence[Batch]) -> Awaitable[list[int]]:
        """Stores all batches, each once. Returns for each what `producer.APPEND` returns. Calls may overlap.

        After an exception it is unknown which batches are stored. The same batches are then appended again.
        """
        ...


def report_gap(batch: Batch, seen: int, previous: int | None = None) -> int:
    """Returns how many batches of this producer and shard, before this batch, Redis has lost. Logs them.

    seen: the last number that Redis had seen. previous: the last number before this batch that Redis was
    given, None if it is the number just before.
    """
    lost = max(0, (batch.sequence - 1 if previous is None else previous) - seen)
    if lost:
        log.error(
            "recorder: shard %d lost %d batches of producer %s: Redis came back without them",
            batch.shard,
            lost,
            batch.producer,
        )
    return lost
