"""When the recorder's groups depart."""

from __future__ import annotations

import asyncio

import pytest

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
        monkeypatch.setattr(recorder_module, "LINGER_SECONDS", 0.0)
        recorder._depart()
        await recorder.close()

    asyncio.run(record_four_hits())
    assert sink.sizes == sizes
    assert answers == [True] * 4
