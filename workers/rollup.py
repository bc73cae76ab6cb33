"""The roll-up of one shard: checkpoint, read, tally, apply; until the shard was seen empty or the time is
up."""

from __future__ import annotations

import functools
import gc
import logging
import re
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum

import redis

from pixel_server.campaigns import retention, storage
from pixel_server.classify.judge import judge_of
from pixel_server.consent import Consent
from pixel_server.counters import burst_window, visitor_salts, web_names
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.recipients import withdrawals
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import aof_rewrite, checkpoint, keys
from pixel_server.store.checkpoint import Checkpoint, read_checkpoint
from pixel_server.store.clock import Clock
from pixel_server.store.protocols import Redis
from pixel_server.store.script import even_if_full
from workers import apply, bursts, sessions, stream_reader
from workers.context import context, is_known
from workers.fold import Tally, days, fold, wanted

log = logging.getLogger("workers.rollup")

_PASSES = re.compile(
    r"\b(OOM|READONLY|MISCONF|NOREPLICAS|LOADING|BUSY|TRYAGAIN|CLUSTERDOWN|MASTERDOWN|MOVED|ASK|NOSCRIPT"
    r"|NOAUTH|NOPERM|UNBLOCKED|EXECABORT)\b"
)
"""Words of errors of Redis that say nothing of what a key holds, and pass or are mended elsewhere."""
TIME = 2.0
"""Seconds a job drains at most: other shards wait for the same worker."""

ALIVE = 10.0
"""Seconds since the last beat of a worker that is there."""
BESIDE = 4
"""Shards drained beside each other at most."""
SWITCH = 0.0003
"""Seconds until a thread that has its answer from Redis may read it: many such answers make a pass."""

COMPUTING = threading.Lock()
"""Held by the one thread that computes, from end to end: threads that take turns at it would all be done at
the same time, then all wait for Redis."""

PASS_HITS, PASS_ENTRIES = 4000, 512
"""At which a pass stops reading."""
LOSSES = 2
"""Commits of a pass that fail before the roll-up takes a lead over other writers."""
MOST_LOSSES = 8
"""Commits of a pass that fail before the job gives up. Each try reads a quarter of the entries."""

FORGET_MS = 600_000
"""ms. A shard's newest hit that is further ahead of Redis's time was stamped by a wrong clock, perhaps that
of Redis before it was set right. Beside such a hit all others are late, and make no visits, so it is
forgotten."""


class Outcome(Enum):
    COUNTED = "counted"
    EMPTY = "empty"
    MOVED = "moved"
    STOPPED = "stopped"


@dataclass(slots=True)
class Rollup:
    """One shard's. entries: that a pass reads at most. behind: whether the last pass stopped at its limit.
    left: the checkpoint as the last pass left it, which then need not be read. read: entries of that pass.
    last: id of the last entry counted, as the last pass began.
    ahead_ms: see `waiting.decode`."""

    store: Redis
    settings: Settings
    secrets: Secrets
    shard: int
    entries: int = PASS_ENTRIES
    counted: int = 0
    behind: bool = False
    left: Checkpoint | None = None
    read: int = stream_reader.FIRST
    last: str = ""
    ahead_ms: int = stream_reader.AHEAD_MS

    def step(self, now: float) -> Outcome:
        """One pass: what waits, up to PASS_HITS or so, is in the counters, or nothing has changed.

        now: Redis's time, s.
        """
        before = self.left or read_checkpoint(self.store, self.shard)
        last, newest = before.last_entry, before.newest_ms
        self.left, self.last = None, last
        if newest > now * 1000 + FORGET_MS:
            return self._forget(before)
        entries, behind = stream_reader.read(self.store, self.shard, last, PASS_HITS, self.entries, self.read)
        if not entries:
            self.store.delete(keys.stop(self.shard))
            return Outcome.EMPTY
        with COMPUTING:
            hits, unreadable, taken, newer, ahead = stream_reader.decode(entries, self.ahead_ms)
            asked = wanted(hits)
            people = {one.recipient for one in hits} - {b""}
        if taken is None:
            return self._stop(f"entry {newer}: written by a newer version; update the workers")
        found = storage.seal(self.store, asked, now, self.settings) if hits else {}
        try:
            gone = withdrawals.periods_by_recipient(self.store, self.secrets, people)
        except NewerFormat as error:
            return self._stop(f"{error}; update the workers")
        judge = judge_of(self.settings)
        with COMPUTING:
            ends = days(hits, found)
        known, making = visitor_salts.read_or_make(self.store, self.shard, ends, now)
        with COMPUTING:
            tally = fold(hits, found, gone, Consent(self.settings), judge, self.secrets, known)
        tally.dead.extend(unreadable)
        # Into an empty place as many go as one pass may bring: else to drop them would not help.
        held = self._dead_letters() if tally.dead else 0
        if held and held + len(tally.dead) > self.settings.dead_letters:
            return self._stop(
                f"dead letters are full ({self.settings.dead_letters}): look at them, drop them"
            )
        records: checkpoint.Records = {}
        try:
            commands = making + bursts.find(self.store, self.shard, tally, newest, judge.burst)
            commands += sessions.find(self.store, self.shard, tally, newest)
            for sums, kept in apply.read(self.store, self.shard, tally):
                keep = retention.campaign_days(self.settings, sums.campaign)
                with COMPUTING:
                    commands += apply.plan(self.shard, sums, kept, keep, now, records)
                commands += apply.rulesets(self.shard, sums, judge.ruleset, now)
            commands += apply.plan_last(self.store, self.shard, tally.last)
        except NewerFormat as error:
            return self._stop(f"{error}; update the workers")
        commands += apply.bookkeeping(self.shard, tally, newest)
        erased = bool(gone) and any(
            one.recipient in gone and withdrawals.was_erased(gone[one.recipient], one.time) for one in hits
        )
        if erased:
            aof_rewrite.ask_now(self.store)
        if not checkpoint.commit(self.store, self.shard, before.generation, taken, commands, records):
            return Outcome.MOVED
        if erased:
            aof_rewrite.ask_now(self.store)
        self._tell(ahead, tally)
        self.counted += len(hits)
        self.behind = behind
        self.left = Checkpoint(before.generation + 1, taken, max(newest, tally.newest))
        self.read = len(entries)
        return Outcome.COUNTED

    def _forget(self, before: Checkpoint) -> Outcome:
        """Forgets the newest hit (ms), which lies in the future. The next pass counts what waits."""
        commands = burst_window.forget_commands(self.shard, before.newest_ms)
        if not checkpoint.commit(self.store, self.shard, before.generation, "", commands):
            return Outcome.MOVED
        log.warning("rollup: shard %d: its newest hit lay in the future and is forgotten", self.shard)
        self.behind, self.left = True, Checkpoint(before.generation + 1, before.last_entry, 0)
        return Outcome.COUNTED

    def _tell(self, ahead: int, tally: Tally) -> None:
        if ahead:
            text = "%d hits were stamped by a clock that was ahead; they are counted when Redis stored them"
            log.warning(f"rollup: shard %d: {text}", self.shard, ahead)
        for one in tally.dead:
            log.error("rollup: shard %d: a hit was set aside: %s", self.shard, one.reason)

    def try_step(self, now: float) -> Outcome:
        """As `step`. What of the store this version cannot read stops the shard, which says so."""
        try:
            return self.step(now)
        except redis.ResponseError as error:
            if _PASSES.search(str(error)):
                raise
            reason = f"the store holds what it should not: {error}"[:300]
        except (ValueError, TypeError, LookupError, AttributeError, struct.error) as error:
            log.error("rollup: shard %d: where it failed", self.shard, exc_info=error)
            reason = f"the store holds what this version cannot read: {type(error).__name__}: {error}"[:300]
        return self._stop(reason)

    def _dead_letters(self) -> int:
        return int(self.store.xlen(keys.dead(self.shard)))

    def _stop(self, reason: str) -> Outcome:
        """The shard stands still until this is mended; nothing of it is lost."""
        try:
            is_new = self.store.get(keys.stop(self.shard)) != reason.encode()
        except redis.ResponseError:  # it holds another type: it is written anew
            is_new = True
        if is_new:
            log.error("rollup: shard %d stands still: %s", self.shard, reason)
        even_if_full(self.store, "SET", keys.stop(self.shard), reason)
        return Outcome.STOPPED


def drain(shard: int) -> int:
    """The job: until the shard was seen empty, or the time is up. Returns how many hits it counted.

    What arrives meanwhile is the next job's, so that a shard with a steady flow does not keep a worker.
    Where workers are fewer than shards, others are drained beside it: while one waits for Redis, another
    computes. If the job of one of them runs elsewhere, one of the two finds the shard counted, and leaves it.
    """
    store, settings, secrets = context()
    if not is_known(store):
        return 0
    clock = Clock()
    clock.measure(store)
    workers = max(
        1, int(store.zcount(keys.WORKERS, (now := clock()) - ALIVE, now + keys.MAX_BEAT_SKEW_SECONDS))
    )
    shards = group(shard, settings.shards, workers)
    return beside(store, settings, secrets, shards, time.monotonic() + TIME, clock)


def group(shard: int, shards: int, workers: int) -> list[int]:
    """The shards of one job: of so many, for shards that follow each other, none drains another's."""
    return [(shard + i) % shards for i in range(0, max(1, shards - workers + 1), workers)][:BESIDE]


def beside(
    store: Redis,
    settings: Settings,
    secrets: Secrets,
    shards: Sequence[int],
    deadline: float,
    clock: Callable[[], float],
) -> int:
    """Drains shards, each in a thread, until empty or this instant of the monotonic clock; hits counted.

    What is made once is made before: msgspec crashes where two threads learn a type at the same time.
    """
    judge_of(settings).refresh()
    sys.setswitchinterval(SWITCH)
    gc.disable()  # a pass makes no cycles, and to look for some takes a tenth of its time
    try:
        with ThreadPoolExecutor(len(shards)) as threads:
            rollups = [Rollup(store, settings, secrets, shard) for shard in shards]
            return sum(threads.map(functools.partial(_drain, deadline=deadline, clock=clock), rollups))
    finally:
        gc.enable()
        web_names.forget()


def _drain(rollup: Rollup, deadline: float, clock: Callable[[], float]) -> int:
    started = time.monotonic()
    losses, entries = 0, rollup.entries
    # A pass whose commit failed is repeated beyond the deadline: else long passes would never come through.
    while time.monotonic() < deadline or losses:
        outcome = rollup.try_step(clock())
        if outcome is Outcome.MOVED:
            if losses == MOST_LOSSES or _is_counted_elsewhere(rollup):
                break  # another roll-up counts this shard: this one need not
            losses += 1
            rollup.entries = max(1, rollup.entries // 4)
            if losses >= LOSSES:
                checkpoint.take_lead(rollup.store, rollup.shard)
            continue
        if losses >= LOSSES:
            checkpoint.end_lead(rollup.store, rollup.shard)
        losses, rollup.entries = 0, entries
        if outcome is not Outcome.COUNTED or not rollup.behind:
            break
    if rollup.counted:
        took = time.monotonic() - started
        log.debug("rollup: shard %d: %d hits in %.2f s", rollup.shard, rollup.counted, took)
    return rollup.counted


def _is_counted_elsewhere(rollup: Rollup) -> bool:
    """Returns whether another roll-up has counted entries since this pass began."""
    return read_checkpoint(rollup.store, rollup.shard).last_entry != rollup.last
