"""Bursts: a gateway checks a mail from several machines, or as several browsers, at about the same time.

A burst is hits from three or more addresses on one link within 30 seconds. Among hits that came at delivery
(`classify.rules.is_at_delivery`) after a known time of sending, three or more pairs of address and agent are
a burst too. The top and the bottom pixel of a mail are two links.

Each hit leaves a trace. Hits are judged in the order of the stream, each together with the traces of earlier
hits (`burst_window`). When a hit completes a burst, every hit of the burst that was counted as a person's or
as unknown becomes a scanner's: its counts are moved in the same commit. So the result depends neither on how
the stream is cut nor on crashes. A later open by a person counts as usual, and makes its recipient a person
again.

Traces are bounded. For each recipient and minute, the traces of the first MAX_TRACES hits are kept. After
them, the trace of a hit from a new address is kept only if fewer than three addresses have traces on the same
link in the same quarter of the minute. The same rule holds for pairs of address and agent. So three addresses
on a link in one quarter are found, however many hits there are. A hit whose trace is not kept is judged when
it comes. No later hit changes its verdict, and later hits are judged without its trace. Some opens by people
cannot be taken back by any burst: those whose trace is not kept, and those that `classify.rules` judges apart
from bursts. Of such opens, the earliest and the latest of each minute leave traces of kind APART: when other
opens are taken back, an open of kind APART may become the recipient's first or last open.

A hit more than `burst_window.KEPT_MINUTES` older than the newest hit of its shard is judged alone. Only the
times of hits matter, not the clock. So after a hit from a clock that is ahead, hits from other clocks are
judged alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pixel_server.counters import burst_window, series
from pixel_server.counters.burst_window import APART, MINUTE_MS, PERSON, SCANNER, UNKNOWN, Trace, Traces
from pixel_server.counters.recipient_record import NO_RECORD, ScannerOpens
from pixel_server.store import checkpoint, keys
from pixel_server.store.protocols import Pipeline
from pixel_server.store.readers import Reader
from workers.sums import Sums, Tally

BURST_MS = 30_000
"""Largest number of milliseconds from the first to the last hit of a burst."""
QUARTER_MS = BURST_MS // 2
"""Milliseconds of a quarter of a minute. Of each quarter, traces of MIN_ADDRESSES addresses are kept."""
MIN_ADDRESSES = 3
"""Smallest number of different addresses, or of pairs of address and agent, in a burst."""
MAX_TRACES = 16
"""Number of traces of a recipient and minute that are kept whatever their addresses."""
COUNTED_AS_PERSON = (PERSON, APART)
"""Kinds of traces that are counted as a person's."""

MinuteTrace = tuple[int, Trace]
"""(minute since 1970, a trace in it)"""


@dataclass(slots=True)
class Evidence:
    """The traces of a shard during a pass.

    newest_ms: time of the shard's newest hit so far. changed: (minute, field) of traces to write. too_late:
    by field, the traces of this pass that came too late to be kept.
    """

    newest_ms: int
    traces: Traces = field(default_factory=dict)
    changed: dict[tuple[int, bytes], None] = field(default_factory=dict)
    too_late: dict[bytes, list[MinuteTrace]] = field(default_factory=dict)

    @property
    def oldest_minute(self) -> int:
        """The oldest minute whose traces are kept."""
        return burst_window.kept_minutes(self.newest_ms)[0]


@dataclass(slots=True)
class Retraction:
    """Opens of one recipient that a pass takes back.

    traces_field: field of the recipient's traces. unknown: number of opens of unknown verdict. by_person:
    the opens by a person.
    """

    sums: Sums
    traces_field: bytes
    unknown: int = 0
    by_person: list[MinuteTrace] = field(default_factory=list)

    def add(self, minute: int, trace: Trace) -> None:
        """Adds an open that is taken back."""
        if trace.kind == PERSON:
            self.by_person.append((minute, trace))
        else:
            self.unknown += 1

    def summary(self, traces: Iterable[MinuteTrace], oldest_minute: int) -> ScannerOpens:
        """Returns the change to the recipient's record. traces: all known traces of the recipient."""
        remaining = [
            (minute * 60 + trace.at // 1000, trace.delay)
            for minute, trace in traces
            if trace.is_open and trace.kind in COUNTED_AS_PERSON
        ]
        times = [minute * 60 + trace.at // 1000 for minute, trace in self.by_person]
        return ScannerOpens(len(times), self.unknown, frozenset(times), remaining, oldest_minute * 60)


def find_bursts(
    pipe: Pipeline, shard: int, tally: Tally, newest_ms: int, rule: str
) -> Reader[list[checkpoint.Command]]:
    """Counts the hits of bursts as a scanner's, in the tally. Returns the commands that store the traces.

    rule: id of the rule under which these hits are counted, or "" to do nothing. newest_ms: time of the
    shard's newest hit before this pass. Raises NewerFormat if a newer version wrote a trace.
    """
    if not rule:
        return []
    evidence = Evidence(newest_ms)
    kept_minutes = burst_window.kept_minutes(newest_ms)
    yield from burst_window.read_traces(pipe, shard, _nearby_fields(tally, kept_minutes), evidence.traces)
    retractions = _take_back(tally, evidence, rule)
    evidence.newest_ms = max(newest_ms, tally.newest_ms)
    if retractions:
        yield from _note_retractions(pipe, shard, kept_minutes, evidence, retractions)
    oldest = evidence.oldest_minute
    changed = (key for key in evidence.changed if key[0] >= oldest)
    commands = list(burst_window.store_commands(shard, evidence.traces, changed))
    commands += [("UNLINK", keys.evidence(shard, minute)) for minute in kept_minutes if minute < oldest]
    return commands


def _nearby_fields(tally: Tally, kept_minutes: range) -> dict[int, set[bytes]]:
    """Returns, by minute, the fields whose traces may be in a burst with hits of the tally."""
    fields: dict[int, set[bytes]] = {minute: set() for minute in kept_minutes}
    for hit in tally.traced_hits:
        minute = hit.time_ms // MINUTE_MS
        neighbour = minute - 1 if hit.trace.at < BURST_MS else minute + 1
        for nearby in (minute, neighbour):
            if nearby in fields:
                fields[nearby].add(hit.field)
    return {minute: minute_fields for minute, minute_fields in fields.items() if minute_fields}


def _take_back(tally: Tally, evidence: Evidence, rule: str) -> list[Retraction]:
    """Counts the hits of bursts as a scanner's, and keeps the traces of the tally's hits.

    Returns the opens that are taken back, one retraction for each recipient.
    """
    traces, changed, oldest = evidence.traces, evidence.changed, evidence.oldest_minute
    retractions: dict[bytes, Retraction] = {}
    for hit in tally.traced_hits:
        traces_field, trace = hit.field, hit.trace
        if hit.newest_ms > evidence.newest_ms:
            evidence.newest_ms = hit.newest_ms
            oldest = evidence.oldest_minute
        minute = hit.time_ms // MINUTE_MS
        if minute < oldest:
            evidence.too_late.setdefault(traces_field, []).append((minute, trace))
            continue
        minutes = traces.get(traces_field)
        if minutes is None:
            minutes = traces[traces_field] = {}
        elif trace.kind != APART:
            for burst_minute, member in _burst_members(minutes, minute, trace, oldest):
                if member.kind in (PERSON, UNKNOWN):
                    _make_scanner(hit.sums, burst_minute, member, rule)
                    if member.is_open:
                        if traces_field not in retractions:
                            retractions[traces_field] = Retraction(hit.sums, traces_field)
                            hit.sums.people.setdefault(traces_field[:8], NO_RECORD)
                        retractions[traces_field].add(burst_minute, member)
                    member.kind = SCANNER
                    changed[burst_minute, traces_field] = None
        minute_traces = minutes.setdefault(minute, [])
        if _keep_trace(minute_traces, trace):
            changed[minute, traces_field] = None
    return list(retractions.values())


def _note_retractions(
    pipe: Pipeline, shard: int, kept_minutes: range, evidence: Evidence, retractions: list[Retraction]
) -> Reader[None]:
    """Notes in the sums the opens taken back from each recipient. Reads all traces of these recipients."""
    fields = {minute: {retraction.traces_field for retraction in retractions} for minute in kept_minutes}
    stored: Traces = {}
    yield from burst_window.read_traces(pipe, shard, fields, stored)
    for retraction in retractions:
        traces_field = retraction.traces_field
        minutes = stored.get(traces_field, {}) | evidence.traces[traces_field]
        known_traces = [(minute, trace) for minute, traces in minutes.items() for trace in traces]
        known_traces += evidence.too_late.get(traces_field, ())
        summary = retraction.summary(known_traces, evidence.oldest_minute)
        retraction.sums.retracted[traces_field[:8]] = summary
        retraction.sums.taken_back[traces_field[:8]] = retraction.by_person


def _keep_trace(minute_traces: list[Trace], trace: Trace) -> bool:
    """Adds a trace to the traces of its minute if it must be kept. Returns whether the list has changed."""
    if trace.kind != APART:
        if not minute_traces:  # the usual case
            minute_traces.append(trace)
            return True
        others = [other for other in minute_traces if other.kind != APART]
        if len(others) < MAX_TRACES or _is_new_evidence(others, trace):
            minute_traces.append(trace)
            return True
    if not trace.is_open or trace.kind not in COUNTED_AS_PERSON:
        return False
    return _keep_open_apart(minute_traces, Trace(trace.at, 0, APART, "", True, trace.delay, ()))


def _is_new_evidence(others: list[Trace], trace: Trace) -> bool:
    """Returns whether a burst may need this trace beside others of its minute. others: not of kind APART."""
    nearby = [
        other
        for other in others
        if other.at // QUARTER_MS == trace.at // QUARTER_MS and other.link == trace.link
    ]
    addresses = {other.address for other in nearby}
    if len(addresses) < MIN_ADDRESSES and trace.address not in addresses:
        return True
    sources = {other.source for other in nearby if other.source}
    return trace.source != 0 and len(sources) < MIN_ADDRESSES and trace.source not in sources


def _keep_open_apart(minute_traces: list[Trace], trace: Trace) -> bool:
    """Adds an open that no burst can take back, if it is the earliest or latest such open of its minute.

    Returns whether the traces of the minute have changed.
    """
    if not minute_traces:
        minute_traces.append(trace)
        return True
    opens = [*(other for other in minute_traces if other.kind == APART), trace]
    outermost = {id(kept): kept for kept in (min(opens, key=_first_open_order), max(opens, key=_time))}
    if id(trace) not in outermost:
        return False
    minute_traces[:] = [*(other for other in minute_traces if other.kind != APART), *outermost.values()]
    return True


def _first_open_order(trace: Trace) -> tuple[int, int]:
    """Returns a sort key: the first open in this order is the first open for `recipient_record.merge`."""
    return trace.at // 1000, -trace.delay


def _time(trace: Trace) -> int:
    return trace.at


def _burst_members(
    minutes: dict[int, list[Trace]], minute: int, new: Trace, oldest: int
) -> list[MinuteTrace]:
    """Returns the traces of all bursts that a new hit completes or joins, including the new trace."""
    nearby = [(0, minute, new)]
    for near_minute in (minute - 1, minute, minute + 1):
        for trace in minutes.get(near_minute, ()) if near_minute >= oldest else ():
            distance_ms = (near_minute - minute) * MINUTE_MS + trace.at - new.at
            if trace.kind != APART and trace.link == new.link and -BURST_MS <= distance_ms <= BURST_MS:
                nearby.append((distance_ms, near_minute, trace))
    if not _is_burst(nearby):
        return []
    nearby.sort(key=_distance)
    members: dict[int, MinuteTrace] = {}
    for start, _, _ in nearby:
        window = [item for item in nearby if start <= item[0] <= start + BURST_MS] if start <= 0 else []
        if _is_burst(window):
            members |= {id(trace): (near_minute, trace) for _, near_minute, trace in window}
    return list(members.values())


def _is_burst(items: list[tuple[int, int, Trace]]) -> bool:
    """Returns whether traces on one link within 30 seconds, as (distance, minute, trace), are a burst."""
    if len(items) < MIN_ADDRESSES:  # the usual case
        return False
    return (
        len({trace.address for _, _, trace in items}) >= MIN_ADDRESSES
        or len({trace.source for _, _, trace in items if trace.source}) >= MIN_ADDRESSES
    )


def _distance(item: tuple[int, int, Trace]) -> int:
    return item[0]


def _make_scanner(sums: Sums, minute: int, trace: Trace, rule: str) -> None:
    """Moves the counts of a hit from the class person or unknown to the class scanner."""
    start = series.bucket_start(minute * MINUTE_MS + trace.at)
    cell = sums.cell(start)
    cell[series.HITS_BY_CLASS["person" if trace.kind == PERSON else "unknown"]] -= 1
    cell[series.HITS_BY_CLASS["scanner"]] += 1
    sums.rules[trace.rule] -= 1
    sums.rules[rule] += 1
    if trace.is_open:
        sums.labels_of(start).subtract(trace.labels)
