"""The recorder: gathers hits into groups, stores each group in one write, then answers its requests.

A group is in flight from its departure (the write to Redis) to the reply. Meanwhile arriving hits gather into
the next group. If Redis does not reply within FLIGHT_GAP_SECONDS, for example because it is far away, the
next group departs anyway. Up to MAX_IN_FLIGHT groups are in flight. Redis accepts each group but the first
only if it has accepted the group before (`Batch.after`). When a group fails, no other group departs until all
groups in flight have ended. Then the failed groups are retried, in order and one at a time.

With more than MANY_SHARDS shards, groups depart at least LINGER_SECONDS apart. Otherwise a group would be so
small that nearly each of its hits would make a batch of its own. The lanes of a cluster have a shorter time.

A group is kept and retried, unchanged, until it is stored. A request waits at most ANSWER_TIMEOUT_SECONDS,
then it is answered 503. Its hit may still be stored: only a 2xx is a promise. Memory is bounded: hits are
refused while the waiting hits take `max_pending_bytes`, counted as encoded bytes plus OVERHEAD_BYTES a hit.

When Redis fails, the group goes to the spool under its sequence numbers. So do all later groups, without
waiting for Redis (`is_redis_away`), until the drain finds that Redis accepts batches and calls `resume`. The
recorder resumes only if round trips are good (`is_ready`), and waits longer each time that Redis failed soon
after a resumption. If batches are still in the spool, the recorder resumes under a new producer id.
Otherwise a later number of the old id could reach Redis first, and the batches in the spool would be taken
for repeats. So a producer with batches in the spool never writes to Redis directly, except when all of these
batches are known to be in Redis (`note_drained`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from pixel_server import tasks
from pixel_server.collect.batch import Batch, Sink, report_gap
from pixel_server.collect.commits import Commits
from pixel_server.collect.group import AnswerCallback, Group
from pixel_server.collect.numbering import Numbering
from pixel_server.collect.outage import Outage
from pixel_server.logs import Log, describe
from pixel_server.store import producer

log = Log(__name__)

ANSWER_TIMEOUT_SECONDS = 0.25
"""Seconds that a request waits at most for its hit to be stored, if this process does not stand still."""
_WAIT_STEPS = 5
"""Number of timers, one after the other, that make up ANSWER_TIMEOUT_SECONDS. If this process stands still
meanwhile, only one of them runs out, and replies that have arrived are read before the next."""
OVERHEAD_BYTES = 400
"""Memory in bytes that one waiting hit and its request take beside the encoded hit."""
GROUP_BYTES = 640 << 10
"""Pending bytes at which a group accepts no more hits: a thousand ordinary hits, or thirty of the longest
(20 KB). The bound is needed because a group must reach Redis, and leave the spool, within a fixed time."""
FLIGHT_GAP_SECONDS = 0.02
"""Seconds that a group waits at most for the reply to the group before. If a round trip takes 150 ms, a hit
cannot wait for two round trips."""
LINGER_SECONDS, MANY_SHARDS = 0.008, 32
"""Seconds between two departures if there are more shards than MANY_SHARDS. A hit after a pause departs at
once."""
MAX_IN_FLIGHT = 12
"""Maximum number of groups in flight: one each FLIGHT_GAP_SECONDS within the longest timeout of a group."""
_RETRY_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds before each retry of a group. The last value repeats."""


class Recorder:
    """Stores hits through a sink, in one event loop. `start` must not be called before a fork.

    spool: the sink for batches that Redis does not accept, or None.
    linger_seconds: minimum number of seconds between two departures. A hit after a pause departs at once.
    on_stored: called with the shards that have new hits in Redis.
    is_ready: returns whether Redis may be used again after a failure.
    on_acknowledged: called with batches that Redis has, and the last sequence number that it had seen before
    each batch.
    commits: is told of each stored group.
    counts: numbers since the start. stored: hits stored anywhere. spooled: hits stored in the spool. late:
    hits answered 503 before they were stored. refused: hits without room. removed: answered hits that were
    lost with files of the spool. gaps: batches that Redis has lost.
    """

    def __init__(
        self,
        sink: Sink,
        shards: int,
        max_pending_bytes: int,
        *,
        spool: Sink | None = None,
        linger_seconds: float = 0.0,
        on_stored: Callable[[Iterable[int]], None] = lambda shards: None,
        is_ready: Callable[[], bool] = lambda: True,
        on_acknowledged: Callable[[Sequence[Batch], Sequence[int]], None] = lambda batches, seen: None,
        commits: Commits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._on_acknowledged = on_acknowledged
        self._commits = commits or Commits()
        self._sink = sink
        self._spool = spool
        self._next_shard = itertools.cycle([*range(1, shards), 0]).__next__
        self._linger_seconds = max(linger_seconds, LINGER_SECONDS if shards > MANY_SHARDS else 0.0)
        self.max_pending_bytes = max_pending_bytes
        self._on_stored = on_stored
        self._is_ready = is_ready
        self._clock = clock
        self._groups: deque[Group] = deque()
        self._gathering: Group | None = None
        self._in_flight: dict[Group, asyncio.Future[list[int]]] = {}
        self._failed: list[Group] = []
        self._single: Group | None = None
        """The group that is being stored while no other may be in flight."""
        self._departed_at = 0.0
        """Time of the event loop (s) at which the last group departed."""
        self._gap_timer: asyncio.TimerHandle | None = None
        """Calls `_depart` some time after the last departure."""
        self._is_closed = False
        self._single_event = asyncio.Event()
        self._idle_event = asyncio.Event()
        self._idle_event.set()
        self._task: asyncio.Task[None] | None = None
        self._numbering = Numbering()
        self._in_spool = False
        """Whether the spool may hold batches of the current producer id."""
        self._spool_writes = 0
        self._spool_failing = False
        self._renew_before_next = False
        """Whether the next group takes a new producer id."""
        self._outage = Outage()
        self.pending_bytes = 0
        self.last_error = ""
        self.counts = {"stored": 0, "spooled": 0, "late": 0, "refused": 0, "gaps": 0, "removed": 0}

    def start(self) -> None:
        """Makes a producer id and begins to store."""
        self._renew()
        (self._task,) = tasks.start([self._run()])

    async def close(self, timeout_seconds: float = 5.0) -> None:
        """Stores waiting hits, for at most `timeout_seconds`, and ends."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle_event.wait(), timeout_seconds)
        unstored = [*self._in_flight, *self._failed, *self._groups]
        if self._single is not None:
            unstored.append(self._single)
        if hits := sum(group.count for group in unstored):
            log.error(
                "stopped-with-hits", "stopped with %(hits)d hits not stored; each was answered 503", hits=hits
            )
        self._is_closed = True
        if self._gap_timer is not None:
            self._gap_timer.cancel()
        if self._task is not None:
            await tasks.end([self._task])
        for flight in self._in_flight.values():
            flight.cancel()
        for group in unstored:
            group.answer(False)

    def record(self, shard: int | None, data: bytes, answered: AnswerCallback) -> bool:
        """Accepts a hit. Returns False if there is no room; otherwise `answered` is called once.

        shard: None if any shard may have the hit.
        """
        size = len(data) + OVERHEAD_BYTES
        if self.pending_bytes + size > self.max_pending_bytes:
            self.counts["refused"] += 1
            return False
        if shard is None:
            shard = self._next_shard()
        group = self._gathering
        if group is None or group.timer is None or group.size >= GROUP_BYTES:
            group = self._begin_group()
        hits = group.shards.get(shard)
        if hits is None:
            group.shards[shard] = [data]
        else:
            hits.append(data)
        group.callbacks.append(answered)
        group.count += 1
        group.size += size
        self.pending_bytes += size
        return True

    def _begin_group(self) -> Group:
        """Begins a group, and plans its departure."""
        loop = asyncio.get_running_loop()
        self._gathering = group = Group()
        self._wait(group, _WAIT_STEPS)
        self._groups.append(group)
        self._idle_event.clear()
        if not self._in_flight:
            loop.call_soon(self._depart)  # after all hits that arrive in this turn of the event loop
        elif self._gap_timer is None:
            self._depart_at(self._departed_at + (self._linger_seconds or FLIGHT_GAP_SECONDS))
        return group

    def _wait(self, group: Group, steps: int) -> None:
        """Gives a group this many steps of time. Then answers its requests 503; it is stored later."""
        if steps:
            loop = asyncio.get_running_loop()
            group.timer = loop.call_later(ANSWER_TIMEOUT_SECONDS / _WAIT_STEPS, self._wait, group, steps - 1)
            return
        group.timer = None
        self.counts["late"] += group.answer(False)

    def _depart_at(self, loop_time: float) -> None:
        """Calls `_depart` at this time of the event loop (s), or earlier if that is planned already."""
        if self._gap_timer is not None:
            # If the time has come, uvloop plans the call for the next turn, and its handle has no time.
            if not hasattr(self._gap_timer, "when") or self._gap_timer.when() <= loop_time:
                return
            self._gap_timer.cancel()
        self._gap_timer = asyncio.get_running_loop().call_at(loop_time, self._end_gap)

    def _end_gap(self) -> None:
        self._gap_timer = None
        self._depart()

    def _depart(self) -> None:
        """Sends the waiting groups that may depart now."""
        while self._groups and not self._is_closed:
            if not self._may_overlap:
                if not self._in_flight:
                    self._single_event.set()
                return
            if self._in_flight or self._linger_seconds:
                gap_seconds = FLIGHT_GAP_SECONDS if self._in_flight else self._linger_seconds
                departs_at = self._departed_at + gap_seconds
                if departs_at > asyncio.get_running_loop().time():
                    self._depart_at(departs_at)
                    return
                if len(self._in_flight) >= MAX_IN_FLIGHT:
                    return
            self._send(self._take_group())

    @property
    def _may_overlap(self) -> bool:
        """Returns whether several groups may be in flight at once."""
        if self._outage.is_going_on or self._failed or self._single is not None:
            return False
        return not self._in_spool or self._renew_before_next

    def _take_group(self) -> Group:
        """Returns the first waiting group, with its batches numbered."""
        group = self._groups.popleft()
        if group is self._gathering:
            self._gathering = None
        now = self._clock()
        if self._renew_before_next or self._numbering.is_idle(now):
            self._renew()
        group.batches = self._numbering.number(group.shards, now)
        group.departed_at = time.monotonic()
        return group

    def _send(self, group: Group) -> None:
        """Sends a group to Redis. If others are in flight, Redis must have accepted them first."""
        if self._in_flight:
            group.batches = [batch._replace(after=batch.sequence - 1) for batch in group.batches]
        self._departed_at = asyncio.get_running_loop().time()
        self._in_flight[group] = flight = asyncio.ensure_future(self._sink.append(group.batches))
        flight.add_done_callback(functools.partial(self._on_reply, group))

    def _on_reply(self, group: Group, flight: asyncio.Future[list[int]]) -> None:
        """Finishes a group that Redis accepted. Keeps any other group for a retry."""
        if self._is_closed:
            return
        del self._in_flight[group]
        error = asyncio.CancelledError() if flight.cancelled() else flight.exception()
        if error is None and self._is_accepted(group.batches, flight.result()):
            self._depart()  # first, so that the next group is written while this group is answered
            self._finish(group, in_redis=True)
        else:
            if error is not None:
                self._note_failure(error, group)
            self._failed.append(group)
        if self._failed and not self._in_flight:
            self._single_event.set()

    def _is_accepted(self, batches: Sequence[Batch], seen: Sequence[int]) -> bool:
        """Returns whether Redis accepted all batches. Counts and logs the batches that it has lost."""
        accepted = 0
        for batch, last_seen in zip(batches, seen, strict=True):
            if last_seen >= max(0, batch.after):
                accepted += 1
                self.count_lost(report_gap(batch, last_seen))
        if accepted < len(batches):
            return False
        self._on_acknowledged(batches, seen)
        return True

    def _finish(self, group: Group, in_redis: bool) -> None:
        """Answers the requests of a stored group."""
        if group.timer is not None:
            group.timer.cancel()
        self.pending_bytes -= group.size
        self.counts["stored"] += group.count
        self._commits.note(time.monotonic() - group.departed_at, group.answer(True))
        if in_redis:
            self._on_stored(group.shards)
        if not (self._groups or self._in_flight or self._failed or self._single):
            self._idle_event.set()

    async def _run(self) -> None:
        """Stores groups one at a time while several must not be in flight."""
        while True:
            await self._single_event.wait()
            self._single_event.clear()
            while not self._in_flight and (self._failed or (self._groups and not self._may_overlap)):
                if self._failed:
                    self._single = group = min(self._failed, key=lambda failed: failed.departed_at)
                    self._failed.remove(group)
                    group.batches = [batch._replace(after=0) for batch in group.batches]
                else:
                    self._single = group = self._take_group()
                in_redis = await self._store(group)
                self._single = None
                self._finish(group, in_redis)
            self._depart()

    @property
    def waiting_hits(self) -> int:
        """Returns the number of hits that are not stored yet."""
        unstored = [*self._in_flight, *self._failed, *self._groups]
        return sum(group.count for group in unstored) + (0 if self._single is None else self._single.count)

    @property
    def is_redis_away(self) -> bool:
        """Returns whether hits go to the spool, because Redis does not store them."""
        return self._outage.is_going_on

    @property
    def failing_since(self) -> float | None:
        """Returns when Redis began to fail (s since 1970), None if it stores hits."""
        return self._outage.since

    @property
    def can_store(self) -> bool:
        """Returns whether the last hits could be stored, in Redis or in the spool."""
        return not self.is_redis_away or (self._spool is not None and not self._spool_failing)

    def resume(self, shards: Iterable[int] = ()) -> None:
        """Sends the next group to Redis, unless Redis failed too recently.

        Call it when Redis accepts batches. shards: the shards of these batches. A recorder has one node, so
        it does not matter which shards they are.
        """
        if (
            self.is_redis_away
            and self._is_ready()
            and self._outage.may_end(asyncio.get_running_loop().time())
        ):
            self._resume()

    def _resume(self) -> None:
        seconds = self._clock() - (self.failing_since or 0)
        log.warning("redis-stores-again", "Redis stores again, after %(seconds).1f s", seconds=seconds)
        self._outage.end(asyncio.get_running_loop().time())
        self._renew_before_next = self._in_spool

    def spooled_groups(self) -> int:
        """Returns the number of groups that were sent to the spool so far."""
        return self._spool_writes

    def note_drained(self, groups: int) -> None:
        """Notes that all batches of the first groups that were sent to the spool are in Redis.

        groups: the number of these groups, as `spooled_groups` returned it.
        """
        if groups == self._spool_writes:
            self._in_spool = False

    def count_removed(self, hits: int) -> None:
        """Counts answered hits that are lost because somebody removed the spool's files."""
        self.counts["removed"] += hits

    def count_lost(self, batches: int) -> None:
        """Counts batches that Redis has lost."""
        self.counts["gaps"] += batches

    async def _store(self, group: Group) -> bool:
        """Stores a group. Retries until it is stored.

        Returns True if the group is in Redis, False if it is in the spool.
        """
        batches = group.batches
        tries = 0
        while True:
            if not self._in_spool and (not self.is_redis_away or self._spool is None or tries):
                unstored = await self._to_redis(batches, group)
                if not unstored:
                    return True
                if unstored is not batches:  # the producer id of some batches was too old
                    batches = unstored
                    continue
            if self._spool is not None and await self._to_spool(batches, self._spool):
                self.counts["spooled"] += group.count
                return False
            await asyncio.sleep(_RETRY_SECONDS[min(tries, len(_RETRY_SECONDS) - 1)])
            tries += 1

    async def _to_redis(self, batches: list[Batch], group: Group) -> list[Batch]:
        """Tries to store batches in Redis.

        Returns the batches that are still to be stored: none; `batches` itself after a failure; or some of
        them under a new producer id.
        """
        try:
            seen = await self._sink.append(batches)
        except Exception as error:
            self._note_failure(error, group)
            return batches
        if min(seen) < 0:
            # Redis does not know this producer, so it has none of these batches, and a new id is safe.
            stale = {batch.shard for batch, last_seen in zip(batches, seen, strict=True) if last_seen < 0}
            if self._numbering.producer == batches[0].producer:
                log.warning(
                    "producer-renewed",
                    "Redis does not know producer %(producer)s any more; going on under a new id",
                    producer=self._numbering.producer,
                )
                self._renew(producer.floor(min(seen)))
            stale_hits = {shard: hits for shard, hits in group.shards.items() if shard in stale}
            return self._numbering.number(stale_hits, self._clock())
        for batch, last_seen in zip(batches, seen, strict=True):
            self.count_lost(report_gap(batch, last_seen))
        self._on_acknowledged(batches, seen)
        if self.failing_since is not None:
            self._resume()
        return []

    async def _to_spool(self, batches: list[Batch], spool: Sink) -> bool:
        """Tries to store batches in the spool. Returns whether they are on disk."""
        try:
            self._in_spool = True  # before the write: a failed write may have stored some batches
            self._renew_before_next = self._renew_before_next or not self.is_redis_away
            self._spool_writes += 1
            await spool.append(batches)
        except Exception as error:
            self.last_error = f"spool: {describe(error)}"
            if not self._spool_failing:
                log.error(
                    "spool-fails", "the spool fails, too; hits are answered 503: %(error)s", error=error
                )
            self._spool_failing = True
            return False
        self._spool_failing = False
        return True

    def _renew(self, floor: int = 0) -> None:
        """Takes a new producer id, whose time is later than `floor` (ms since 1970)."""
        self._numbering.renew(self._clock(), floor)
        self._in_spool = self._renew_before_next = False

    def _note_failure(self, error: BaseException, group: Group) -> None:
        """Notes that Redis failed. From now on hits go to the spool."""
        self.last_error = f"{type(error).__name__}: {describe(error) if str(error) else 'no answer in time'}"
        if self._outage.begin(self._clock(), asyncio.get_running_loop().time()):
            where = "wait" if self._spool is None else "go to the spool"
            log.error(
                "redis-does-not-store",
                "Redis does not store, %(hits)d hits %(where)s: %(error)s",
                hits=group.count,
                where=where,
                error=self.last_error,
            )
