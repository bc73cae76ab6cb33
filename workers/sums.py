"""The tally: the sums of the hits of one pass, by campaign. Pure data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec

from pixel_server import times
from pixel_server.campaigns.campaign import Campaign
from pixel_server.classify.rules import Verdict
from pixel_server.consent import Rule
from pixel_server.counters import series
from pixel_server.counters.burst_window import Trace
from pixel_server.counters.recipient_record import RecipientRecord, ScannerOpens
from pixel_server.counters.series import Cell
from pixel_server.counters.visit_sample import SampledVisit
from pixel_server.counters.web_breakdown import DayCounts, Source, VisitorTraits
from pixel_server.hit import UnreadableData
from pixel_server.tokens import Mode

NO_OPEN, OPEN, ANONYMOUS_OPEN, LATE_OPEN = range(4)
"""Kinds of hits. An anonymous open is counted, and nothing about its recipient is stored. The same holds for
a late open, which came after the time for which the campaign's recipients are stored."""

HitKey = tuple[int, Verdict, int]
"""(start of the bucket in seconds, verdict, kind). Hits with one key are counted together until `settle`."""


@dataclass(slots=True)
class Sums:
    """Sums of one campaign. A bucket is named by its start in seconds, a local day as `"20250610"`.

    id_bytes: the campaign's id. hits, countries: counts that `settle` spreads over cells, rules and labels.
    last_hit_ms: time of the newest hit. cells: counts by bucket. people: by recipient key, the record of the
    new hits alone. addresses: addresses of hits that came from the reader's own machine. visitors: visitor
    hashes by local day. labels: opens by people, by local day and label, as in `open_breakdown`. web_counts:
    views and visits by local day, as in `web_breakdown`. sampled: changed records of visits by local day and
    number, as in `visit_sample`. rules: hits by id of the rule that judged them.
    consent_times: times of consent (s) by recipient key, in a campaign that tells only such recipients apart;
    None in others. retracted: opens that turned out to be part of a burst, by recipient key. taken_back: of
    these, the opens that were counted as a person's, each as (minute since 1970, trace). notes_opens: whether
    an endpoint of webhooks wants to know of opens. local_days: cache of the local
    day of each bucket. hashes: cache of visitor hashes by salt.
    """

    campaign: Campaign
    consent: Rule
    id_bytes: bytes
    consent_times: Mapping[bytes, int] | None = None
    hits: dict[HitKey, int] = field(default_factory=dict)
    last_hit_ms: int = 0
    countries: dict[tuple[int, str], int] = field(default_factory=dict)
    cells: dict[int, Cell] = field(default_factory=dict)
    people: dict[bytes, RecipientRecord] = field(default_factory=dict)
    addresses: set[bytes] = field(default_factory=set)
    visitors: dict[str, set[bytes]] = field(default_factory=dict)
    labels: dict[str, Counter[str]] = field(default_factory=dict)
    web_counts: dict[str, DayCounts] = field(default_factory=dict)
    sampled: dict[str, dict[bytes, SampledVisit]] = field(default_factory=dict)
    rules: Counter[str] = field(default_factory=Counter)
    retracted: dict[bytes, ScannerOpens] = field(default_factory=dict)
    taken_back: dict[bytes, list[tuple[int, Trace]]] = field(default_factory=dict)
    notes_opens: bool = False
    local_days: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    hashes: dict[bytes, blake2b] = field(default_factory=dict)

    def consented_mode(self, mode: int, recipient: bytes, time_ms: int) -> int:
        """Returns the mode of a hit of this time: at most `count` if the recipient's consent is needed.

        mode: the mode that the hit would have with a consent.
        """
        if self.consent_times is None:
            return mode
        consent_time = self.consent_times.get(recipient)
        has_consent = consent_time is not None and consent_time * 1000 <= time_ms
        return mode if has_consent else min(mode, Mode.COUNT)

    def cell(self, start: int) -> Cell:
        """Returns the cell of a bucket, a new cell if the bucket has none."""
        cell = self.cells.get(start)
        if cell is None:
            cell = self.cells[start] = [0] * len(series.COUNTS)
        return cell

    def day(self, start: int) -> str:
        """Returns the local day of a bucket."""
        return self._local_day(start)[0]

    def day_bounds(self, start: int) -> tuple[int, int]:
        """Returns when the local day of a bucket begins and ends, seconds."""
        return self._local_day(start)[1:]

    def _local_day(self, start: int) -> tuple[str, int, int]:
        day = self.local_days.get(start)
        if day is None:
            day = self.local_days[start] = times.local_day(start, self.campaign.zone)
        return day

    def web_counts_of(self, day: str) -> DayCounts:
        """Returns the counts of views and visits of a local day, new counts if the day has none."""
        counts = self.web_counts.get(day)
        if counts is None:
            counts = self.web_counts[day] = DayCounts()
        return counts

    def labels_of(self, start: int) -> Counter[str]:
        """Returns the counts by label of a bucket's local day, new counts if the day has none."""
        day = self.day(start)
        counts = self.labels.get(day)
        if counts is None:
            counts = self.labels[day] = Counter()
        return counts

    def settle(self) -> None:
        """Spreads the hits counted by key over cells, rules and labels. Call it once, at the end."""
        for (start, verdict, kind), count in self.hits.items():
            cell = self.cell(start)
            cell[series.HITS] += count
            cell[series.HITS_BY_CLASS[verdict.verdict]] += count
            self.rules[verdict.rule] += count
            if kind == NO_OPEN:
                continue
            cell[series.OPENS] += count
            if kind == ANONYMOUS_OPEN:
                cell[series.OPENS_ANONYMOUS] += count
            elif kind == OPEN and verdict.labels:
                labels = self.labels_of(start)
                for label in verdict.labels:
                    labels[label] += count
        for (start, label), count in self.countries.items():
            self.labels_of(start)[label] += count


class TracedHit(msgspec.Struct, gc=False):
    """A hit that may be part of a burst. field: field of its recipient's traces (`burst_window.field`).

    newest_ms: time of the newest hit of the pass up to this hit.
    """

    sums: Sums
    field: bytes
    time_ms: int
    trace: Trace
    newest_ms: int


class NotedOpen(msgspec.Struct, gc=False):
    """An open by a person, of which an endpoint of webhooks wants to know.

    country: its label, "" if unknown. trace: None if the open leaves no trace that a burst could take back.
    """

    sums: Sums
    recipient: bytes
    time_ms: int
    verdict: Verdict
    country: str
    trace: Trace | None


class View(msgspec.Struct, gc=False):
    """A view of a page, or a report on a view.

    start: start of its bucket, s. newest_ms: time of the newest hit of the pass up to this hit. visitor: the
    visitor's hash, or b"" if unknown. other_visitors: other hashes under which the visit may be stored.
    cookieless: the hash that the visitor has without a cookie, or b"" if that is the same or unknown. id: the
    id that `p.js` gave the view, or b"". spent_ms: in a report, how long the view was visible; in a view, -1.
    visit_number: the cookie's count of visits, 0 without a cookie.
    """

    sums: Sums
    time_ms: int
    start: int
    newest_ms: int
    visitor: bytes
    other_visitors: tuple[bytes, ...]
    cookieless: bytes
    id: bytes
    spent_ms: int
    visit_number: int
    page: str = ""
    traits: VisitorTraits = VisitorTraits()
    source: Source = Source()


@dataclass(slots=True)
class Tally:
    """The sums of the hits of one pass.

    sums: sums of each campaign, by its id. drops: numbers of hits that must not be counted, by reason.
    dead_letters: hits that cannot be counted. last_open_days: by recipient key, the day of the last open
    (days since 1970) in mode `last`. newest_ms: time of the newest hit. traced_hits, views, noted_opens: in
    the order of the stream.
    """

    sums: dict[str, Sums] = field(default_factory=dict)
    drops: Counter[str] = field(default_factory=Counter)
    dead_letters: list[UnreadableData] = field(default_factory=list)
    last_open_days: dict[bytes, int] = field(default_factory=dict)
    newest_ms: int = 0
    traced_hits: list[TracedHit] = field(default_factory=list)
    views: list[View] = field(default_factory=list)
    noted_opens: list[NotedOpen] = field(default_factory=list)
