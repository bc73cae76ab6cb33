"""A sink that refuses batches while Redis is nearly full, so that the roll-up has room to work in."""

from __future__ import annotations

from collections.abc import Sequence

import hiredis

from pixel_server.collect.batch import Batch, Sink
from pixel_server.store.memory_reserve import MemoryWatch


class MemoryReserveSink:
    """A `Sink` in front of another `Sink`. Raises FullError while less than the reserve of memory is free."""

    def __init__(self, sink: Sink, watch: MemoryWatch) -> None:
        self._sink = sink
        self._watch = watch

    async def append(self, batches: Sequence[Batch]) -> list[int]:
        self._watch.refuse_if_short()
        try:
            return await self._sink.append(batches)
        except hiredis.ReplyError as error:
            if str(error).startswith("OOM"):
                raise self._watch.note_refusal() from None
            raise
