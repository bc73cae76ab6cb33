"""The roll-up of one shard: turn, read, tally, apply; until the shard was seen empty or the time is up."""

from __future__ import annotations

import functools
import logging
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum

from pixel_server import campaigns, hit, keys, retention, salts, turn, withdrawals
from pixel_server.consent import Consent
from pixel_server.hit import Hit, Unreadable
from pixel_server.secret import Secrets
from pixel_server.series import NewerFormat
from pixel_server.settings import Settings
from pixel_server.store import Redis
from workers import apply, burst, visit
from workers.context import context
from workers.judge import judge_of
from workers.tally import days, fold, wanted

log = logging.getLogger("workers.rollup")

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

PASS_HITS = 4000
"""Hits a pass aims at. It reads at most MOST_ENTRIES entries of at most 1,000 hits a recorder wrote."""
MOST_ENTRIES = 512
FIRST_ENTRIES = 16

_entries: dict[int, int] = {}
"""By shard, what its last pass in this process found to be a good number: the next job begins with it."""


class Outcome(Enum):
    COUNTED = "counted"
    EMPTY = "empty"
    MOVED = "moved"
    STOPPED = "stopped"


@dataclass(slots=True)
class Rollup:
    """One shard's. `entries`: how many the next pass reads; follows the size of batches.

    behind: whether the last pass left something that was there when it read.
    """

    store: Redis
    settings: Settings
    secrets: Secrets
    shard: int
    entries: int = FIRST_ENTRIES
    counted: int = 0
    behind: bool = False

    def step(self, now: float) -> Outcome:
        """One pass: what is waiting, up to PASS_HITS or so, is in the counters, or nothing has changed."""
        n, last, newest = turn.read(self.store, self.shard)
        waiting = self.store.xrange(keys.hits(self.shard), f"({last}", "+", self.entries)
        if not waiting:
            self.store.delete(keys.stop(self.shard))
            return Outcome.EMPTY
        with COMPUTING:
            hits, unreadable, taken, newer = _decode(waiting)
            asked = wanted(hits)
            people = {one.recipient for one in hits} - {b""}
        if taken is None:
            return self._stop(f"entry {newer}: written by a newer version; update the workers")
        found = campaigns.seal(self.store, asked, now, self.settings.default_mode) if hits else {}
        try:
            gone = withdrawals.periods(self.store, self.secrets, people)
        except NewerFormat as error:
            return self._stop(f"{error}; update the workers")
        judge = judge_of(self.settings)
        with COMPUTING:
            ends = days(hits, found)
        known, making = salts.read(self.store, self.shard, ends, now)
        with COMPUTING:
            tally = fold(
                hits, found, gone, Consent(self.settings), judge, self.secrets, int(now * 1000), known
            )
        tally.dead.extend(unreadable)
        if tally.dead and self._dead_letters() + len(tally.dead) > self.settings.dead_letters:
            return self._stop(
                f"dead letters are full ({self.settings.dead_letters}): look at them, drop them"
            )
        records: turn.Records = {}
        try:
            commands = making + burst.find(self.store, self.shard, tally, newest, judge.burst)
            commands += visit.find(self.store, self.shard, tally, newest)
            for sums, kept in apply.read(self.store, self.shard, tally):
                keep = retention.keep(self.settings, sums.campaign)
                with COMPUTING:
                    commands += apply.plan(self.shard, sums, kept, keep, now, records)
                commands += apply.rulesets(self.shard, sums, judge.ruleset, now)
            commands += apply.plan_last(self.store, self.shard, tally.last)
        except NewerFormat as error:
            return self._stop(f"{error}; update the workers")
        commands += apply.bookkeeping(self.shard, tally, newest, taken)
        if not turn.commit(self.store, self.shard, n, taken, commands, records):
            return Outcome.MOVED
        for one in tally.dead:
            log.error("rollup: shard %d: a hit was set aside: %s", self.shard, one.reason)
        self.counted += len(hits)
        self.behind = len(waiting) == self.entries
        self.entries = max(
            1, min(self.entries * 2, PASS_HITS * len(waiting) // (len(hits) + 1), MOST_ENTRIES)
        )
        return Outcome.COUNTED

    def _dead_letters(self) -> int:
        return int(self.store.xlen(keys.dead(self.shard)))

    def _stop(self, reason: str) -> Outcome:
        """The shard stands still until this is mended; nothing of it is lost."""
        if self.store.get(keys.stop(self.shard)) != reason.encode():
            log.error("rollup: shard %d stands still: %s", self.shard, reason)
        self.store.set(keys.stop(self.shard), reason)
        return Outcome.STOPPED


def drain(shard: int) -> int:
    """The job: until the shard was seen empty, or the time is up. Returns how many hits it counted.

    What arrives meanwhile is the next job's, so that a shard with a steady flow does not keep a worker.
    Where workers are fewer than shards, others are drained beside it: while one waits for Redis, another
    computes. If the job of one of them runs elsewhere, one of the two finds the turn moved, and leaves it.
    """
    store, settings, secrets = context()
    workers = max(1, int(store.zcount(keys.WORKERS, time.time() - ALIVE, "+inf")))
    return beside(store, settings, secrets, group(shard, settings.shards, workers), time.monotonic() + TIME)


def group(shard: int, shards: int, workers: int) -> list[int]:
    """The shards of one job: of so many, for shards that follow each other, none drains another's."""
    return [(shard + i) % shards for i in range(0, max(1, shards - workers + 1), workers)][:BESIDE]


def beside(store: Redis, settings: Settings, secrets: Secrets, shards: Sequence[int], deadline: float) -> int:
    """Drains shards, each in a thread, until empty or this instant of the monotonic clock; hits counted.

    What is made once is made before: msgspec crashes where two threads learn a type at the same time.
    """
    judge_of(settings).refresh()
    sys.setswitchinterval(SWITCH)
    with ThreadPoolExecutor(len(shards)) as threads:
        rollups = [
            Rollup(store, settings, secrets, shard, _entries.get(shard, FIRST_ENTRIES)) for shard in shards
        ]
        return sum(threads.map(functools.partial(_drain, deadline=deadline), rollups))


def _drain(rollup: Rollup, deadline: float) -> int:
    started = time.monotonic()
    while time.monotonic() < deadline:
        outcome = rollup.step(time.time())
        # MOVED: another roll-up has this shard. It goes on, so this one need not.
        if outcome is not Outcome.COUNTED or not rollup.behind:
            break
    _entries[rollup.shard] = rollup.entries
    if rollup.counted:
        took = time.monotonic() - started
        log.debug("rollup: shard %d: %d hits in %.2f s", rollup.shard, rollup.counted, took)
    return rollup.counted


def _decode(
    entries: list[tuple[bytes, dict[bytes, bytes]]],
) -> tuple[list[Hit], list[Unreadable], str | None, str]:
    """(hits, what cannot be read, id of the last entry taken or None, id of one of a newer format)."""
    hits: list[Hit] = []
    unreadable: list[Unreadable] = []
    last: str | None = None
    for entry, fields in entries:
        for name, data in fields.items():
            if name.isdigit() and int(name) > hit.FORMAT:
                return hits, unreadable, last, entry.decode()
            if name != b"%d" % hit.FORMAT:
                unreadable.append(Unreadable(data, f"entry: field {name[:20]!r}"))
                continue
            good, bad = hit.decode_batch(data)
            hits += good
            unreadable += bad
        last = entry.decode()
    return hits, unreadable, last, ""
