"""Acknowledged batches are written to files while the store hangs."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pixel_server.collect.acknowledged import AcknowledgedFiles
from pixel_server.collect.batch import Batch
from pixel_server.collect.descriptor_reserve import DescriptorReserve
from pixel_server.collect.loss_watch import LossWatch
from pixel_server.collect.tail import Tail
from pixel_server.store.client import connect_async
from pixel_server.store.store_mark import StoreMark

PRODUCER = "01a0c4506c0059ab351f1c6117b2"


def test_loss_watch_store_hangs_still_writes_acknowledged_batches(tmp_path: Path):
    """One node of a cluster may hang while another acknowledges hits. The process may be killed meanwhile."""

    async def story() -> None:
        is_asked = asyncio.Event()

        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            is_asked.set()
            await reader.read()
            writer.close()

        async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            store = connect_async(f"redis://127.0.0.1:{port}", timeout=60.0)
            watch = LossWatch(store, tmp_path, 4, StoreMark(tmp_path), DescriptorReserve(), Tail())
            running = asyncio.create_task(watch.run())
            await asyncio.wait_for(is_asked.wait(), 60)
            watch.note([Batch(0, PRODUCER, 1, b"\x90")], [0])
            async with asyncio.timeout(60):
                while not AcknowledgedFiles(tmp_path, 4).read_newest():  # noqa: ASYNC110 - a file has no event
                    await asyncio.sleep(0.05)
            running.cancel()
            await store.aclose()

    asyncio.run(story())
