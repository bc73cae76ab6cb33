"""Views become visits: one visitor's, without a pause of 30 minutes between.

Hits are looked at in the order of the stream, beside the visits that are under way (`counters.visits`).
All that a visit counts for is counted at once, and moved by the next hit of it, in the same commit as that
hit: so the outcome depends on the order of the stream, and not on how it is cut, nor on crashes.

A hit more than PAUSE_MS behind the newest of its shard is a view and no visit: that goes by the hits' own
times alone. So is one of a visitor who would make more visits than a shard has room for.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pixel_server.counters import histogram, labels, series, visits
from pixel_server.counters.visits import (
    KEPT_MS,
    MAX_ALIASES,
    MAX_SEEN,
    MAX_VISIT_MS,
    PAUSE_MS,
    Entry,
    Seen,
    Visit,
)
from pixel_server.counters.web_breakdown import NONE
from pixel_server.store import keys
from pixel_server.store.checkpoint import Command
from pixel_server.store.protocols import Redis
from workers.fold import Sums, Tally, View

SLACK = 5000
"""ms that a page may report more than has passed here since its view: its report may be quicker."""


@dataclass(slots=True)
class Open:
    """The visits of a shard that are under way, as a pass goes on.

    known: by field. lasts: (last, field) of those that may end, the earliest first; one that was moved since
    stands twice. count: how many there are; of: each campaign's. more: by how many each has changed. changed,
    gone: fields.
    """

    known: dict[bytes, Entry]
    lasts: list[tuple[int, bytes]]
    count: int
    of: Counter[bytes]
    more: Counter[bytes] = field(default_factory=Counter)
    changed: dict[bytes, None] = field(default_factory=dict)
    gone: dict[bytes, None] = field(default_factory=dict)

    def end(self, before: int) -> None:
        """Takes away those whose last hit was before this (ms)."""
        while self.lasts and self.lasts[0][0] < before:
            last, name = heapq.heappop(self.lasts)
            visit = self.known.get(name)
            if isinstance(visit, Visit) and visit.last == last:
                self._drop(name, visit)

    def find(self, view: View) -> tuple[bytes, Visit] | None:
        """The visit under way that a hit belongs to, with its field.

        A report may come later than a view: that its page was seen is no pause.
        """
        pause = PAUSE_MS if view.spent < 0 else KEPT_MS
        for visitor in (view.visitor, *view.others):
            name = visits.field(visitor, view.sums.name)
            entry = self.known.get(name)
            if isinstance(entry, bytes):
                name, entry = entry, self.known.get(entry)
            if not isinstance(entry, Visit):
                continue
            if entry.start - PAUSE_MS <= view.at <= min(entry.last + pause, entry.start + MAX_VISIT_MS):
                return name, entry
        return None

    def has_room(self, name: bytes) -> bool:
        """For one more visit of this visitor; see `visits.MAX_VISITS`. True if the visitor has a visit."""
        free = visits.MAX_VISITS - self.count
        return self.of[visits.campaign_of(name)] < free or isinstance(self.known.get(name), Visit)

    def begin(self, name: bytes, visit: Visit) -> None:
        """A new visit. It takes the place of one of the same visitor that has ended."""
        old = self.known.get(name)
        if isinstance(old, Visit):
            self._drop(name, old)
        else:
            self._unpoint(name)
        self._count(name, 1)
        self.known[name] = visit
        self.touch(name, visit)

    def touch(self, name: bytes, visit: Visit) -> None:
        self.gone.pop(name, None)
        self.changed[name] = None
        heapq.heappush(self.lasts, (visit.last, name))

    def point(self, other: bytes, name: bytes, visit: Visit) -> None:
        """Another hash leads to this visit from now on."""
        known = self.known.get(other)
        if name in (known, other):
            return
        if isinstance(known, Visit):
            if known.last + PAUSE_MS >= visit.last:
                return  # another visit that may be under way
            self._drop(other, known)
        self._unpoint(other)
        if len(visit.aliases) >= MAX_ALIASES:  # the first is the hash without a cookie, the last the cookie
            self._unpoint(visit.aliases[1])
        self.known[other] = name
        visit.aliases.append(other)
        self.gone.pop(other, None)
        self.changed[other] = None

    def _unpoint(self, other: bytes) -> None:
        """No visit is led to by this one any more."""
        name = self.known.pop(other, None)
        if name is not None:
            self.changed.pop(other, None)
            self.gone[other] = None
        visit = self.known.get(name) if isinstance(name, bytes) else None
        if isinstance(visit, Visit) and other in visit.aliases:
            visit.aliases.remove(other)
            self.changed[name] = None  # type: ignore[index]

    def _count(self, name: bytes, change: int) -> None:
        campaign = visits.campaign_of(name)
        self.count += change
        self.of[campaign] += change
        self.more[campaign] += change

    def _drop(self, name: bytes, visit: Visit) -> None:
        self._count(name, -1)
        for one in (name, *visit.aliases):
            self.known.pop(one, None)
            self.changed.pop(one, None)
            self.gone[one] = None


def find(store: Redis, shard: int, tally: Tally, newest: int) -> list[Command]:
    """Counts the views of a tally, and the visits that they make. Gives the commands that keep what goes on.

    newest: as it is kept, ms. NewerFormat: a newer version wrote some visits.
    """
    last = max(newest, tally.newest)
    ended, count = _ended(store, shard, last - KEPT_MS)
    if not tally.views and not ended:
        return []
    names = [*(name for _, name in ended), *_wanted(tally.views)]
    known = visits.read_entries(store, shard, names)
    under_way = Open(known, ended, count, visits.count_by_campaign(store, shard, names))
    for view in tally.views:
        newest = max(newest, view.newest)
        under_way.end(newest - KEPT_MS)
        _add(under_way, view, newest)
    under_way.end(last - KEPT_MS)
    kept = {name: known[name] for name in under_way.changed if name in known}
    gone = [name for name in under_way.gone if name not in kept]
    return visits.store_commands(shard, kept, gone, under_way.more)


def _ended(store: Redis, shard: int, before: int) -> tuple[list[tuple[int, bytes]], int]:
    """((last, field) of visits whose last hit was before this (ms), the earliest first; how many in all)."""
    pipe = store.pipeline(transaction=False)
    pipe.zrangebyscore(keys.lasts(shard), "-inf", f"({before}", withscores=True)
    pipe.zcard(keys.lasts(shard))
    found, count = pipe.execute()
    return [(int(last), name) for name, last in found], int(count)


def _wanted(views: Iterable[View]) -> Iterable[bytes]:
    for view in views:
        for visitor in (view.visitor, *view.others, view.cookieless):
            if visitor:
                yield visits.field(visitor, view.sums.name)


def _add(under_way: Open, view: View, newest: int) -> None:
    found = None
    if view.visitor and view.at >= newest - PAUSE_MS:
        found = under_way.find(view)
    if view.spent >= 0:
        if found is not None:
            _report(under_way, *found, view)
        return
    if found is not None and view.id and any(one.view == view.id for one in found[1].seen):
        return  # the same beacon once more
    sums = view.sums
    sums.cell(view.start)[series.VIEWS] += 1
    if found is not None:
        _go_on(under_way, *found, view)
    elif view.visitor and view.at >= newest - PAUSE_MS:
        found = _begin(under_way, view)
    day = sums.day(view.start)
    counted = sums.parts_of(day)
    if found is None:
        sums.cell(view.start)[series.VIEWS_NO_VISIT if view.visitor else series.VIEWS_NO_VISITOR] += 1
        counted.entries[NONE, view.source][0] += 1
        counted.exits[NONE][0] += 1
    else:
        counted.entries[found[1].entry, found[1].source][0] += 1
    counted.pages[view.page][0] += 1
    counted.readers[view.reader][0] += 1
    if view.visitor:
        visitor = found[1].visitor if found and sums.campaign.identity != "cookieless" else view.visitor
        sums.visitors.setdefault(day, set()).add(visitor)


def _begin(under_way: Open, view: View) -> tuple[bytes, Visit] | None:
    """A visit that begins with this view; of it, all but the view is counted here, and its exit. None: there
    is no room."""
    sums, page = view.sums, view.page
    name = visits.field(view.visitor, sums.name)
    if not under_way.has_room(name):
        return None
    day = sums.day(view.start)
    visit = Visit(
        view.at, view.at, view.visitor, page, page, view.at, view.source, {day: 1}, 1, 0, [_seen(view)], []
    )
    cell = sums.cell(view.start)
    cell[series.VISITS] += 1
    cell[series.BOUNCES] += 1
    _tell(visit, view, is_new=view.visits == 1 and name not in under_way.known)
    counted = sums.parts_of(day)
    counted.pages[page][1] += 1
    counted.readers[view.reader][1] += 1
    counted.entries[page, view.source][1] += 1
    left = counted.exits[page]
    left[0] += 1
    left[1] += 1
    under_way.begin(name, visit)
    _point(under_way, name, visit, view)
    return name, visit


def _go_on(under_way: Open, name: bytes, visit: Visit, view: View) -> None:
    """A visit goes on with this view: bounce, exit page and times are moved."""
    sums, page = view.sums, view.page
    start = series.bucket_start(visit.start)
    if visit.views == 1:
        sums.cell(start)[series.BOUNCES] -= 1
    day = sums.day(view.start)
    if view.at >= visit.exit_at:
        if page != visit.exit:
            _move_exit(sums, visit, page)
        visit.exit, visit.exit_at = page, view.at
    _tell(visit, view, is_new=view.visits == 1)
    sums.parts_of(day).exits[visit.exit][0] += 1
    visit.days[day] = visit.days.get(day, 0) + 1
    visit.views += 1
    before = visit.seen[-1]
    if not before.is_reported and not before.time and view.at > before.at:
        _count_time(sums, before, histogram.span_bin(view.at - before.at))
    if not before.view:
        visit.seen.pop()  # it cannot be known again
    visit.seen.append(_seen(view))
    del visit.seen[:-MAX_SEEN]
    _last(sums, visit, view.at)
    under_way.touch(name, visit)
    _point(under_way, name, visit, view)


def _move_exit(sums: Sums, visit: Visit, page: str) -> None:
    started = sums.day(series.bucket_start(visit.start))
    for day, views in visit.days.items():
        exits, began = sums.parts_of(day).exits, day == started
        left = exits[visit.exit]
        left[0] -= views
        left[1] -= began
        left = exits[page]
        left[0] += views
        left[1] += began


def _report(under_way: Open, name: bytes, visit: Visit, view: View) -> None:
    """How long a view was visible, as its page says: in place of what was counted for it before."""
    for one in visit.seen:
        if one.view == view.id and view.id:
            spent = min(view.spent, max(0, view.at - one.at) + SLACK)
            time = histogram.span_bin(spent)
            if not one.is_reported or time > one.time:
                _count_time(view.sums, one, time)
                one.is_reported = True
                _last(view.sums, visit, view.at)
            _tell(visit, view, is_new=view.visits == 1)
            under_way.touch(name, visit)
            _point(under_way, name, visit, view)  # who says yes to a cookie, says so here
            return


def _tell(visit: Visit, view: View, *, is_new: bool) -> None:
    """Counts a visit as new or returning, once, with the first hit of it that has a cookie."""
    if view.visits and not visit.is_told:
        visit.is_told = True
        cell = view.sums.cell(series.bucket_start(visit.start))
        cell[series.VISITS_NEW if is_new else series.VISITS_RETURNING] += 1


def _last(sums: Sums, visit: Visit, at: int) -> None:
    """A visit lasts until this instant (ms), or longer."""
    if at <= visit.last:
        return
    visit.last = at
    time = histogram.span_bin(at - visit.start)
    if time != visit.time:
        _recount(sums, visit.start, labels.VISIT, visit.time, time)
        visit.time = time


def _count_time(sums: Sums, one: Seen, time: int) -> None:
    _recount(sums, one.at, labels.PAGE, one.time, time)
    one.time = time


def _recount(sums: Sums, at: int, letter: str, before: int, after: int) -> None:
    counts: Counter[str] = sums.opens_of(series.bucket_start(at))
    if before:
        counts[f"{letter}{before}"] -= 1
    if after:
        counts[f"{letter}{after}"] += 1


def _point(under_way: Open, name: bytes, visit: Visit, view: View) -> None:
    """Who is known by another hash from now on, or would be without the cookie."""
    for other in (view.visitor, view.cookieless):
        if other:
            under_way.point(visits.field(other, view.sums.name), name, visit)


def _seen(view: View) -> Seen:
    return Seen(view.id, view.at)
