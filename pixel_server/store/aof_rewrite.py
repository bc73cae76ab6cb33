"""What was removed also leaves the disk: Redis is told to rewrite its append-only file.

Until then the file still holds what was written to it. It is rewritten soon after an erasure, a deletion or
a retention run (`ask`), and before addresses that were judged are PIXEL_REWRITE_MINUTES old there. A setting
of 0 leaves all of this to Redis.

Who removes something asks before, so that a crash is made good, and again after: a rewrite that began in
between may still have seen it. Requests are counted; a rewrite answers those made before it began.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import redis

from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis, Redis
from pixel_server.store.script import even_if_full

log = logging.getLogger("pixel_server.store.aof_rewrite")

EARLY = 0.9
"""Of those minutes: a rewrite takes its time."""
AGAIN = 60.0
"""Seconds until one that failed is tried again."""
PAUSE = 10.0
"""Seconds at least between two."""


async def ask(store: AsyncRedis) -> None:
    """Something is about to be removed, or was."""
    await even_if_full(store, "HINCRBY", keys.REWRITE, "asked", 1)


def ask_now(store: Redis) -> None:
    """See `ask`."""
    even_if_full(store, "HINCRBY", keys.REWRITE, "asked", 1)


class Rewriter:
    """Whoever keeps the schedule calls `tick` each second.

    Remembers how far the shards were counted at the last rewrite: if they are further now, addresses have
    been judged since, at the earliest at that rewrite.
    """

    def __init__(self, settings: Settings) -> None:
        self._every = settings.rewrite_minutes * 60.0
        self._counted: Sequence[bytes | None] | None = None
        self._dirty_since: float | None = None
        self._pause_until = 0.0
        self._running = False

    def tick(self, store: Redis, counted: Sequence[bytes | None], now: float) -> bool:
        """counted: of each shard the id of the last entry counted. Whether a rewrite was begun.

        redis.RedisError: it does not answer.
        """
        if not self._every:
            return False
        found = store.hmget(keys.REWRITE, ["asked", "answered", "begun"])
        asked, answered, begun = (int(value or 0) for value in found)
        if now * 1000 < begun:  # a clock was ahead, and has been set right since: it is not known when
            begun, self._dirty_since, self._pause_until = 0, 0.0, 0.0
        if self._dirty_since is None and list(counted) != self._counted:
            # After a start it is not known what was counted when: since the last rewrite, then.
            self._dirty_since = begun / 1000 if self._counted is None else now
        if now < self._pause_until or (self._running and not self._has_ended(store, now)):
            return False
        old = self._dirty_since is not None and now - self._dirty_since >= self._every * EARLY
        if old or (asked != answered and now - begun / 1000 >= PAUSE):
            return self._begin(store, counted, (asked, answered), now)
        return False

    def _begin(
        self, store: Redis, counted: Sequence[bytes | None], requests: tuple[int, int], now: float
    ) -> bool:
        asked, answered = requests
        state = store.info("persistence")
        if not int(state.get("aof_enabled", 0)):
            log.warning("rewrite: Redis keeps no append-only file: there is nothing to rewrite")
            self._pause_until = now + 3600
            return False
        if int(state.get("aof_rewrite_in_progress", 0)) or int(state.get("aof_rewrite_scheduled", 0)):
            return False
        even_if_full(store, "HSET", keys.REWRITE, "answered", asked, "begun", int(now * 1000))
        self._counted, self._dirty_since, self._running = list(counted), None, True
        try:
            store.bgrewriteaof()
        except redis.ResponseError as error:
            log.error("rewrite: Redis does not rewrite its append-only file: %s", error)
            even_if_full(store, "HSET", keys.REWRITE, "answered", answered)
            self._dirty_since, self._pause_until, self._running = 0.0, now + AGAIN, False
            return False
        except redis.TimeoutError:
            pass  # it forks, which takes longer the more it holds; `_has_ended` sees how that went
        return True

    def _has_ended(self, store: Redis, now: float) -> bool:
        state = store.info("persistence")
        if int(state.get("aof_rewrite_in_progress", 0)) or int(state.get("aof_rewrite_scheduled", 0)):
            return False
        self._running = False
        if state.get("aof_last_bgrewrite_status", "ok") == "ok":
            return True
        log.error("rewrite: Redis could not rewrite its append-only file; see its log. Once more in a minute")
        self._dirty_since, self._pause_until = 0.0, now + AGAIN
        return False
