"""Keeps a part of Redis's memory free for the roll-up, and measures how full Redis is.

A Redis whose memory is used up to `maxmemory` refuses new hits, the job queue and much else. So web processes
stop writing hits PIXEL_MEMORY_RESERVE bytes before that point. Hits then go to the spool, and are answered
503 when the spool is full too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import redis

from pixel_server import tasks
from pixel_server.logs import Log, describe
from pixel_server.store.nodes import ask_each, node_name, nodes_sync
from pixel_server.store.protocols import AsyncRedis, Redis

log = Log(__name__)

LOOK_SECONDS = 1.0
"""Seconds between two looks at the memory of Redis."""
MAX_RESERVE_SHARE = 0.25
"""Largest part of `maxmemory` that the reserve may take."""
FULL_SHARE = 0.98
"""Part of `maxmemory` above which Redis counts as full. It is below 1 because requests use memory too."""
RESUME_FACTOR = 1.25
"""Multiple of the reserve that must be free before hits are written again."""

ADVICE = "hits go to the spool until there is room: raise maxmemory, or see what else uses this Redis"
"""Words for the operator, after `MemoryUse.describe`."""


class FullError(OSError):
    """Redis is full, or nearly full. The message says how full."""


class MemoryUse(NamedTuple):
    """Bytes that Redis uses, and its `maxmemory` (0 for no limit). name: "Redis", or a node's name."""

    used: int
    maximum: int
    name: str = "Redis"

    @classmethod
    def parse(cls, info: Mapping[str, Any], name: str = "Redis") -> MemoryUse:
        """Reads the reply to `INFO memory`. Leaves out memory that Redis does not count against its limit."""
        used = int(info.get("used_memory", 0)) - int(info.get("mem_not_counted_for_evict", 0))
        return cls(used, int(info.get("maxmemory", 0)), name)

    def is_short(self, reserve_bytes: float) -> bool:
        """Returns whether Redis is full, or less than the reserve is free."""
        if self.maximum <= 0:
            return False
        reserve = min(reserve_bytes, MAX_RESERVE_SHARE * self.maximum)
        return self.is_full or self.maximum - self.used < reserve

    @property
    def is_full(self) -> bool:
        return self.used >= FULL_SHARE * self.maximum

    def describe(self) -> str:
        """Returns how full Redis is: "Redis is full: used 95.2 MB of maxmemory 95.4 MB"."""
        state = "full" if self.is_full else "nearly full"
        used, maximum = _megabytes(self.used), _megabytes(self.maximum)
        return f"{self.name} is {state}: used {used} of maxmemory {maximum}"

    @property
    def used_share(self) -> float:
        """Returns the used part of `maxmemory`, 0 if there is no limit."""
        return self.used / self.maximum if self.maximum > 0 else 0.0


async def read_fullest(store: AsyncRedis) -> MemoryUse:
    """Returns how full Redis is, or the fullest node of a cluster that answers.

    Raises redis.RedisError or OSError if no node answers or a node forbids INFO.
    """

    async def ask(node: AsyncRedis) -> MemoryUse:
        return MemoryUse.parse(await node.info("memory"), "Redis" if node is store else _name(node))

    return max((use for _, use in await ask_each(store, ask)), key=lambda use: use.used_share)


def explain(client: Redis | redis.Redis, error: Exception) -> str:
    """Returns the text of an error. If Redis is full, the text says how full, and what to do."""
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        with contextlib.suppress(redis.RedisError, OSError):
            members = nodes_sync(cast(Redis, client))
            name = _name if len(members) > 1 else lambda node: "Redis"
            uses = [MemoryUse.parse(node.info("memory"), name(node)) for node in members]
            return f"{max(uses, key=lambda use: use.used_share).describe()}; raise maxmemory"
    return describe(error)


def _name(node: AsyncRedis | Redis) -> str:
    return f"the node {node_name(node)}"


class MemoryWatch:
    """Looks at the memory of Redis each second, so that no hit must wait for a look.

    In a cluster, one node that is nearly full sends the hits of all nodes to the spool.
    """

    def __init__(self, store: AsyncRedis, reserve_bytes: int) -> None:
        self._store = store
        self._reserve_bytes = reserve_bytes
        self.is_short = False
        self._text = "Redis is full"  # until the first look

    def refuse_if_short(self) -> None:
        """Raises FullError while less than the reserve is free."""
        if self.is_short:
            raise FullError(self._text)

    def note_refusal(self) -> FullError:
        """Notes that Redis itself refused a write, and returns the error to raise."""
        self.is_short = True
        return FullError(self._text)

    async def look(self) -> None:
        """Reads how full Redis is. Raises redis.RedisError or OSError if Redis does not answer."""
        use = await read_fullest(self._store)
        self._text = use.describe()
        was_short = self.is_short
        self.is_short = use.is_short(self._reserve_bytes * (RESUME_FACTOR if was_short else 1))
        if self.is_short and not was_short:
            log.error("redis-nearly-full", "%(use)s; %(advice)s", use=self._text, advice=ADVICE)
        elif was_short and not self.is_short:
            log.warning("redis-has-room", "Redis has room for hits again")

    async def follow(self) -> None:
        """Calls `look` each second until it is cancelled.

        Does not log that Redis does not answer, because the recorder logs it.
        """
        await tasks.repeat(self.look, LOOK_SECONDS, unreported=(redis.RedisError, OSError))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
