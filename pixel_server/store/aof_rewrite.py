"""Rewrites of Redis's append-only file, so that removed data also leaves the disk.

The file holds all writes until it is rewritten. It is rewritten soon after an erasure, a deletion or a
retention run (`request`). It is also rewritten within PIXEL_REWRITE_MINUTES after hits were counted, because
the stream entries of these hits held client addresses. A setting of 0 leaves all rewrites to Redis.

Callers request a rewrite before they remove data, in case they crash, and again afterwards, because a rewrite
that began in between may still have seen the data. Requests are counted; a rewrite answers the requests made
before it began.

In a cluster each node has a file, and a request is answered when all nodes have rewritten, replicas too.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import redis

from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.nodes import node_name, nodes_sync
from pixel_server.store.protocols import AsyncRedis, Redis
from pixel_server.store.script import even_if_full

log = logging.getLogger("pixel_server.store.aof_rewrite")

EARLY_SHARE = 0.9
"""Part of PIXEL_REWRITE_MINUTES after which a rewrite begins, since a rewrite takes time."""
RETRY_SECONDS = 60.0
"""Seconds until a rewrite that failed is tried again."""
MIN_PAUSE_SECONDS = 10.0
"""Minimum number of seconds between two rewrites."""
NO_FILE_RETRY_SECONDS = 3600
"""Seconds until the next try with a Redis that keeps no append-only file or refuses INFO."""


async def request(store: AsyncRedis) -> None:
    """Requests a rewrite, because data is about to be removed or was removed."""
    await even_if_full(store, "HINCRBY", keys.REWRITE, "asked", 1)


def request_sync(store: Redis) -> None:
    """Requests a rewrite, as `request` does."""
    even_if_full(store, "HINCRBY", keys.REWRITE, "asked", 1)


class Rewriter:
    """Begins rewrites. The schedule calls `tick` each second.

    Remembers the last counted entry of each shard at the last rewrite. If entries were counted since then,
    the file holds client addresses that Redis has removed: the file is dirty.
    """

    def __init__(self, settings: Settings) -> None:
        self._period_seconds = settings.rewrite_minutes * 60.0
        self._last_entries: Sequence[bytes | None] | None = None
        self._dirty_since: float | None = None  # 0 makes a rewrite due at once
        self._pause_until = 0.0
        self._rewrites: dict[str, int] | None = None
        """Number of rewrites of each node before those under way, None if none are under way."""

    def tick(self, store: Redis, last_entries: Sequence[bytes | None], now: float) -> bool:
        """Begins a rewrite if a rewrite is due. Returns whether it began.

        last_entries: the id of the last counted entry, by shard. now: s. Raises redis.RedisError if Redis
        does not answer.
        """
        if not self._period_seconds:
            return False
        values = store.hmget(keys.REWRITE, ["asked", "answered", "begun"])
        requested, answered, begun_ms = (int(value or 0) for value in values)
        if now * 1000 < begun_ms:  # a wrong clock stored the time at which the last rewrite began
            begun_ms, self._dirty_since, self._pause_until = 0, 0.0, 0.0
        if self._dirty_since is None and list(last_entries) != self._last_entries:
            # After a start it is not known when entries were counted. The last rewrite is the earliest
            # possible time.
            self._dirty_since = begun_ms / 1000 if self._last_entries is None else now
        if now < self._pause_until or (self._rewrites is not None and not self._has_succeeded(store, now)):
            return False
        due_seconds = self._period_seconds * EARLY_SHARE
        is_due = self._dirty_since is not None and now - self._dirty_since >= due_seconds
        if is_due or (requested != answered and now - begun_ms / 1000 >= MIN_PAUSE_SECONDS):
            return self._begin(store, last_entries, (requested, answered), now)
        return False

    def _begin(
        self, store: Redis, last_entries: Sequence[bytes | None], requests: tuple[int, int], now: float
    ) -> bool:
        """Begins a rewrite of each node's file. Returns whether the rewrites began. requests: numbers of
        requests made and answered."""
        requested, answered = requests
        away: list[str] = []
        try:
            files = {
                node: info for node, info in _read_persistence(store, away) if int(info.get("aof_enabled", 0))
            }
        except redis.ResponseError as error:
            log.warning("rewrite: this user of Redis cannot use INFO, so nothing is rewritten: %s", error)
            self._pause_until = now + NO_FILE_RETRY_SECONDS
            return False
        if not files:
            log.warning("rewrite: Redis keeps no append-only file, so nothing can be rewritten")
            self._pause_until = now + NO_FILE_RETRY_SECONDS
            return False
        if any(map(_is_rewriting, files.values())):
            return False
        even_if_full(store, "HSET", keys.REWRITE, "answered", requested, "begun", int(now * 1000))
        self._last_entries, self._dirty_since = list(last_entries), None
        self._rewrites = {node_name(node): int(info.get("aof_rewrites", 0)) for node, info in files.items()}
        failures = [f"{name} does not answer" for name in away]
        for node in files:
            try:
                node.bgrewriteaof()
            except redis.ResponseError as error:
                failures.append(f"{node_name(node)} refused: {error}")
            except redis.TimeoutError:
                pass  # Redis forks first, which takes long if it holds much; `_has_succeeded` sees the result
        if failures:
            even_if_full(store, "HSET", keys.REWRITE, "answered", answered)
            self._retry_later(now, "; ".join(failures))
        return not failures

    def _has_succeeded(self, store: Redis, now: float) -> bool:
        """Returns whether the rewrites under way have ended well. Plans a retry if a rewrite failed.

        A node that was started again meanwhile, or is new, has not rewritten its file.
        """
        away: list[str] = []
        infos = [(node_name(node), info) for node, info in _read_persistence(store, away)]
        if away or any(_is_rewriting(info) for _, info in infos):
            return False
        failed = [name for name, info in infos if not self._has_rewritten(name, info)]
        if not failed:
            self._rewrites = None
            return True
        self._retry_later(now, f"{' and '.join(failed)} could not rewrite it; see its log")
        return False

    def _has_rewritten(self, name: str, info: Mapping[str, Any]) -> bool:
        if not int(info.get("aof_enabled", 0)):
            return True
        before = None if self._rewrites is None else self._rewrites.get(name)
        is_counted = before is not None and int(info.get("aof_rewrites", before + 1)) > before
        return is_counted and info.get("aof_last_bgrewrite_status", "ok") == "ok"

    def _retry_later(self, now: float, reason: str) -> None:
        log.error(
            "rewrite: not every append-only file is rewritten, trying again in %.0f s: %s",
            RETRY_SECONDS,
            reason,
        )
        self._dirty_since, self._pause_until, self._rewrites = 0.0, now + RETRY_SECONDS, None


def _read_persistence(store: Redis, away: list[str]) -> list[tuple[Redis, Mapping[str, Any]]]:
    """Returns the reply to `INFO persistence` of each node, replicas too: each has a file of its own.

    Adds the nodes of a cluster that do not answer to `away`. Raises redis.RedisError if no node answers, or
    if one forbids INFO.
    """
    members = nodes_sync(store, replicas=True)
    infos: list[tuple[Redis, Mapping[str, Any]]] = []
    for node in members:
        try:
            infos.append((node, node.info("persistence")))
        except (redis.ConnectionError, redis.TimeoutError):
            away.append(node_name(node))
            if len(away) == len(members):
                raise
    return infos


def _is_rewriting(persistence: Mapping[str, Any]) -> bool:
    """Returns whether a rewrite runs or is scheduled. persistence: the reply to `INFO persistence`."""
    return any(
        int(persistence.get(field, 0)) for field in ("aof_rewrite_in_progress", "aof_rewrite_scheduled")
    )
