"""Exactly once into the stream, however often writes fail, whether or not Redis carried them out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixel_server import hit
from pixel_server.collect import recorder as recorder_module
from pixel_server.collect.batch import Batch, Sink
from pixel_server.collect.recorder import Recorder
from pixel_server.collect.redis_sink import RedisSink
from pixel_server.hit import Hit
from pixel_server.store import keys, producer
from pixel_server.store.client import connect, connect_async
from tests.conftest import NOW
from tests.properties import examples

SHARDS = 3


class Flaky:
    """A sink whose writes fail as listed. `lost`: carried out, the reply is lost.

    `half`: half of it is carried out. `unsent`: not carried out. "": succeeds.
    """

    def __init__(self, sink: Sink, faults: list[str]) -> None:
        self._sink = sink
        self._faults = iter(faults)

    async def append(self, batches: Sequence[Batch]) -> list[int]:
        fault = next(self._faults, "")
        if fault == "half":
            await self._sink.append(batches[: (len(batches) + 1) // 2])
        elif fault != "unsent":
            seen = await self._sink.append(batches)
            if not fault:
                return seen
        raise ConnectionError(fault)


class Network:
    """A sink that carries out overlapping writes in any order, over three connections.

    Each draw belongs to one write: milliseconds until it is carried out, and its fault. `lost`: the reply is
    lost. `late`: the write fails, and is carried out afterwards. `unsent`: the write is never carried out.
    """

    def __init__(self, url: str, draws: list[tuple[int, str]]) -> None:
        self._streams = [RedisSink(url, timeout_seconds=60.0) for _ in range(3)]
        self._draws = iter(draws)
        self._writes = 0
        self._late: list[asyncio.Task[list[int]]] = []

    async def append(self, batches: Sequence[Batch]) -> list[int]:
        delay, fault = next(self._draws, (0, ""))
        self._writes += 1
        if fault == "unsent":
            raise ConnectionError(fault)
        carried_out = self._carry_out(delay, self._streams[self._writes % 3], batches)
        if fault == "late":
            self._late.append(asyncio.create_task(carried_out))
            raise ConnectionError(fault)
        seen = await carried_out
        if fault == "lost":
            raise ConnectionError(fault)
        return seen

    async def _carry_out(self, delay: int, stream: RedisSink, batches: Sequence[Batch]) -> list[int]:
        await asyncio.sleep(delay / 1000)
        return await stream.append(batches)

    async def close(self) -> None:
        await asyncio.gather(*self._late)
        for stream in self._streams:
            stream.close()


def a_hit(number: int) -> bytes:
    return hit.encode(Hit(number, "c", hit.EMAIL, "GET"))


@settings(
    max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    bursts=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    faults=st.lists(st.sampled_from(["", "lost", "unsent", "half"]), max_size=12),
    cap=st.integers(1, 40),
)
def test_recorder_writes_fail_stores_each_hit_once(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch, bursts: list[int], faults: list[str], cap: int
):
    monkeypatch.setattr(recorder_module, "_RETRY_SECONDS", (0.0,))
    monkeypatch.setattr(
        recorder_module, "GROUP_BYTES", cap * (len(a_hit(1)) + recorder_module.OVERHEAD_BYTES)
    )
    monkeypatch.setattr(recorder_module, "FLIGHT_GAP_SECONDS", 0.0)  # several groups are in flight
    monkeypatch.setattr(recorder_module, "ANSWER_TIMEOUT_SECONDS", 60.0)  # however busy the machine is
    with connect(valkey_url) as client:
        client.flushall()
        answers = asyncio.run(_record(valkey_url, bursts, faults))
        stored: Counter[int] = Counter()
        for shard in range(SHARDS):
            for _, fields in client.xrange(keys.hits(shard)):
                hits, unreadable = hit.decode_batch(fields[b"1"])
                assert unreadable == []
                stored.update(record.time for record in hits)
    assert answers == Counter(dict.fromkeys(range(sum(bursts)), 1))
    assert stored == answers


@settings(
    max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    bursts=st.lists(st.integers(1, 12), min_size=1, max_size=10),
    draws=st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from(["", "", "lost", "late", "unsent"])), max_size=16
    ),
)
def test_recorder_writes_overtake_stores_each_hit_once(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch, bursts: list[int], draws: list[tuple[int, str]]
):
    monkeypatch.setattr(recorder_module, "_RETRY_SECONDS", (0.0,))
    monkeypatch.setattr(recorder_module, "FLIGHT_GAP_SECONDS", 0.0)
    monkeypatch.setattr(recorder_module, "ANSWER_TIMEOUT_SECONDS", 60.0)
    with connect(valkey_url) as client:
        client.flushall()

        async def story() -> Counter[int]:
            network = Network(valkey_url, draws)
            answers = await _record_with(network, bursts)
            await network.close()
            return answers

        answers = asyncio.run(story())
        stored: Counter[int] = Counter()
        for shard in range(SHARDS):
            for _, fields in client.xrange(keys.hits(shard)):
                stored.update(record.time for record in hit.decode_batch(fields[b"1"])[0])
    assert answers == Counter(dict.fromkeys(range(sum(bursts)), 1))
    assert stored == answers


async def _record(url: str, bursts: list[int], faults: list[str]) -> Counter[int]:
    """Returns how often each hit was answered as stored."""
    stream = RedisSink(url)
    answers = await _record_with(Flaky(stream, faults), bursts)
    stream.close()
    return answers


async def _record_with(sink: Sink, bursts: list[int]) -> Counter[int]:
    recorder = Recorder(sink, SHARDS, 1 << 20)
    recorder.start()
    answers: Counter[int] = Counter()
    number = 0
    for burst in bursts:
        for _ in range(burst):
            shard = number % SHARDS if number % 4 else None
            assert recorder.record(shard, a_hit(number), lambda ok, n=number: answers.update({n: int(ok)}))
            number += 1
        await asyncio.sleep(0)
    await recorder.close()
    assert recorder.counts["gaps"] == 0
    assert recorder.pending_bytes == 0
    return answers


def test_recorder_longest_hits_keep_groups_within_the_bound():
    class Kept(list[Batch]):
        async def append(self, batches: Sequence[Batch]) -> list[int]:
            self.extend(batches)
            return [batch.sequence - 1 for batch in batches]

    async def story() -> list[int]:
        sink = Kept()
        recorder = Recorder(sink, 1, 1 << 25)
        recorder.start()
        for _ in range(1000):
            assert recorder.record(0, bytes(20_000), lambda stored: None)
        await recorder.close()
        return [len(batch.data) for batch in sink]

    sizes = asyncio.run(story())
    assert sum(sizes) > 1000 * 20_000
    assert max(sizes) < recorder_module.GROUP_BYTES + 20_000


class Away:
    """A sink that never answers, or never succeeds."""

    def __init__(self, hangs: bool) -> None:
        self._hangs = hangs

    async def append(self, batches: Sequence[Batch]) -> list[int]:
        if self._hangs:
            await asyncio.sleep(3600)
        raise ConnectionError("away")


@pytest.mark.parametrize("hangs", [True, False])
def test_recorder_redis_away_promises_nothing(hangs: bool):
    async def story() -> tuple[list[bool], bool, int]:
        recorder = Recorder(Away(hangs), SHARDS, 2 * (len(a_hit(1)) + recorder_module.OVERHEAD_BYTES))
        recorder.start()
        answers: list[bool] = []
        assert recorder.record(0, a_hit(1), answers.append)
        assert recorder.record(1, a_hit(2), answers.append)
        refused = not recorder.record(2, a_hit(3), answers.append)
        await asyncio.sleep(recorder_module.ANSWER_TIMEOUT_SECONDS + 0.2)
        late = recorder.counts["late"]
        await recorder.close(timeout_seconds=0)
        return answers, refused, late

    assert asyncio.run(story()) == ([False, False], True, 2)


def test_recorder_redis_lost_batches_reports_the_gap(redis_url: str, caplog: pytest.LogCaptureFixture):
    async def story() -> int:
        redis = connect_async(redis_url)
        recorder = Recorder(RedisSink(redis_url), 1, 1 << 20)
        recorder.start()
        for number in range(3):
            stored = asyncio.get_running_loop().create_future()
            recorder.record(0, a_hit(number), stored.set_result)
            assert await stored
            if number == 1:
                await redis.delete(keys.producers(0))  # as a crash with appendfsync everysec does
        await recorder.close()
        await redis.aclose()
        return recorder.counts["gaps"]

    assert asyncio.run(story()) == 2
    assert "lost 2 batches" in caplog.text


def test_recorder_producer_below_the_floor_takes_a_new_id(redis_url: str):
    async def story() -> list[int]:
        redis = connect_async(redis_url)
        await redis.hset(keys.producers(0), "floor", "f" * 12)
        sink = RedisSink(redis_url)
        recorder = Recorder(sink, 1, 1 << 20)
        recorder.start()
        refused = await sink.append([Batch(0, "0" * 28, 1, b"\x90")])
        await redis.hset(keys.producers(0), "floor", "0" * 11 + "1")
        stored = asyncio.get_running_loop().create_future()
        recorder.record(0, a_hit(1), stored.set_result)
        assert await stored
        await recorder.close()
        length = await redis.xlen(keys.hits(0))
        await redis.aclose()
        return [*refused, length]

    assert asyncio.run(story()) == [-1 - 0xFFFFFFFFFFFF, 1]


def test_recorder_clock_was_wrong_leaves_no_producer_below_the_floor(redis_url: str):
    """One process starts while its clock is years ahead. Others start before their clocks are set."""
    year = 365 * 86_400
    ahead = producer.new_id(NOW + 9 * year)

    async def story() -> tuple[dict[bytes, bytes], list[bool]]:
        redis = connect_async(redis_url)
        idle_since = int(NOW * 1000) - producer.IDLE_MS - 1
        await redis.hset(keys.producers(0), ahead, f"7 {idle_since}")
        await redis.eval(*producer.prune_call(0, idle_since_ms=idle_since + 1))
        kept = await redis.hgetall(keys.producers(0))
        await redis.hset(keys.producers(0), "floor", ahead + "~")  # as earlier versions left it
        stored = []
        for now in (NOW, 0.0):
            recorder = Recorder(RedisSink(redis_url), 1, 1 << 20, clock=lambda at=now: at)
            recorder.start()
            answered = asyncio.get_running_loop().create_future()
            recorder.record(0, a_hit(1), answered.set_result)
            stored.append(await answered)
            await recorder.close()
        await redis.aclose()
        return kept, stored

    kept, stored = asyncio.run(story())
    assert set(kept) == {ahead.encode()}
    assert stored == [True, True]
