"""A batch of hits, and the sinks that store batches."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import NamedTuple, Protocol

from pixel_server.logs import Log

log = Log(__name__)


class Batch(NamedTuple):
    """The hits of one shard in a group (see `Group`), stored as one entry of the shard's stream.

    sequence: the number of this batch among those of its producer and shard. data: the encoded hits. after:
    the sequence number that Redis must have seen before it accepts this batch, 0 for any. Each attempt to
    store a batch has the same hits and the same number, but may have another `after`.
    """

    shard: int
    producer: str
    sequence: int
    data: bytes
    after: int = 0

    @property
    def hits(self) -> int:
        """The number of hits in the batch, read from the head of its msgpack array (`hit.encode_batch`)."""
        data = self.data
        return int.from_bytes(data[1:3], "big") if data[:1] == b"\xdc" else data[0] & 0x0F if data else 0


class Sink(Protocol):
    """A place that stores batches: Redis, the spool, or a list in tests."""

    def append(self, batches: Sequence[Batch]) -> Awaitable[list[int]]:
        """Stores all batches, each once. Returns the reply of `store.producer.APPEND` to each.

        Calls may overlap. After an exception it is unknown which batches are stored. The caller then appends
        the same batches again.
        """
        ...


def report_gap(batch: Batch, seen: int, previous: int | None = None) -> int:
    """Returns how many earlier batches of this producer and shard Redis has lost. Logs a loss.

    seen: the last sequence number that Redis had seen. previous: the number of the last batch that was sent
    to Redis before this batch, None for this batch's number minus 1.
    """
    lost = max(0, (batch.sequence - 1 if previous is None else previous) - seen)
    if lost:
        log.error(
            "batches-lost",
            "shard %(shard)d lost %(batches)d batches of producer %(producer)s: Redis came back without them",
            shard=batch.shard,
            batches=lost,
            producer=batch.producer,
        )
    return lost
