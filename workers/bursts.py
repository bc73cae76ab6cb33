"""Bursts: three or more addresses on one link within 30 seconds are a gateway's that checks a mail.

Hits are looked at in the order of the stream, each beside the traces of those before it (`traces`). With the
hit that makes a burst, all hits in it that are counted as a person's or unknown become a scanner's: what they
were counted under is taken back in the same commit. So the outcome does not depend on how the stream is cut,
nor on crashes. A later open by a person counts as ever, and its recipient is a person again.

Of a recipient and minute, the first MOST hits that a burst can take are held, and then one of an address
where its 15 seconds hold fewer than three others: three addresses within those are seen however many hits
there are. A hit that is not held is judged, but stays what it then is, and is no evidence. Of opens of people
that no burst can take any more, the earliest and the latest of the minute are held, since one of them may be
the recipient's first or last one left.

A hit that comes more than traces.KEPT minutes after the newest of its shard is judged without: that goes by
the hits' own times alone, so one from a clock that is ahead leaves hits from other clocks without.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pixel_server.counters import burst_window, series
from pixel_server.counters.burst_window import APART, MINUTE_MS, PERSON, SCANNER, UNKNOWN, Trace, Traces
from pixel_server.counters.recipient_record import NO_RECORD, ScannerOpens
from pixel_server.store import checkpoint, keys
from pixel_server.store.protocols import Redis
from workers.fold import Sums, Tally

SPAN = 30_000
"""ms"""
NEAR = SPAN // 2
ADDRESSES = 3
MOST = 16
ELIGIBLE = (PERSON, APART)
"""Kinds that count as a person's."""


@dataclass(slots=True)
class Evidence:
    """A shard's, as a pass goes on. newest: time of its newest hit, ms. changed: (minute, field). apart: hits
    of this pass that came too late to be held, each with its minute."""

    newest: int
    known: Traces = field(default_factory=dict)
    changed: dict[tuple[int, bytes], None] = field(default_factory=dict)
    apart: dict[bytes, list[tuple[int, Trace]]] = field(default_factory=dict)

    @property
    def oldest(self) -> int:
        """The first minute that is looked at."""
        return burst_window.kept_minutes(self.newest)[0]


def find(store: Redis, shard: int, tally: Tally, newest: int, rule: str) -> list[checkpoint.Command]:
    """Makes hits of a tally that are bursts a scanner's. Gives the commands that keep what may become one.

    rule: the id they are counted under, "" for none. newest: as it is kept. NewerFormat: a newer version
    wrote some traces.
    """
    if not rule:
        return []
    evidence = Evidence(newest)
    kept = burst_window.kept_minutes(newest)
    burst_window.read_traces(store, shard, _beside(tally, kept), evidence.known)
    taken = _look(tally, evidence, rule)
    evidence.newest = max(newest, tally.newest)
    if taken:
        wanted = {minute: {mark.name for mark in taken} for minute in kept}
        rest: Traces = {}
        burst_window.read_traces(store, shard, wanted, rest)
        for mark in taken:
            minutes = rest.get(mark.name, {}) | evidence.known[mark.name]
            there = [(minute, one) for minute, found in minutes.items() for one in found]
            there += evidence.apart.get(mark.name, ())
            mark.sums.taken[mark.name[:8]] = mark.taken(there, evidence.oldest)
    oldest = evidence.oldest
    commands = list(
        burst_window.store_commands(shard, evidence.known, (c for c in evidence.changed if c[0] >= oldest))
    )
    commands += [("UNLINK", keys.evidence(shard, minute)) for minute in kept if minute < oldest]
    return commands


def _beside(tally: Tally, kept: range) -> dict[int, set[bytes]]:
    """What may lie beside the hits of a tally, by minute, of those that are kept."""
    wanted: dict[int, set[bytes]] = {minute: set() for minute in kept}
    for _, name, ms, trace, _ in tally.traces:
        minute = ms // MINUTE_MS
        for near in (minute, minute - 1 if trace.at < SPAN else minute + 1):
            if near in wanted:
                wanted[near].add(name)
    return {minute: names for minute, names in wanted.items() if names}


def _look(tally: Tally, evidence: Evidence, rule: str) -> list[_Marks]:
    """Takes back what bursts were counted under. Gives, by recipient, what of it were opens."""
    known, changed, oldest = evidence.known, evidence.changed, evidence.oldest
    marks: dict[bytes, _Marks] = {}
    for sums, name, ms, trace, newest in tally.traces:
        if newest > evidence.newest:
            evidence.newest = newest
            oldest = evidence.oldest
        minute = ms // MINUTE_MS
        if minute < oldest:
            evidence.apart.setdefault(name, []).append((minute, trace))
            continue
        minutes = known.get(name)
        if minutes is None:
            minutes = known[name] = {}
        elif trace.kind != APART:
            for then, found in _burst(minutes, minute, trace, oldest):
                if found.kind in (PERSON, UNKNOWN):
                    _take_back(sums, then, found, rule)
                    if found.is_open:
                        if name not in marks:
                            marks[name] = _Marks(sums, name)
                            sums.people.setdefault(name[:8], NO_RECORD)
                        marks[name].add(then, found)
                    found.kind = SCANNER
                    changed[then, name] = None
        here = minutes.setdefault(minute, [])
        if _hold(here, trace):
            changed[minute, name] = None
    return list(marks.values())


def _hold(here: list[Trace], new: Trace) -> bool:
    """Puts a hit beside those of its minute, if it is to be held. Whether anything has changed."""
    if new.kind != APART:
        if not here:  # as nearly always
            here.append(new)
            return True
        held = [one for one in here if one.kind != APART]
        near = {one.address for one in held if one.at // NEAR == new.at // NEAR}
        if len(held) < MOST or (len(near) < ADDRESSES and new.address not in near):
            here.append(new)
            return True
    if not new.is_open or new.kind not in ELIGIBLE:
        return False
    last = Trace(new.at, 0, APART, "", True, new.delay, ())
    if not here:
        here.append(last)
        return True
    opens = [*(one for one in here if one.kind == APART), last]
    edges = {id(one): one for one in (min(opens, key=_earliest), max(opens, key=_at))}
    if id(last) not in edges:
        return False
    here[:] = [*(one for one in here if one.kind != APART), *edges.values()]
    return True


def _earliest(one: Trace) -> tuple[int, int]:
    """As `people.merge` has it."""
    return one.at // 1000, -one.delay


def _at(one: Trace) -> int:
    return one.at


def _burst(minutes: dict[int, list[Trace]], minute: int, new: Trace, oldest: int) -> list[tuple[int, Trace]]:
    """The hits, each with its minute, of all bursts that a new hit makes or joins, itself included."""
    near = [(0, minute, new)]
    addresses = {new.address}
    for then in (minute - 1, minute, minute + 1):
        for one in minutes.get(then, ()) if then >= oldest else ():
            apart = (then - minute) * MINUTE_MS + one.at - new.at
            if one.kind != APART and -SPAN <= apart <= SPAN:
                near.append((apart, then, one))
                addresses.add(one.address)
    if len(addresses) < ADDRESSES:
        return []
    near.sort(key=_apart)
    found: dict[int, tuple[int, Trace]] = {}
    for start, _, _ in near:
        within = [one for one in near if start <= one[0] <= start + SPAN] if start <= 0 else []
        if len({one.address for _, _, one in within}) >= ADDRESSES:
            found |= {id(one): (then, one) for _, then, one in within}
    return list(found.values())


def _apart(one: tuple[int, int, Trace]) -> int:
    return one[0]


def _take_back(sums: Sums, minute: int, one: Trace, rule: str) -> None:
    """A hit that was counted as a person's or unknown is a scanner's."""
    start = series.bucket_start(minute * MINUTE_MS + one.at)
    cell = sums.cell(start)
    cell[series.HITS_BY_CLASS["person" if one.kind == PERSON else "unknown"]] -= 1
    cell[series.HITS_BY_CLASS["scanner"]] += 1
    sums.rules[one.rule] -= 1
    sums.rules[rule] += 1
    if one.is_open:
        sums.opens_of(start).subtract(one.labels)


@dataclass(slots=True)
class _Marks:
    """Opens of a recipient that a pass takes back. at: of a person's, seconds."""

    sums: Sums
    name: bytes
    unknown: int = 0
    at: list[int] = field(default_factory=list)

    def add(self, minute: int, one: Trace) -> None:
        if one.kind == PERSON:
            self.at.append(minute * 60 + one.at // 1000)
        else:
            self.unknown += 1

    def taken(self, there: Iterable[tuple[int, Trace]], oldest: int) -> ScannerOpens:
        left = [
            (minute * 60 + one.at // 1000, one.delay)
            for minute, one in there
            if one.is_open and one.kind in ELIGIBLE
        ]
        return ScannerOpens(len(self.at), self.unknown, frozenset(self.at), left, oldest * 60)
