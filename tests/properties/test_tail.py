"""Exactly once, and nothing lost, while replicas that lack the newest hits take over again and again."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixel_server import hit
from pixel_server.collect import outage, redis_sink
from pixel_server.collect import recorder as recorder_module
from pixel_server.collect.recorder import Recorder
from pixel_server.collect.redis_sink import RedisSink
from pixel_server.collect.replica_watch import ReplicaWatch
from pixel_server.collect.spool.drain import Drain
from pixel_server.collect.spool.sink import SpoolSink
from pixel_server.collect.spool.spool import Spool
from pixel_server.collect.tail import Tail
from pixel_server.store import keys
from pixel_server.store.client import connect
from tests.chaos.switch import Server, Switch
from tests.properties import examples
from tests.properties.test_recorder import SHARDS, a_hit

_DUMP = """
local out = {}
for _, key in ipairs(redis.call('KEYS', 'px:*')) do
  out[#out + 1], out[#out + 2] = key, redis.call('DUMP', key)
end
return out
"""


class Primaries:
    """Two servers, which take turns as the primary. Clients connect through `address`.

    The other server gets what the primary has from time to time (`replicate`).
    """

    def __init__(self) -> None:
        self.servers = [Server(), Server()]
        self.address = Switch(self.servers[0].socket)
        self._replicated: list[bytes] = []

    @property
    def primary(self) -> Server:
        return self.servers[0]

    def clear(self) -> None:
        with connect(self.primary.url) as client:
            client.flushall()
        self._replicated = []

    def replicate(self) -> None:
        with connect(self.primary.url) as client:
            self._replicated = client.eval(_DUMP, 0)

    def fail_over(self, ends_connections: bool) -> None:
        """Makes the other server the primary, with what was replicated. The old primary answers on."""
        self.servers.reverse()
        with connect(self.primary.url) as client:
            client.replicaof("127.0.0.1", "1")  # so that its identity changes
            client.client_kill_filter(_type="normal", skipme=True)
            client.replicaof("NO", "ONE")
            pipe = client.pipeline()
            pipe.flushall()
            for name, value in zip(self._replicated[::2], self._replicated[1::2], strict=True):
                pipe.restore(name, 0, value)
            pipe.execute()
        self.address.turn_to(self.primary.socket, ends_connections=ends_connections)

    def hits(self) -> Counter[int]:
        """Returns how often the primary has each hit."""
        stored: Counter[int] = Counter()
        with connect(self.primary.url) as client:
            for shard in range(SHARDS):
                for _, fields in client.xrange(keys.hits(shard)):
                    stored.update(record.time for record in hit.decode_batch(fields[b"1"])[0])
        return stored


@pytest.fixture(scope="module")
def primaries() -> Iterator[Primaries]:
    primaries = Primaries()
    yield primaries
    for server in primaries.servers:
        server.remove()


@settings(
    max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(
        st.one_of(
            st.integers(1, 20), st.sampled_from(["replicate", "fail over", "fail over, and answer on"])
        ),
        min_size=2,
        max_size=14,
    ),
    pauses=st.lists(st.sampled_from([0.0, 0.002, 0.02]), min_size=1, max_size=4),
)
def test_tail_replicas_take_over_stores_each_hit_once(
    primaries: Primaries, monkeypatch: pytest.MonkeyPatch, steps: list[int | str], pauses: list[float]
):
    monkeypatch.setattr(recorder_module, "_RETRY_SECONDS", (0.001,))
    monkeypatch.setattr(recorder_module, "ANSWER_TIMEOUT_SECONDS", 30.0)
    monkeypatch.setattr(recorder_module, "FLIGHT_GAP_SECONDS", 0.0)  # several groups are in flight
    monkeypatch.setattr(outage, "HOLD_SECONDS", 0.0)
    monkeypatch.setattr("pixel_server.collect.spool.drain.PAUSE_SECONDS", 0.002)
    monkeypatch.setattr(redis_sink, "CHECK_SECONDS", 0.01)
    monkeypatch.setattr(redis_sink, "RETRY_SECONDS", 0.002)
    monkeypatch.setattr(ReplicaWatch, "is_doubtful", lambda *_: True)
    primaries.clear()
    with tempfile.TemporaryDirectory() as directory:
        answers = asyncio.run(_record(primaries, Path(directory), steps, pauses))
    sent = sum(step for step in steps if isinstance(step, int))
    assert answers == Counter(dict.fromkeys(range(sent), 1))
    assert primaries.hits() == answers


async def _record(
    primaries: Primaries, directory: Path, steps: list[int | str], pauses: list[float]
) -> Counter[int]:
    """Returns how often each hit was answered as stored."""
    gaps: list[int] = []
    tail = Tail(SHARDS, 1000, 1 << 20, lambda batch, seen: gaps.append(seen))
    tail.begin()
    sinks = [RedisSink(primaries.address.url, timeout_seconds=10, tail=tail) for _ in range(2)]
    spool = Spool(directory / "spool", 1 << 20)
    recorder = Recorder(sinks[0], SHARDS, 1 << 20, spool=SpoolSink(spool), is_ready=lambda: sinks[0].is_ready)
    drain = Drain(
        spool,
        sinks[1],
        is_redis_away=lambda: recorder.is_redis_away,
        on_accepted=recorder.resume,
        on_lost=recorder.count_lost,
        spooled_groups=recorder.spooled_groups,
        on_drained=recorder.note_drained,
    )
    recorder.start()
    running = [
        asyncio.create_task(work) for work in (drain.run(), *(sink.keep_connected() for sink in sinks))
    ]
    answers: Counter[int] = Counter()
    number = 0
    for i, step in enumerate(steps):
        if isinstance(step, int):
            for _ in range(step):
                assert recorder.record(
                    number % SHARDS, a_hit(number), lambda ok, n=number: answers.update({n: int(ok)})
                )
                number += 1
        elif step == "replicate":
            await asyncio.to_thread(primaries.replicate)
        else:
            await asyncio.to_thread(primaries.fail_over, ends_connections=step == "fail over")
        await asyncio.sleep(pauses[i % len(pauses)])
    await recorder.close(timeout_seconds=20)
    async with asyncio.timeout(60):
        # The tail is sent without a new hit.
        while len(await asyncio.to_thread(primaries.hits)) < number:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.01)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    for one in (*sinks, spool):
        one.close()
    assert recorder.counts["gaps"] == len(gaps) == 0
    return answers
