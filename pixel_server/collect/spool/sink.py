"""The spool as a sink of the recorder."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pixel_server.collect.batch import Batch
from pixel_server.collect.spool.spool import Spool


class SpoolSink:
    """A `Sink`. Writes in a thread of its own, so that the event loop never waits for a disk."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._thread = ThreadPoolExecutor(1, "spool")
        self._thread.submit(int)  # starts the thread now: later there may be no memory for it

    async def append(self, batches: Sequence[Batch]) -> list[int]:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._spool.append, batches)
        return [batch.sequence - 1 for batch in batches]
