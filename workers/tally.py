"""The tally: the sums that a run of batches folds into. Pure data, made by pure code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pixel_server import breakdown, hit, people, series, tokens, traces
from pixel_server.campaigns import Campaign
from pixel_server.consent import Consent, Rule, allowed, asks
from pixel_server.hit import Hit, Unreadable
from pixel_server.people import Person, Taken
from pixel_server.secret import Secrets
from pixel_server.series import Cell
from pixel_server.tokens import Mode, Part, mode_of, part_of
from pixel_server.traces import APART, MINUTE, PERSON, SCANNER, UNKNOWN, Trace
from pixel_server.verdicts import ELIGIBLE, Class
from pixel_server.withdrawals import Periods, covers
from workers.judge import Judge

_ELSEWHERE = frozenset({"proxy", "prefetch"})
"""Verdicts of hits whose addresses are somebody else's machines, and say nothing of the reader."""

AHEAD_MS = 86_400_000
"""A hit from further in the future than this is a wrong clock, and is set aside."""


@dataclass(slots=True)
class Sums:
    """Of one campaign. cells: by start of 15 minutes. visitors: by local day. opens: of people, by local day
    and label (`breakdown`). rules: hits by id. taken: by recipient, opens that turned out to be a burst's."""

    campaign: Campaign
    rule: Rule
    cells: dict[int, Cell] = field(default_factory=dict)
    people: dict[bytes, Person] = field(default_factory=dict)
    addresses: set[bytes] = field(default_factory=set)
    visitors: dict[str, set[bytes]] = field(default_factory=dict)
    opens: dict[str, Counter[str]] = field(default_factory=dict)
    days: dict[int, str] = field(default_factory=dict)
    rules: Counter[str] = field(default_factory=Counter)
    taken: dict[bytes, Taken] = field(default_factory=dict)

    def cell(self, start: int) -> Cell:
        """That of a bucket."""
        cell = self.cells.get(start)
        if cell is None:
            cell = self.cells[start] = [0] * len(series.COUNTS)
        return cell

    def day(self, start: int) -> str:
        """The local day of a bucket."""
        day = self.days.get(start)
        if day is None:
            day = self.days[start] = series.local_day(start, self.campaign.zone)
        return day

    def opens_of(self, start: int) -> Counter[str]:
        """Those of a bucket's day, by label."""
        day = self.day(start)
        found = self.opens.get(day)
        if found is None:
            found = self.opens[day] = Counter()
        return found


@dataclass(slots=True)
class Tally:
    """sums: by campaign. drops: hits not counted, by reason. dead: what cannot be tallied.
    last: of recipients in mode `last`, the day of the last open, in days since 1970.
    newest: time of the newest hit counted, ms.
    traces: of hits that may be part of a burst, in their order: (sums, `traces.field`, ms, trace, newest by
    then)."""

    sums: dict[str, Sums] = field(default_factory=dict)
    drops: Counter[str] = field(default_factory=Counter)
    dead: list[Unreadable] = field(default_factory=list)
    last: dict[bytes, int] = field(default_factory=dict)
    newest: int = 0
    traces: list[tuple[Sums, bytes, int, Trace, int]] = field(default_factory=list)


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
                _add_mail(tally, sums, one, judge, secrets)
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
        sums.cell(series.bucket(one.time))[series.HITS_GPC] += 1
    return mode


def _add_mail(tally: Tally, sums: Sums, one: Hit, judge: Judge, secrets: Secrets) -> None:
    flags, recipient = one.flags, one.recipient
    tally.newest = max(tally.newest, one.time)
    mode = _allowed(tally, sums, one, mode_of(flags))
    if mode == Mode.OFF:
        return
    sent = (one.token_time if flags & tokens.SENDING else sums.campaign.sent_at) if recipient else None
    found = judge(one, sent)
    verdict, rule, hides, firm, labels = found
    start = series.bucket(one.time)
    cell = sums.cell(start)
    cell[series.HITS] += 1
    cell[series.OF_CLASS[verdict]] += 1
    sums.rules[rule] += 1
    if verdict == "own":
        return
    part = part_of(flags)
    is_open = one.method == "GET" and part != Part.BOTTOM
    if is_open:
        cell[series.OPENS] += 1
    if sums.campaign.closed_at is not None:
        return
    if mode < Mode.PSEUDONYMOUS:  # nothing that tells two recipients apart
        if is_open:
            cell[series.OPENS_ANONYMOUS] += 1
            if mode == Mode.LAST and recipient:
                day = one.time // 86_400_000
                tally.last[recipient] = max(day, tally.last.get(recipient, 0))
        return
    if one.address and verdict not in _ELSEWHERE:
        sums.addresses.add(one.address)
    delay = 0
    if is_open and labels:
        if verdict == "person" and one.address:
            labels = (*labels, breakdown.country(one.address))
        opens = sums.opens_of(start)
        for label in labels:
            opens[label] += 1
        delay = breakdown.delay_bin(one.time // 1000 - sent) if sent is not None else 0
    if (kind := _kind(verdict, firm)) is not None:
        made = secrets.evidence_hash().copy()
        made.update(recipient + one.address)
        address = int.from_bytes(made.digest())
        trace = Trace(one.time % MINUTE, address, kind, rule, is_open, delay, labels)
        tally.traces.append((sums, traces.field(recipient, one.campaign), one.time, trace, tally.newest))
    if one.method != "GET":
        return
    at = one.time // 1000
    flags = people.TOP if part == Part.TOP else people.BOTTOM if part == Part.BOTTOM else 0
    if hides:
        flags |= people.HIDDEN
    person = people.opened(at, flags, verdict, delay) if is_open else Person(flags=flags)
    known = sums.people.get(recipient)
    sums.people[recipient] = person if known is None else people.merge(known, person)


def _add_page(tally: Tally, sums: Sums, one: Hit, judge: Judge, secrets: Secrets) -> None:
    mode = _allowed(tally, sums, one, Mode.IDENTIFIED)
    if mode == Mode.OFF:
        return
    found = judge(one, None)
    start = series.bucket(one.time)
    cell = sums.cell(start)
    cell[series.HITS] += 1
    cell[series.OF_CLASS[found.verdict]] += 1
    sums.rules[found.rule] += 1
    if found.verdict == "own":
        return
    followed = mode >= Mode.PSEUDONYMOUS and found.verdict not in _ELSEWHERE
    if one.address and followed:
        sums.addresses.add(one.address)
    if one.method != "GET":
        return
    cell[series.VIEWS] += 1
    if not followed:
        return
    day = sums.day(start)
    visitor = one.visitor or secrets.visitor_key(
        b"day", one.campaign.encode(), one.address, one.agent.encode("utf-8", "replace"), day.encode()
    )
    sums.visitors.setdefault(day, set()).add(visitor)


def _kind(verdict: Class, firm: bool) -> int | None:
    """What a burst takes a hit for; None: it has no part in one, nor can it be what is left of a person."""
    if verdict in ELIGIBLE:
        return APART if firm or verdict == "proxy" else PERSON
    if verdict == "scanner":
        return SCANNER
    return UNKNOWN if verdict == "unknown" and not firm else None
