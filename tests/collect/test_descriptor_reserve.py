"""File descriptors in reserve: spool, acknowledged batches and the connection to Redis need no free one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from pixel_server.collect import loss_storage, losses
from pixel_server.collect.acknowledged import AcknowledgedBatch, AcknowledgedFiles
from pixel_server.collect.descriptor_reserve import DescriptorReserve
from pixel_server.collect.loss_watch import LossWatch
from pixel_server.collect.losses import RemovedFile
from pixel_server.collect.redis_sink import RedisSink
from pixel_server.collect.spool.spool import Spool
from pixel_server.collect.tail import Tail
from pixel_server.settings import Settings
from pixel_server.store.client import connect_async
from pixel_server.store.store_mark import StoreMark
from tests.collect.spool.batches import LIMIT, PRODUCER, batch, drain, reader


@pytest.fixture
def reserve() -> Iterator[DescriptorReserve]:
    reserve = DescriptorReserve()
    reserve.open()
    yield reserve
    reserve.close()


@contextlib.contextmanager
def no_free_descriptor() -> Iterator[None]:
    """Uses up all descriptors of this process."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, limits[1]), limits[1]))
        with contextlib.suppress(OSError):
            while True:
                used.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for file in used:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_spool_open_without_free_descriptors_takes_batches(tmp_path: Path, reserve: DescriptorReserve):
    """Appends more than one segment holds, and drains in between."""
    home = tmp_path / "spool"
    opened = Spool(home, LIMIT, segment_bytes=400, reserve=reserve)
    opened.open()
    given = [batch(number) for number in range(1, 8)]
    with no_free_descriptor():
        for one in given:
            opened.append([one])
        opened.seal()
        assert drain(opened) == given
        opened.append([batch(8)])
    opened.close()
    assert drain(reader(home)) == [batch(8)]


def test_acknowledged_file_of_new_producer_without_free_descriptors_is_written(
    tmp_path: Path, reserve: DescriptorReserve
):
    written = AcknowledgedFiles(tmp_path, 1, reserve)
    with no_free_descriptor():
        written.note([AcknowledgedBatch(PRODUCER, 0, 1, 2)])
    written.close([])
    assert AcknowledgedFiles(tmp_path, 1).read_newest() == {(PRODUCER, 0): 1}


def test_loss_watch_without_free_descriptors_stores_a_loss(
    settings: Settings, client: redis.Redis, reserve: DescriptorReserve
):
    store = connect_async(settings.redis_url)
    watch = LossWatch(store, settings.data, settings.shards, StoreMark(settings.data), reserve, Tail())
    with no_free_descriptor():
        watch.note([batch(1)], [0])
        watch.note_removed([RemovedFile("a.seg", 3)])
        watch.close()
    assert loss_storage.report_file(settings.data).removed_hits == 3
    assert AcknowledgedFiles(settings.data, settings.shards).read_newest() == {(PRODUCER, 0): 1}


def test_losses_file_unreadable_for_a_moment_keeps_earlier_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    earlier, later = (dict([losses.pack_removed_file(RemovedFile(name, 3), 1)]) for name in ("a", "b"))
    loss_storage.add_to_file(tmp_path, earlier)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: os.open("/", os.O_WRONLY))  # raises OSError
        with pytest.raises(OSError):  # noqa: PT011 - the class differs by platform
            loss_storage.add_to_file(tmp_path, later)
    loss_storage.add_to_file(tmp_path, later)
    assert loss_storage.report_file(tmp_path).removed_hits == 6


def test_redis_sink_without_free_descriptors_connects(redis_url: str, reserve: DescriptorReserve):
    async def story() -> None:
        sink = RedisSink(redis_url, reserve=reserve)
        with no_free_descriptor():
            await sink.warm_up()
        assert sink.is_ready
        sink.close()

    asyncio.run(story())
