"""The tally: the sums that a run of batches folds into. Pure data, made by pure code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pixel_server import hit, people, series
from pixel_server.campaigns import Campaign
from pixel_server.classify import Verdict
from pixel_server.consent import Consent, Rule, allowed, asks
from pixel_server.hit import Hit, Unreadable
from pixel_server.people import Person
from pixel_server.secret import Secrets
from pixel_server.series import Cell
from pixel_server.tokens import Mode, Part, mode_of, part_of
from pixel_server.withdrawals import Periods, covers
from workers.judge import Judge

AHEAD_MS = 86_400_000
"""A hit from further in the future than this is a wrong clock, and is set aside."""


@dataclass(slots=True)
class Sums:
    """Of one campaign. cells: by start of 15 minutes. visitors: by local day. rules: hits by id."""

    campaign: Campaign
    rule: Rule
    cells: dict[int, Cell] = field(default_factory=dict)
    people: dict[bytes, Person] = field(default_factory=dict)
    addresses: set[bytes] = field(default_factory=set)
    visitors: dict[str, set[bytes]] = field(default_factory=dict)
    days: dict[int, str] = field(default_factory=dict)
    rules: Counter[str] = field(default_factory=Counter)

    def day(self, start: int) -> str:
        """The local day of a bucket."""
        day = self.days.get(start)
        if day is None:
            day = self.days[start] = series.local_day(start, self.campaign.zone)
        return day


@dataclass(slots=True)
class Tally:
    """sums: by campaign. drops: hits not counted, by reason. dead: what cannot be tallied.
    last: of recipients in mode `last`, the day of the last open, in days since 1970."""

    sums: dict[str, Sums] = field(default_factory=dict)
    drops: Counter[str] = field(default_factory=Counter)
    dead: list[Unreadable] = field(default_factory=list)
    last: dict[bytes, int] = field(default_factory=dict)


def wanted(hits: Iterable[Hit]) -> dict[str, int | None]:
    """The campaigns of these hits -> latest time of a good token that names it, so that it may be made."""
    found: dict[str, int | None] = {}
    for one in hits:
        if one.kind == hit.EMAIL:
            known = found.get(one.campaign)
            if known is None or one.token_time > known:
                found[one.campaign] = one.token_time
        else:
            found.setdefault(one.campaign, None)
    return found


def fold(
    hits: Iterable[Hit],
    campaigns: Mapping[str, Campaign],
    withdrawn: Mapping[bytes, Periods],
    consent: Consent,
    judge: Judge,
    secrets: Secrets,
    now_ms: int,
) -> Tally:
    """Adds up. campaigns: those that hits may be counted under; hits of others are dropped.

    withdrawn: by recipient key, when hits of that recipient are not to be counted.
    """
    tally = Tally()
    for one in hits:
        sums = tally.sums.get(one.campaign)
        if sums is None:
            campaign = campaigns.get(one.campaign)
            if campaign is None:
                tally.drops["gone"] += 1
                continue
            sums = tally.sums[one.campaign] = Sums(campaign, consent.rule(campaign.mode, campaign.gpc))
        if one.recipient in withdrawn and covers(withdrawn[one.recipient], one.time):
            tally.drops["withdrawn"] += 1
        elif not 0 <= one.time <= now_ms + AHEAD_MS:
            tally.dead.append(Unreadable(hit.encode(one), "time: in the future, or before 1970"))
        elif len(one.recipient) != (8 if mode_of(one.flags) > Mode.COUNT else 0):
            tally.dead.append(Unreadable(hit.encode(one), "recipient: not as the flags say"))
        elif one.kind == hit.EMAIL:
            if sums.campaign.kind == "email":
                _add_mail(tally, sums, one, judge)
            else:
                tally.drops["kind"] += 1
        elif one.kind == hit.WEB:
            if sums.campaign.kind == "web":
                _add_page(tally, sums, one, judge, secrets)
            else:
                tally.drops["kind"] += 1
        else:
            tally.dead.append(Unreadable(hit.encode(one), f"kind: {one.kind!r}"))
    return tally


def _allowed(tally: Tally, sums: Sums, one: Hit, linked: int) -> int:
    """The mode that holds for this hit; off: it is dropped here, and counted as dropped."""
    asked = asks(one.gpc, one.dnt)
    mode = allowed(linked, sums.rule, asked)
    if mode == Mode.OFF:
        tally.drops["off" if sums.rule.mode == Mode.OFF else "gpc"] += 1
    elif asked and sums.rule.signals != "ignore":
        _cell(sums, one)[series.HITS_GPC] += 1
    return mode


def _judged(sums: Sums, cell: Cell, one: Hit, judge: Judge) -> Verdict:
    """Counts a hit under its verdict."""
    found = judge(one, sums.campaign.sent_at)
    cell[series.HITS] += 1
    cell[series.OF_CLASS[found.verdict]] += 1
    sums.rules[found.rule] += 1
    return found


def _add_mail(tally: Tally, sums: Sums, one: Hit, judge: Judge) -> None:
    mode = _allowed(tally, sums, one, mode_of(one.flags))
    if mode == Mode.OFF:
        return
    cell = _cell(sums, one)
    verdict, _, hides = _judged(sums, cell, one, judge)
    if verdict == "own":
        return
    part = part_of(one.flags)
    is_open = one.method == "GET" and part != Part.BOTTOM
    if is_open:
        cell[series.OPENS] += 1
    if sums.campaign.closed_at is not None:
        return
    if mode < Mode.PSEUDONYMOUS:  # nothing that tells two recipients apart
        if is_open:
            cell[series.OPENS_ANONYMOUS] += 1
            if mode == Mode.LAST and one.recipient:
                day = one.time // 86_400_000
                tally.last[one.recipient] = max(day, tally.last.get(one.recipient, 0))
        return
    if one.address:
        sums.addresses.add(one.address)
    if one.method != "GET":
        return
    at = one.time // 1000
    flags = people.TOP if part == Part.TOP else people.BOTTOM if part == Part.BOTTOM else 0
    if hides:
        flags |= people.HIDDEN
    person = people.opened(at, flags, verdict) if is_open else Person(flags=flags)
    known = sums.people.get(one.recipient)
    sums.people[one.recipient] = person if known is None else people.merge(known, person)


def _add_page(tally: Tally, sums: Sums, one: Hit, judge: Judge, secrets: Secrets) -> None:
    mode = _allowed(tally, sums, one, Mode.IDENTIFIED)
    if mode == Mode.OFF:
        return
    cell = _cell(sums, one)
    if _judged(sums, cell, one, judge).verdict == "own":
        return
    followed = mode >= Mode.PSEUDONYMOUS
    if one.address and followed:
        sums.addresses.add(one.address)
    if one.method != "GET":
        return
    cell[series.VIEWS] += 1
    if not followed:
        return
    day = sums.day(series.bucket(one.time))
    visitor = one.visitor or secrets.visitor_key(
        b"day", one.campaign.encode(), one.address, one.agent.encode("utf-8", "replace"), day.encode()
    )
    sums.visitors.setdefault(day, set()).add(visitor)


def _cell(sums: Sums, one: Hit) -> Cell:
    start = series.bucket(one.time)
    cell = sums.cells.get(start)
    if cell is None:
        cell = sums.cells[start] = [0] * len(series.COUNTS)
    return cell
