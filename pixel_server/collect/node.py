"""The connections of this process to one Redis: a single Redis, or a node of a cluster."""

from __future__ import annotations

import asyncio

from pixel_server.collect.redis_sink import RedisSink
from pixel_server.store.memory_reserve import MemoryWatch


class Node:
    """One Redis. hits: its connection for hits. drain: its connection for batches of the spool.

    drain: None if one connection serves both.
    """

    def __init__(self, memory: MemoryWatch, hits: RedisSink, drain: RedisSink | None = None) -> None:
        self.memory = memory
        self.hits = hits
        self.drain = drain or hits

    async def settle(self) -> None:
        """Waits until the connection for hits is ready, so that hits need no spool."""
        await self.hits.settle()

    async def run(self) -> None:
        """Keeps the connections ready, and follows how full Redis is, until cancelled."""
        sinks = {self.hits, self.drain}
        await asyncio.gather(*(sink.keep_connected() for sink in sinks), self.memory.follow())

    def close(self) -> None:
        self.hits.close()
        self.drain.close()
