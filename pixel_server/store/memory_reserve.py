"""How full Redis is, and whether hits must leave the rest of its memory to the roll-up.

A Redis whose memory is used up to `maxmemory` refuses new hits, and with them the job queue and much else. So
web processes stop before that, PIXEL_MEMORY_RESERVE bytes below it: hits then go to the spool, and are
answered 503 when that is full, too.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import redis

from pixel_server import tasks
from pixel_server.store.protocols import AsyncRedis, Redis

log = logging.getLogger("pixel_server.store.memory_reserve")

LOOK = 1.0
"""Seconds between two looks at the memory of Redis."""
MOST = 0.25
"""Most of `maxmemory` that the reserve may be."""
FULL = 0.98
"""Part of `maxmemory` above which a Redis is called full: its use moves by what it is being sent."""
AGAIN = 1.25
"""Hits are let in again when so many times the reserve are free."""


class FullError(OSError):
    """Redis is full, or nearly so. The message says how full."""


class Room(NamedTuple):
    """Bytes. maximum: `maxmemory`; 0: no limit."""

    used: int
    maximum: int

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Room:
        """Reads the answer of `INFO memory`. What Redis does not count against its limit is left out."""
        used = int(info.get("used_memory", 0)) - int(info.get("mem_not_counted_for_evict", 0))
        return cls(used, int(info.get("maxmemory", 0)))

    def is_short(self, reserve: float) -> bool:
        """Returns whether less than the reserve (bytes) is free, or it is full."""
        return self.maximum > 0 and (
            self.used >= FULL * self.maximum or self.maximum - self.used < min(reserve, MOST * self.maximum)
        )

    def describe(self) -> str:
        """Returns the cause for the operator, as "Redis is full: used 95.2 MB of maxmemory 95.4 MB"."""
        state = "full" if self.used >= FULL * self.maximum else "nearly full"
        return f"Redis is {state}: used {_megabytes(self.used)} of maxmemory {_megabytes(self.maximum)}"


def explain(client: Redis | redis.Redis, error: Exception) -> str:
    """Returns what to tell the operator of an error: how full Redis is, if that is the cause."""
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        with contextlib.suppress(redis.RedisError, OSError):
            return f"{Room.of(client.info('memory')).describe()}; raise maxmemory"
    return str(error)


ADVICE = "hits go to the spool until there is room: raise maxmemory, or see what else uses this Redis"


class Watch:
    """Looks at the memory of Redis each second, so that no hit has to ask."""

    def __init__(self, store: AsyncRedis, reserve: int) -> None:
        self._store = store
        self._reserve = reserve
        self.is_short = False
        self._text = "Redis is full"
        """Said while nothing is known of its memory."""

    def refuse(self) -> None:
        """Raises FullError while less than the reserve is free."""
        if self.is_short:
            raise FullError(self._text)

    def refused(self) -> FullError:
        """Notes that Redis itself refused a write, and returns the error to raise."""
        self.is_short = True
        return FullError(self._text)

    async def look(self) -> None:
        """redis.RedisError, OSError: Redis does not answer; what was seen last stays."""
        room = Room.of(await self._store.info("memory"))
        self._text = room.describe()
        was, self.is_short = self.is_short, room.is_short(self._reserve * (AGAIN if self.is_short else 1))
        if self.is_short and not was:
            log.error("%s; %s", self._text, ADVICE)
        elif was and not self.is_short:
            log.warning("Redis has room for hits again")

    async def follow(self) -> None:
        """Looks until cancelled."""
        await tasks.repeat(self.look, LOOK, unreported=(redis.RedisError, OSError))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
