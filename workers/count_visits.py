"""Visits: the views of one visitor without a pause of 30 minutes between them.

Views are added in the order of the stream to the visits that are under way (`counters.visits`). A visit is
counted at its first view. Each later hit corrects the counts, in the same commit as that hit: for example, it
takes the visit from its old exit page and counts it at the new exit page. So the counts depend on the order
of the stream only. They do not depend on how the stream is split into passes, or on crashes.

A view that has UTM fields, but not those of the visit under way, begins a new visit. A view does not begin a
visit if its time is more than PAUSE_MS before the newest hit of its shard, or if the shard has no room for
another visit (`visits.MAX_VISITS`). Only the times of hits count, not the clock.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pixel_server.counters import histogram, labels, series, visit_sample, visits
from pixel_server.counters.visit_sample import SampledVisit
from pixel_server.counters.visits import (
    KEPT_MS,
    MAX_ALIASES,
    MAX_RECENT_VIEWS,
    MAX_VISIT_MS,
    PAUSE_MS,
    Entry,
    RecentView,
    Visit,
)
from pixel_server.counters.web_breakdown import NONE
from pixel_server.store import keys
from pixel_server.store.checkpoint import Command
from pixel_server.store.protocols import Pipeline
from pixel_server.store.readers import Reader, together
from workers.sums import Sums, Tally, View

REPORT_SLACK_MS = 5000
"""Milliseconds by which a reported time on a page may exceed the time since the view: the report may travel
faster than the view did."""
_NUMBERS_PER_COMMAND = 1000


@dataclass(slots=True)
class VisitsUnderWay:
    """The visits of a shard that are under way during a pass.

    entries: visits and aliases (see `visits.Entry`), by field. last_hits: heap of (last hit in ms, field) of
    visits that may end. Each later hit of a visit adds a pair. count: number of visits of the shard.
    by_campaign: number of visits, by campaign. records: records of the sample (`visit_sample`), by number.
    count_changes: changes of `by_campaign` in this pass. changed: fields to write. removed: fields to remove.
    """

    entries: dict[bytes, Entry]
    last_hits: list[tuple[int, bytes]]
    count: int
    by_campaign: Counter[bytes]
    records: dict[bytes, SampledVisit]
    count_changes: Counter[bytes] = field(default_factory=Counter)
    changed: dict[bytes, None] = field(default_factory=dict)
    removed: dict[bytes, None] = field(default_factory=dict)

    def end(self, before_ms: int) -> None:
        """Ends the visits whose last hit was before this time."""
        while self.last_hits and self.last_hits[0][0] < before_ms:
            last, visit_field = heapq.heappop(self.last_hits)
            visit = self.entries.get(visit_field)
            if isinstance(visit, Visit) and visit.last == last:
                self._remove(visit_field, visit)

    def find(self, view: View) -> tuple[bytes, Visit] | None:
        """Returns (field, visit) of the visit that a view or report belongs to, or None without such a visit.

        A report may come up to KEPT_MS after the last hit, a view only up to PAUSE_MS: while the page of the
        report was visible, the visitor did not pause.
        """
        pause = PAUSE_MS if view.spent_ms < 0 else KEPT_MS
        for visitor in (view.visitor, *view.other_visitors):
            visit_field = visits.field(visitor, view.sums.id_bytes)
            entry = self.entries.get(visit_field)
            if isinstance(entry, bytes):
                visit_field, entry = entry, self.entries.get(entry)
            if not isinstance(entry, Visit):
                continue
            latest = min(entry.last + pause, entry.start + MAX_VISIT_MS)
            if entry.start - PAUSE_MS <= view.time_ms <= latest:
                return visit_field, entry
        return None

    def has_room(self, visit_field: bytes) -> bool:
        """Returns whether a visit may begin under this field (see MAX_VISITS).

        A new visit may always replace an old visit of the same field.
        """
        free = visits.MAX_VISITS - self.count
        has_visit = isinstance(self.entries.get(visit_field), Visit)
        return has_visit or self.by_campaign[visits.campaign_of(visit_field)] < free

    def begin(self, visit_field: bytes, visit: Visit) -> None:
        """Adds a visit, in place of a visit of the same visitor that has ended."""
        old = self.entries.get(visit_field)
        if isinstance(old, Visit):
            self._remove(visit_field, old)
        else:
            self._remove_alias(visit_field)
        self._count(visit_field, 1)
        self.entries[visit_field] = visit
        self.touch(visit_field, visit)

    def touch(self, visit_field: bytes, visit: Visit) -> None:
        """Notes that a visit has changed, and may end at another time."""
        self.removed.pop(visit_field, None)
        self.changed[visit_field] = None
        heapq.heappush(self.last_hits, (visit.last, visit_field))

    def add_alias(self, alias: bytes, visit_field: bytes, visit: Visit) -> None:
        """Makes another hash of the visitor lead to this visit."""
        entry = self.entries.get(alias)
        if visit_field in (entry, alias):
            return
        if isinstance(entry, Visit):
            if entry.last + PAUSE_MS >= visit.last:
                return  # the alias is the field of another visit that may be under way
            self._remove(alias, entry)
        self._remove_alias(alias)
        if len(visit.aliases) >= MAX_ALIASES:  # the first is kept: it needs no cookie
            self._remove_alias(visit.aliases[1])
        self.entries[alias] = visit_field
        visit.aliases.append(alias)
        self.removed.pop(alias, None)
        self.changed[alias] = None

    def _remove_alias(self, alias: bytes) -> None:
        visit_field = self.entries.pop(alias, None)
        if visit_field is not None:
            self.changed.pop(alias, None)
            self.removed[alias] = None
        visit = self.entries.get(visit_field) if isinstance(visit_field, bytes) else None
        if isinstance(visit, Visit) and alias in visit.aliases:
            visit.aliases.remove(alias)
            self.changed[visit_field] = None  # type: ignore[index]

    def _count(self, visit_field: bytes, change: int) -> None:
        campaign = visits.campaign_of(visit_field)
        self.count += change
        self.by_campaign[campaign] += change
        self.count_changes[campaign] += change

    def _remove(self, visit_field: bytes, visit: Visit) -> None:
        self._count(visit_field, -1)
        for key in (visit_field, *visit.aliases):
            self.entries.pop(key, None)
            self.changed.pop(key, None)
            self.removed[key] = None


def count_visits(pipe: Pipeline, shard: int, tally: Tally, newest_ms: int) -> Reader[list[Command]]:
    """Counts the views of a tally and their visits. Returns the commands that store the visits under way.

    newest_ms: time of the shard's newest hit before this pass. Raises NewerFormat if a newer version wrote a
    visit.
    """
    last_ms = max(newest_ms, tally.newest_ms)
    view_fields = list(_fields(tally.views))
    (ended, count), entries, by_campaign = yield from together(
        pipe,
        _read_ended(pipe, shard, last_ms - KEPT_MS),
        visits.read_entries(pipe, shard, view_fields),
        visits.count_by_campaign(pipe, shard, view_fields),
    )
    if not tally.views and not ended:
        return []
    ended_fields = [visit_field for _, visit_field in ended if visit_field not in entries]
    more_entries, more_by_campaign, records = yield from together(
        pipe,
        visits.read_entries(pipe, shard, ended_fields),
        visits.count_by_campaign(pipe, shard, ended_fields),
        _read_records(pipe, shard, entries),
    )
    under_way = VisitsUnderWay(entries | more_entries, ended, count, by_campaign | more_by_campaign, records)
    entries = under_way.entries
    for view in tally.views:
        newest_ms = max(newest_ms, view.newest_ms)
        under_way.end(newest_ms - KEPT_MS)
        _add(under_way, view, newest_ms)
    under_way.end(last_ms - KEPT_MS)
    changed = {key: entries[key] for key in under_way.changed if key in entries}
    removed = [key for key in under_way.removed if key not in changed]
    return visits.store_commands(shard, changed, removed, under_way.count_changes)


def _read_ended(pipe: Pipeline, shard: int, before_ms: int) -> Reader[tuple[list[tuple[int, bytes]], int]]:
    """Returns the visits that ended before a time, and the number of all visits of the shard.

    A visit is (last hit in ms, field), the earliest first.
    """
    pipe.zrangebyscore(keys.visit_times(shard), "-inf", f"({before_ms}", withscores=True)
    pipe.zcard(keys.visit_times(shard))
    ended, count = yield
    return [
        (int(last), visit_field) for visit_field, last in zip(ended[::2], ended[1::2], strict=True)
    ], count


def _read_records(
    pipe: Pipeline, shard: int, entries: Mapping[bytes, Entry]
) -> Reader[dict[bytes, SampledVisit]]:
    """Returns the records of these visits in the sample, by number. A visit may have no record."""
    numbers: dict[tuple[str, str], list[bytes]] = {}
    for visit_field, entry in entries.items():
        if isinstance(entry, Visit) and entry.number:
            first_day = next(iter(entry.days))
            numbers.setdefault((visits.campaign_of(visit_field).decode(), first_day), []).append(entry.number)
    parts = [
        (keys.sample(shard, *campaign_and_day), of_day[i : i + _NUMBERS_PER_COMMAND])
        for campaign_and_day, of_day in numbers.items()
        for i in range(0, len(of_day), _NUMBERS_PER_COMMAND)
    ]
    for key, part in parts:
        pipe.hmget(key, part)
    replies = (yield) if parts else []
    return {
        number: visit_sample.unpack(value)
        for (_, part), values in zip(parts, replies, strict=True)
        for number, value in zip(part, values, strict=True)
        if value is not None
    }


def _fields(views: Iterable[View]) -> Iterable[bytes]:
    """Yields the fields under which the visits of these views may be stored."""
    for view in views:
        for visitor in (view.visitor, *view.other_visitors, view.cookieless):
            if visitor:
                yield visits.field(visitor, view.sums.id_bytes)


def _add(under_way: VisitsUnderWay, view: View, newest_ms: int) -> None:
    """Adds a view or a report to its visit, and counts it."""
    sums = view.sums
    is_visitor = bool(view.visitor) and view.time_ms >= newest_ms - PAUSE_MS
    current = under_way.find(view) if is_visitor else None
    if view.spent_ms >= 0:
        if current is not None:
            _count_report(under_way, *current, view)
        return
    if current is not None and view.id and any(recent.view == view.id for recent in current[1].recent_views):
        return  # the same beacon again
    if current is not None and _is_new_source(current[1], view):
        current = None
    sums.cell(view.start)[series.VIEWS] += 1
    if current is not None:
        _continue(under_way, *current, view)
    elif is_visitor:
        current = _begin(under_way, view)
    visit = current[1] if current else None
    day = sums.day(view.start)
    _count_view(sums, day, view, visit)
    if view.visitor:
        is_daily_hash = sums.campaign.identity == "cookieless"
        visitor = view.visitor if visit is None or is_daily_hash else visit.visitor
        sums.visitors.setdefault(day, set()).add(visitor)


def _is_new_source(visit: Visit, view: View) -> bool:
    """Returns whether a view has UTM fields that differ from those with which the visit began."""
    utm_fields = view.source.utm_campaign_fields
    return utm_fields not in ((NONE, NONE, NONE), visit.whole_source.utm_campaign_fields)


def _count_view(sums: Sums, day: str, view: View, visit: Visit | None) -> None:
    """Counts a view in all dimensions except the exit page of its visit, which may still change."""
    counts = sums.web_counts_of(day)
    if visit is None:
        sums.cell(view.start)[series.VIEWS_NO_VISIT if view.visitor else series.VIEWS_NO_VISITOR] += 1
        counts.entries[NONE, view.source][0] += 1
        counts.exits[NONE][0] += 1
    else:
        counts.entries[visit.entry, visit.whole_source][0] += 1
    counts.pages[view.page][0] += 1
    counts.traits[view.traits][0] += 1


def _begin(under_way: VisitsUnderWay, view: View) -> tuple[bytes, Visit] | None:
    """Begins a visit with this view, and counts the visit and its exit. Returns None if there is no room."""
    sums, page = view.sums, view.page
    visit_field = visits.field(view.visitor, sums.id_bytes)
    if not under_way.has_room(visit_field):
        return None
    day = sums.day(view.start)
    visit = Visit(
        start=view.time_ms,
        last=view.time_ms,
        visitor=view.visitor,
        entry=page,
        exit=page,
        exit_at=view.time_ms,
        source=view.source[:4],
        more_source=view.source[4:],
        days={day: 1},
        views=1,
        length_bin=0,
        recent_views=[RecentView(view.id, view.time_ms)],
        aliases=[],
        number=visit_sample.draw_number(),
    )
    record = under_way.records[visit.number] = visit_sample.new_record(visit, view.traits)
    sums.sampled.setdefault(day, {})[visit.number] = record
    cell = sums.cell(view.start)
    cell[series.VISITS] += 1
    cell[series.BOUNCES] += 1
    is_new = view.visit_number == 1 and visit_field not in under_way.entries
    _count_new_or_returning(visit, view, is_new=is_new)
    counts = sums.web_counts_of(day)
    counts.pages[page][1] += 1
    counts.traits[view.traits][1] += 1
    counts.entries[page, view.source][1] += 1
    exits = counts.exits[page]
    exits[0] += 1
    exits[1] += 1
    under_way.begin(visit_field, visit)
    _add_aliases(under_way, visit_field, visit, view)
    return visit_field, visit


def _continue(under_way: VisitsUnderWay, visit_field: bytes, visit: Visit, view: View) -> None:
    """Adds a view to a visit. Corrects the counts of the visit's bounce, exit page and duration."""
    sums, page = view.sums, view.page
    if visit.views == 1:
        sums.cell(series.bucket_start(visit.start))[series.BOUNCES] -= 1
    day = sums.day(view.start)
    if view.time_ms >= visit.exit_at:
        if page != visit.exit:
            _move_exit(sums, visit, page)
        visit.exit, visit.exit_at = page, view.time_ms
    _count_new_or_returning(visit, view, is_new=view.visit_number == 1)
    sums.web_counts_of(day).exits[visit.exit][0] += 1
    visit.days[day] = visit.days.get(day, 0) + 1
    visit.views += 1
    before = visit.recent_views[-1]
    if not before.is_reported and not before.time_bin and view.time_ms > before.at:
        _count_page_time(sums, before, histogram.span_bin(view.time_ms - before.at))
    if not before.view:
        visit.recent_views.pop()  # a view without an id cannot be recognised again
    visit.recent_views.append(RecentView(view.id, view.time_ms))
    del visit.recent_views[:-MAX_RECENT_VIEWS]
    _prolong(sums, visit, view.time_ms)
    _update_record(under_way, sums, visit, page)
    under_way.touch(visit_field, visit)
    _add_aliases(under_way, visit_field, visit, view)


def _update_record(under_way: VisitsUnderWay, sums: Sums, visit: Visit, page: str = "") -> None:
    """Brings the record of a visit up to date. page: see `visit_sample.update`."""
    record = under_way.records.get(visit.number)
    if record is not None:
        visit_sample.update(record, visit, page)
        sums.sampled.setdefault(next(iter(visit.days)), {})[visit.number] = record


def _move_exit(sums: Sums, visit: Visit, page: str) -> None:
    """Counts a visit and its views at another exit page instead of its present exit page."""
    first_day = sums.day(series.bucket_start(visit.start))
    for day, views in visit.days.items():
        exits, visits_begun = sums.web_counts_of(day).exits, int(day == first_day)
        old = exits[visit.exit]
        old[0] -= views
        old[1] -= visits_begun
        new = exits[page]
        new[0] += views
        new[1] += visits_begun


def _count_report(under_way: VisitsUnderWay, visit_field: bytes, visit: Visit, view: View) -> None:
    """Counts how long a view was visible, as its page reports.

    A report replaces a time that was not reported, or that was shorter.
    """
    for recent in visit.recent_views:
        if recent.view == view.id and view.id:
            spent_ms = min(view.spent_ms, max(0, view.time_ms - recent.at) + REPORT_SLACK_MS)
            time_bin = histogram.span_bin(spent_ms)
            if not recent.is_reported or time_bin > recent.time_bin:
                _count_page_time(view.sums, recent, time_bin)
                recent.is_reported = True
                _prolong(view.sums, visit, view.time_ms)
            _count_new_or_returning(visit, view, is_new=view.visit_number == 1)
            _update_record(under_way, view.sums, visit)
            under_way.touch(visit_field, visit)
            # A cookie may have been accepted since the view.
            _add_aliases(under_way, visit_field, visit, view)
            return


def _count_new_or_returning(visit: Visit, view: View, *, is_new: bool) -> None:
    """Counts a visit as new or returning, at its first hit with a cookie. Later hits change nothing."""
    if view.visit_number and not visit.is_new_or_returning_counted:
        visit.is_new_or_returning_counted = True
        cell = view.sums.cell(series.bucket_start(visit.start))
        cell[series.VISITS_NEW if is_new else series.VISITS_RETURNING] += 1


def _prolong(sums: Sums, visit: Visit, time_ms: int) -> None:
    """Makes a visit last at least until this time, and counts its new duration."""
    if time_ms <= visit.last:
        return
    visit.last = time_ms
    length_bin = histogram.span_bin(time_ms - visit.start)
    if length_bin != visit.length_bin:
        _move_bin(sums, visit.start, labels.VISIT, visit.length_bin, length_bin)
        visit.length_bin = length_bin


def _count_page_time(sums: Sums, recent: RecentView, time_bin: int) -> None:
    _move_bin(sums, recent.at, labels.PAGE, recent.time_bin, time_bin)
    recent.time_bin = time_bin


def _move_bin(sums: Sums, time_ms: int, letter: str, before: int, after: int) -> None:
    """Counts a duration in the bin `after` instead of the bin `before`. Bin 0 is not counted."""
    counts = sums.labels_of(series.bucket_start(time_ms))
    if before:
        counts[f"{letter}{before}"] -= 1
    if after:
        counts[f"{letter}{after}"] += 1


def _add_aliases(under_way: VisitsUnderWay, visit_field: bytes, visit: Visit, view: View) -> None:
    """Adds aliases of the visit for the visitor's hashes in this view, so that later hits find the visit."""
    for alias in (view.visitor, view.cookieless):
        if alias:
            under_way.add_alias(visits.field(alias, view.sums.id_bytes), visit_field, visit)
