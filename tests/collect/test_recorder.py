"""When the recorder's groups depart."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
import uvloop

from pixel_server.collect import recorder as recorder_module
from pixel_server.collect.recorder import MANY_SHARDS, Recorder


class Groups:
    """A sink that notes how many batches each group has."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def append(self, batches):
        self.sizes.append(len(batches))
        return [batch.sequence - 1 for batch in batches]


@pytest.mark.parametrize(("shards", "sizes"), [(MANY_SHARDS, [1, 1, 1, 1]), (MANY_SHARDS + 1, [1, 3])])
def test_recorder_many_shards_gathers_hits_between_departures(monkeypatch, shards, sizes):
    monkeypatch.setattr(recorder_module, "LINGER_SECONDS", 3600.0)
    monkeypatch.setattr(recorder_module, "ANSWER_TIMEOUT_SECONDS", 60.0)
    sink, answers = Groups(), []

    async def record_four_hits() -> None:
        recorder = Recorder(sink, shards, 1 << 20)
        recorder.start()
        for shard in range(4):
            assert recorder.record(shard, b"hit", answers.append)
            for _ in range(10):  # turns of the event loop: a group departs, and is answered
                await asyncio.sleep(0)
        assert len(sink.sizes) == len(answers) == sizes.count(1)
        recorder._linger_seconds = 0.0
        recorder._depart()
        await recorder.close()

    asyncio.run(record_four_hits())
    assert sink.sizes == sizes
    assert answers == [True] * 4


def test_recorder_lingers_reply_comes_soon_departs_without_the_gap_of_a_flight(monkeypatch):
    monkeypatch.setattr(recorder_module, "FLIGHT_GAP_SECONDS", 3600.0)
    monkeypatch.setattr(recorder_module, "ANSWER_TIMEOUT_SECONDS", 60.0)

    async def story() -> list[bool]:
        flights: asyncio.Queue[asyncio.Future[list[int]]] = asyncio.Queue()

        class Flights:
            def append(self, batches):
                flight = asyncio.get_running_loop().create_future()
                flights.put_nowait(flight)
                return flight

        async def next_flight() -> asyncio.Future[list[int]]:
            return await asyncio.wait_for(flights.get(), 60)

        recorder = Recorder(Flights(), 1, 1 << 20, linger_seconds=0.02)
        recorder.start()
        answers: list[bool] = []
        recorder.record(0, b"first", answers.append)
        first = await next_flight()
        recorder.record(0, b"second", answers.append)
        await asyncio.sleep(0.05)  # the time to linger is over, but the first group is still in flight
        first.set_result([0])
        second = await next_flight()
        recorder.record(0, b"third", answers.append)
        second.set_result([1])  # at once, so that the third hit lingers
        (await next_flight()).set_result([2])
        await recorder.close()
        return answers

    assert uvloop.run(story()) == [True] * 3


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_recorder_process_stands_still_reads_the_reply_before_it_answers_503(run):
    answers: list[bool] = []

    async def stand_still_during_a_flight() -> None:
        here, there = socket.socketpair()

        class Replies:
            async def append(self, batches):
                reader, writer = await asyncio.open_connection(sock=here)
                there.sendall(b"reply")
                time.sleep(recorder_module.ANSWER_TIMEOUT_SECONDS * 2)  # noqa: ASYNC251 - nothing runs meanwhile
                await reader.read(1)
                writer.close()
                return [batch.sequence - 1 for batch in batches]

        recorder = Recorder(Replies(), 1, 1 << 20)
        recorder.start()
        assert recorder.record(0, b"hit", answers.append)
        await recorder.close(60.0)
        there.close()

    run(stand_still_during_a_flight())
    assert answers == [True]
