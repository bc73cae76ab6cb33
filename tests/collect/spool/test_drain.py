"""The drain: which batches it reports as lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from pixel_server.collect.batch import Batch
from pixel_server.collect.redis_sink import RedisSink
from pixel_server.collect.spool.drain import Drain
from pixel_server.collect.spool.spool import Spool
from pixel_server.collect.spool.status import read_status
from pixel_server.store import keys
from pixel_server.store.client import connect
from tests.collect.spool.batches import batch, files


def fill(home: Path, numbers: Sequence[int]) -> None:
    spool = Spool(home, 1 << 20)
    for number in numbers:
        spool.append([batch(number)])
    spool.close()


def drained(home: Path, url: str) -> tuple[int, int]:
    """Returns (batches drained to Redis, batches reported as lost)."""

    async def story() -> tuple[int, int]:
        lost: list[int] = []
        spool, sink = Spool(home, 1 << 20), RedisSink(url, timeout_seconds=10.0)
        try:
            return await Drain(spool, sink, on_lost=lost.append).drain(), sum(lost)
        finally:
            sink.close()
            spool.close()

    return asyncio.run(story())


@pytest.mark.parametrize("damaged", [1, 2])
def test_drain_damaged_batch_is_not_reported_as_lost_by_redis(tmp_path: Path, redis_url: str, damaged: int):
    home = tmp_path / "spool"
    fill(home, [1, 2, 3])
    (segment,) = files(home)
    data = bytearray(segment.read_bytes())
    data[data.index(f"agent of batch {damaged}".encode())] ^= 1
    segment.write_bytes(data)
    assert drained(home, redis_url) == (2, 0)
    assert read_status(home).aside == 1


def test_drain_batches_that_redis_lost_are_reported_beside_damage(tmp_path: Path, redis_url: str):
    home = tmp_path / "spool"
    fill(home, [1, 2, 3])
    assert drained(home, redis_url) == (3, 0)
    with connect(redis_url) as client:
        client.delete(keys.producers(0))
    fill(home, [4])
    assert drained(home, redis_url) == (1, 3)


def test_drain_batches_set_aside_do_not_count_as_drained(tmp_path: Path, redis_url: str):
    home = tmp_path / "spool"
    fill(home, [1, 2])
    with connect(redis_url) as client:
        client.hset(keys.producers(0), "floor", "f" * 12)
    assert drained(home, redis_url) == (0, 0)
    assert read_status(home).aside == 2


def test_drain_many_batches_go_in_one_write_in_order(tmp_path: Path):
    home = tmp_path / "spool"
    fill(home, range(1, 6))

    class ListSink:
        def __init__(self) -> None:
            self.writes: list[list[tuple[int, int]]] = []

        async def append(self, batches: Sequence[Batch]) -> list[int]:
            self.writes.append([(batch.sequence, batch.after) for batch in batches])
            return [batch.sequence - 1 for batch in batches]

    async def story() -> list[list[tuple[int, int]]]:
        sink, spool = ListSink(), Spool(home, 1 << 20)
        assert await Drain(spool, sink).drain() == 5
        spool.close()
        return sink.writes

    assert asyncio.run(story()) == [[(1, 0), (2, 1), (3, 2), (4, 3), (5, 4)]]
