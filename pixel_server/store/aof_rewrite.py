"""Rewrites of Redis's append-only file, so that removed data also leaves the disk.

The file holds all writes until it is rewritten. It is rewritten soon after an erasure, a deletion or a
retention run (`request`). It is also rewritten within PIXEL_REWRITE_MINUTES after hits were counted, because
the stream entries of these hits held client addresses. A setting of 0 leaves all rewrites to Redis.

Callers request a rewrite before they remove data, in case they crash, and again afterwards, because a rewrite
that began in between may still have seen the data. Requests are counted. A rewrite that has ended answers the
requests made before it began.

With a cluster or sentinels, each primary and each replica has a file of its own, and a request is answered
when all of them have been rewritten. The file of a node that is away waits until the node is back. Which
files wait is stored for the operator (`read_waiting`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import redis

from pixel_server.logs import Log, describe
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.aof_node import AofNode, primary_offsets, read_nodes
from pixel_server.store.protocols import AsyncRedis, Redis
from pixel_server.store.script import even_if_full

log = Log(__name__)

EARLY_SHARE = 0.9
"""Part of PIXEL_REWRITE_MINUTES after which a rewrite begins, since a rewrite takes time."""
RETRY_SECONDS = 60.0
"""Seconds until a rewrite that failed is tried again."""
MIN_PAUSE_SECONDS = 10.0
"""Minimum number of seconds between two rewrites."""
NO_FILE_RETRY_SECONDS = 3600
"""Seconds until the next try with a Redis that keeps no append-only file or refuses INFO."""
WAITING = "waiting"
"""Field of REWRITE with the reasons why files could not be rewritten."""
_NODE = b"node "
"""Beginning of the fields of REWRITE that hold the number of requests that a node has answered."""


async def request(store: AsyncRedis) -> None:
    """Requests a rewrite, because data is about to be removed or was removed."""
    await even_if_full(store, "HINCRBY", keys.REWRITE, "asked", 1)


def request_sync(store: Redis) -> int:
    """Requests a rewrite, as `request` does. Returns the number of requests."""
    return int(even_if_full(store, "HINCRBY", keys.REWRITE, "asked", 1))


class Rewriter:
    """Begins rewrites. The schedule calls `tick` each second.

    Remembers the last counted entry of each shard at the last rewrite. If entries were counted since then,
    the files hold client addresses that Redis has removed: the files are dirty.
    """

    def __init__(self, settings: Settings) -> None:
        self._period_seconds = settings.rewrite_minutes * 60.0
        self._last_entries: Sequence[bytes | None] | None = None
        self._dirty_since: float | None = None  # 0 makes a rewrite due at once
        self._pause_until = 0.0
        self._running: dict[str, tuple[int, int]] = {}
        """For each node that rewrites: its number of rewrites before, and the requests that it answers."""

    def tick(self, store: Redis, last_entries: Sequence[bytes | None], now: float) -> bool:
        """Begins the rewrites that are due, and notes those that have ended. Returns whether one began.

        last_entries: the id of the last counted entry, by shard. now: s. Raises redis.RedisError if Redis
        does not answer.
        """
        if not self._period_seconds:
            return False
        record = _Record.read(store)
        if now * 1000 < record.begun_ms:  # a wrong clock stored the time at which the last rewrite began
            record.begun_ms, self._dirty_since, self._pause_until = 0, 0.0, 0.0
        if self._dirty_since is None and list(last_entries) != self._last_entries:
            # After a start it is not known when entries were counted. The last rewrite is the earliest
            # possible time.
            self._dirty_since = record.begun_ms / 1000 if self._last_entries is None else now
        is_paused = now < self._pause_until
        if self._running or (not is_paused and (self._is_due(now) or record.is_unanswered)):
            return self._look(store, record, last_entries, is_paused, now)
        return False

    def _is_due(self, now: float) -> bool:
        return self._dirty_since is not None and now - self._dirty_since >= self._period_seconds * EARLY_SHARE

    def _look(
        self,
        store: Redis,
        record: _Record,
        last_entries: Sequence[bytes | None],
        is_paused: bool,
        now: float,
    ) -> bool:
        """Asks all nodes, begins what is due unless paused, and notes what has ended."""
        problem = ""
        try:
            nodes = read_nodes(store)
        except redis.ResponseError as error:
            problem = f"this user of Redis cannot use INFO, so nothing is rewritten: {describe(error)}"
        else:
            if not any(node.has_file for node in nodes):
                problem = "Redis keeps no append-only file, so nothing can be rewritten"
        if problem:
            log.warning("rewrite-impossible", "%(problem)s", problem=problem)
            self._pause_until = now + NO_FILE_RETRY_SECONDS
            return False
        failures = self._note_ended(record, nodes)
        has_begun = False
        if not is_paused and not failures:
            is_due = self._is_due(now)
            if is_due:
                record.requested = request_sync(store)
                self._last_entries, self._dirty_since = list(last_entries), None
            if is_due or now - record.begun_ms / 1000 >= MIN_PAUSE_SECONDS:
                has_begun, failures = self._begin(record, nodes)
        waiting = "; ".join(failures)
        if waiting and waiting != record.waiting:
            log.error(
                "rewrite-fails",
                "not every append-only file is rewritten, trying again each %(seconds).0f s: %(failures)s",
                seconds=RETRY_SECONDS,
                failures=waiting,
            )
        if waiting:
            record.waiting = waiting
            self._pause_until = now + RETRY_SECONDS
        record.store(store, [node.name for node in nodes], now if has_begun else None)
        return has_begun

    def _note_ended(self, record: _Record, nodes: list[AofNode]) -> list[str]:
        """Notes the nodes whose rewrite has ended well. Returns why others have not rewritten."""
        failures = []
        for node in nodes:
            if node.name not in self._running or node.is_rewriting:
                continue
            before, answers = self._running.pop(node.name)
            if node.has_rewritten(before):
                record.answered_by[node.name] = answers
            else:
                reason = "does not answer" if node.is_away else "could not rewrite it; see its log"
                failures.append(f"{node.name} {reason}")
        return failures

    def _begin(self, record: _Record, nodes: list[AofNode]) -> tuple[bool, list[str]]:
        """Begins the rewrites that are needed. Returns (whether one began, why others could not begin)."""
        offsets = primary_offsets(nodes)
        has_begun, failures = False, []
        for node in nodes:
            if record.answered_of(node.name) >= record.requested or node.name in self._running:
                continue
            lag = node.lag_bytes(offsets)
            if node.is_away:
                failures.append(f"{node.name} does not answer")
            elif not node.has_file:
                record.answered_by[node.name] = record.requested
            elif lag is None:
                failures.append(f"{node.name} is a replica without its primary")
            elif lag or node.is_rewriting:
                continue  # what was removed may be in its file; the next tick looks again
            elif failure := node.begin():
                failures.append(failure)
            else:
                self._running[node.name] = node.rewrites, record.requested
                has_begun = True
        return has_begun, failures


@dataclass(slots=True)
class _Record:
    """The fields of REWRITE. requested, answered: numbers of requests. answered_by: the same of each node.

    waiting: why some files wait to be rewritten, or "".
    """

    requested: int
    answered: int
    begun_ms: int
    waiting: str
    answered_by: dict[str, int]
    stored: Mapping[bytes, bytes]

    @classmethod
    def read(cls, store: Redis) -> _Record:
        fields = store.hgetall(keys.REWRITE)
        requested, answered, begun_ms = (
            int(fields.get(name, 0)) for name in (b"asked", b"answered", b"begun")
        )
        answered_by = {
            name.removeprefix(_NODE).decode(): int(value)
            for name, value in fields.items()
            if name.startswith(_NODE)
        }
        waiting = fields.get(WAITING.encode(), b"").decode()
        return cls(requested, answered, begun_ms, waiting, answered_by, fields)

    @property
    def is_unanswered(self) -> bool:
        return self.answered < self.requested

    def answered_of(self, name: str) -> int:
        """Returns the number of requests that a node has answered."""
        return max(self.answered, self.answered_by.get(name, 0))

    def store(self, store: Redis, names: list[str], begun: float | None) -> None:
        """Stores what has changed. names: all nodes. begun: time at which rewrites began (s), or None."""
        self.answered = min(map(self.answered_of, names))
        fields = {b"answered": b"%d" % self.answered}
        if begun is not None:
            fields[b"begun"] = b"%d" % (begun * 1000)
        temporary = {_NODE + name.encode(): b"%d" % number for name, number in self.answered_by.items()}
        temporary[WAITING.encode()] = self.waiting.encode()
        if self.is_unanswered:
            fields |= temporary
        changed = {name: value for name, value in fields.items() if self.stored.get(name, b"") != value}
        if changed:
            even_if_full(store, "HSET", keys.REWRITE, *(word for pair in changed.items() for word in pair))
        removed = [] if self.is_unanswered else [name for name in temporary if name in self.stored]
        if removed:
            even_if_full(store, "HDEL", keys.REWRITE, *removed)
