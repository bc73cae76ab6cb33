"""Exactly once by way of the spool, while Redis and disk fail and the drain races new hits."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixel_server import hit
from pixel_server.collect import outage
from pixel_server.collect import recorder as recorder_module
from pixel_server.collect.batch import Batch
from pixel_server.collect.recorder import Recorder
from pixel_server.collect.redis_sink import RedisSink
from pixel_server.collect.spool.drain import Drain
from pixel_server.collect.spool.sink import SpoolSink
from pixel_server.collect.spool.spool import Spool
from pixel_server.store import keys
from pixel_server.store.client import connect
from tests.properties import examples
from tests.properties.test_recorder import SHARDS, Flaky, a_hit

FAULTS = st.lists(st.sampled_from(["", "lost", "unsent", "half"]), max_size=10)


class FlakyDisk:
    """A spool whose writes fail as listed. `lost`: written all the same. `unsent`: not written."""

    def __init__(self, sink: SpoolSink, faults: list[str]) -> None:
        self._sink = sink
        self._faults = iter(faults)

    async def append(self, batches: Sequence[Batch]) -> list[int]:
        fault = next(self._faults, "")
        if fault in ("", "lost"):
            await self._sink.append(batches)
        if fault:
            raise OSError(fault)
        return [0] * len(batches)


@settings(
    max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    bursts=st.lists(st.integers(1, 20), min_size=1, max_size=8),
    redis_faults=FAULTS,
    drain_faults=FAULTS,
    disk_faults=FAULTS,
    pauses=st.lists(st.sampled_from([0, 0.001, 0.004]), min_size=1, max_size=4),
)
def test_spooling_redis_and_disk_fail_stores_each_hit_once(
    valkey_url: str,
    monkeypatch: pytest.MonkeyPatch,
    bursts: list[int],
    redis_faults: list[str],
    drain_faults: list[str],
    disk_faults: list[str],
    pauses: list[float],
):
    monkeypatch.setattr(recorder_module, "_RETRY_SECONDS", (0.001,))
    monkeypatch.setattr(recorder_module, "ANSWER_TIMEOUT_SECONDS", 30.0)
    monkeypatch.setattr(outage, "HOLD_SECONDS", 0.0)
    monkeypatch.setattr(recorder_module, "FLIGHT_GAP_SECONDS", 0.0)  # several groups are in flight
    monkeypatch.setattr("pixel_server.collect.spool.drain.PAUSE_SECONDS", 0.002)
    with connect(valkey_url) as client, tempfile.TemporaryDirectory() as directory:
        client.flushall()
        answers = asyncio.run(
            _record(valkey_url, Path(directory), bursts, (redis_faults, drain_faults, disk_faults), pauses)
        )
        stored: Counter[int] = Counter()
        for shard in range(SHARDS):
            for _, fields in client.xrange(keys.hits(shard)):
                hits, unreadable = hit.decode_batch(fields[b"1"])
                assert unreadable == []
                stored.update(record.time for record in hits)
    assert answers == Counter(dict.fromkeys(range(sum(bursts)), 1))
    assert stored == answers


async def _record(
    url: str, directory: Path, bursts: list[int], faults: tuple[list[str], ...], pauses: list[float]
) -> Counter[int]:
    """Returns how often each hit was answered as stored."""
    # One thread, so that work of a cancelled drain ends before the next drain begins.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    stream, draining = RedisSink(url, timeout_seconds=10), RedisSink(url, timeout_seconds=10)
    spool = Spool(directory / "spool", 1 << 20)
    recorder = Recorder(
        Flaky(stream, faults[0]), SHARDS, 1 << 20, spool=FlakyDisk(SpoolSink(spool), faults[2])
    )
    drain = Drain(
        spool,
        Flaky(draining, faults[1]),
        is_redis_away=lambda: recorder.is_redis_away,
        on_accepted=recorder.resume,
        on_lost=recorder.count_lost,
        spooled_groups=recorder.spooled_groups,
        on_drained=recorder.note_drained,
    )
    recorder.start()
    task = asyncio.create_task(drain.run())
    answers: Counter[int] = Counter()
    number = 0
    for i, burst in enumerate(bursts):
        for _ in range(burst):
            assert recorder.record(
                number % SHARDS, a_hit(number), lambda ok, n=number: answers.update({n: int(ok)})
            )
            number += 1
        await asyncio.sleep(pauses[i % len(pauses)])
    await recorder.close(timeout_seconds=20)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    while True:
        try:
            await drain.drain()
            break
        except ConnectionError:
            continue
    assert recorder.counts["gaps"] == 0
    for one in (stream, draining, spool):
        one.close()
    return answers


class Switchable:
    """A sink that works or fails as the test sets `works`. taken: the batches that it accepted."""

    def __init__(self) -> None:
        self.works = True
        self.taken: list[Batch] = []

    async def append(self, batches: Sequence[Batch]) -> list[int]:
        if not self.works:
            raise OSError("told so")
        self.taken += batches
        return [batch.sequence - 1 for batch in batches]


def test_spooling_producer_in_spool_does_not_write_to_redis(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recorder_module, "_RETRY_SECONDS", (0.001,))

    async def story() -> list[list[int]]:
        redis, disk = Switchable(), Switchable()
        recorder = Recorder(redis, 1, 1 << 20, spool=disk)
        recorder.start()

        async def record(number: int) -> asyncio.Future[bool]:
            stored = asyncio.get_running_loop().create_future()
            recorder.record(0, a_hit(number), stored.set_result)
            await asyncio.sleep(0.03)
            return stored

        redis.works = False
        await record(1)
        before = recorder.spooled_groups()
        await record(2)
        redis.works, disk.works = True, False
        third = await record(3)
        recorder.note_drained(before)  # the second batch is still in the spool
        await asyncio.sleep(0.03)
        waited = [batch.sequence for batch in redis.taken]
        recorder.note_drained(recorder.spooled_groups())
        assert await third
        await recorder.close()
        return [[batch.sequence for batch in disk.taken], waited, [b.sequence for b in redis.taken]]

    assert asyncio.run(story()) == [[1, 2], [], [3]]
