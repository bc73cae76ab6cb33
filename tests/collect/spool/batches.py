"""Batches for the tests of the spool, and ways to drain them."""

from __future__ import annotations

from pathlib import Path

from pixel_server import hit
from pixel_server.collect.batch import Batch
from pixel_server.collect.spool.spool import Spool
from pixel_server.hit import Hit
from pixel_server.store import producer
from tests.conftest import NOW

LIMIT = 1 << 20
PRODUCER = producer.new_id(NOW)


def batch(sequence: int, hits: int = 2, shard: int = 0) -> Batch:
    encoded = hit.encode(Hit(sequence, "news", hit.EMAIL, "GET", agent=f"agent of batch {sequence}"))
    return Batch(shard, PRODUCER, sequence, hit.encode_batch([encoded] * hits))


def drain(spool: Spool) -> list[Batch]:
    drained = []
    for segment in spool.drainable_segments():
        drained += spool.read(segment)
        spool.delete(segment)
    return drained


def files(directory: Path, pattern: str = "*.seg") -> list[Path]:
    return sorted(directory.glob(pattern))


def reader(home: Path) -> Spool:
    return Spool(home, LIMIT, clock=lambda: NOW + 60)
