"""The tally: the sums that a run of batches folds into. Pure data, made by pure code."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec

from pixel_server import hit, times, tokens
from pixel_server.campaigns.campaign import Campaign
from pixel_server.classify.judge import Judge
from pixel_server.classify.rules import Verdict
from pixel_server.classify.user_agents import reader
from pixel_server.consent import Consent, Rule, allowed_mode, requests_no_tracking
from pixel_server.counters import (
    burst_window,
    histogram,
    recipient_record,
    series,
    visitor_salts,
    visits,
    web_names,
)
from pixel_server.counters.burst_window import MINUTE_MS, Trace
from pixel_server.counters.labels import UNKNOWN, country_label
from pixel_server.counters.recipient_record import RecipientRecord, ScannerOpens
from pixel_server.counters.series import Cell
from pixel_server.counters.visitor_salts import Salts
from pixel_server.counters.web_breakdown import DayCounts, Reader, Source
from pixel_server.hit import Hit, UnreadableData
from pixel_server.recipients.withdrawals import Periods, covers
from pixel_server.secret import Secrets
from pixel_server.slug import is_slug
from pixel_server.times import DAY_MS
from pixel_server.tokens import Mode, Part
from pixel_server.verdicts import ELIGIBLE

_ELSEWHERE = frozenset({"proxy", "prefetch"})
"""Verdicts of hits whose addresses are somebody else's machines, and say nothing of the reader."""

_MACHINES = frozenset({"prefetch", "scanner"})
"""Verdicts of views that are no visitor's."""
EARLY = visits.PAUSE_MS // 1000
"""Seconds of a day in which a visitor is looked up under the hash of yesterday too."""

OFF, COUNT, LAST, PSEUDONYMOUS, IDENTIFIED = (int(mode) for mode in Mode)
MODE, PART = 0x07, 0x18
TOP, BOTTOM = Part.TOP << 3, Part.BOTTOM << 3
"""Of a hit's flags, as plain numbers: enums take a third of the time a hit has."""
BUCKET = series.BUCKET_SECONDS * 1000
ADDRESS = (0, 4, 16)
"""Bytes it has."""

_KINDS = {hit.EMAIL: "email", hit.WEB: "web"}
"""The kind of campaign by the kind of its hits."""

NO_OPEN, OPEN, ANONYMOUS, CLOSED = range(4)
"""What a hit counts as. CLOSED: an open of a campaign whose time to keep recipients is over."""


@dataclass(slots=True)
class Sums:
    """Of one campaign. name: its id, as `traces.field` has it. hits: how many, by bucket, verdict and what
    they count as; countries: opens by bucket and label. `_settle` spreads both.

    cells: by start of 15 minutes. visitors: by local day. opens: of people, by local day and label
    (`breakdown`). parts: by local day (`dimensions`). rules: hits by id. taken: by recipient, opens that
    turned out to be a burst's.
    """

    campaign: Campaign
    rule: Rule
    name: bytes
    hits: dict[tuple[int, Verdict, int], int] = field(default_factory=dict)
    last_hit: int = 0
    countries: dict[tuple[int, str], int] = field(default_factory=dict)
    cells: dict[int, Cell] = field(default_factory=dict)
    people: dict[bytes, RecipientRecord] = field(default_factory=dict)
    addresses: set[bytes] = field(default_factory=set)
    visitors: dict[str, set[bytes]] = field(default_factory=dict)
    opens: dict[str, Counter[str]] = field(default_factory=dict)
    parts: dict[str, DayCounts] = field(default_factory=dict)
    days: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    hashes: dict[bytes, blake2b] = field(default_factory=dict)
    rules: Counter[str] = field(default_factory=Counter)
    taken: dict[bytes, ScannerOpens] = field(default_factory=dict)

    def cell(self, start: int) -> Cell:
        """That of a bucket."""
        cell = self.cells.get(start)
        if cell is None:
            cell = self.cells[start] = [0] * len(series.COUNTS)
        return cell

    def day(self, start: int) -> str:
        """The local day of a bucket."""
        return self._day(start)[0]

    def ends(self, start: int) -> tuple[int, int]:
        """When the local day of a bucket begins and ends, seconds."""
        return self._day(start)[1:]

    def _day(self, start: int) -> tuple[str, int, int]:
        day = self.days.get(start)
        if day is None:
            day = self.days[start] = times.local_day(start, self.campaign.zone)
        return day

    def parts_of(self, day: str) -> DayCounts:
        """What views and visits of a local day break down into."""
        found = self.parts.get(day)
        if found is None:
            found = self.parts[day] = DayCounts()
        return found

    def opens_of(self, start: int) -> Counter[str]:
        """Those of a bucket's day, by label."""
        day = self.day(start)
        found = self.opens.get(day)
        if found is None:
            found = self.opens[day] = Counter()
        return found


class View(msgspec.Struct, gc=False):
    """A view of a page, or a report on one (spent: ms, else -1). at: ms. start: of its bucket, s.

    newest: time of the newest hit by then, ms. visitor: b"" for none. others: hashes that its visit may be
    found under too. cookieless: what the same visitor's would be without a cookie, b"" where that is the same
    or not known. id: names the view, b"" for none. visits: as the cookie says.
    """

    sums: Sums
    at: int
    start: int
    newest: int
    visitor: bytes
    others: tuple[bytes, ...]
    cookieless: bytes
    id: bytes
    spent: int
    visits: int
    page: str = ""
    reader: Reader = Reader()
    source: Source = Source()


@dataclass(slots=True)
class Tally:
    """sums: by campaign. drops: hits not counted, by reason. dead: what cannot be tallied.
    last: of recipients in mode `last`, the day of the last open, in days since 1970.
    newest: time of the newest hit, ms.
    traces: of hits that may be part of a burst, in their order: (sums, `traces.field`, ms, trace,
    newest by then). views: of web pages, and reports on them, in their order."""

    sums: dict[str, Sums] = field(default_factory=dict)
    drops: Counter[str] = field(default_factory=Counter)
    dead: list[UnreadableData] = field(default_factory=list)
    last: dict[bytes, int] = field(default_factory=dict)
    newest: int = 0
    traces: list[tuple[Sums, bytes, int, Trace, int]] = field(default_factory=list)
    views: list[View] = field(default_factory=list)


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
    return {campaign: made for campaign, made in found.items() if is_slug(campaign)}


def days(hits: Iterable[Hit], campaigns: Mapping[str, Campaign]) -> set[int]:
    """The ends of the days whose salts the visitors of these hits are hashed with, seconds."""
    found: set[int] = set()
    seen: set[tuple[str, int]] = set()
    for one in hits:
        if one.kind == hit.WEB and (mark := (one.campaign, one.time // BUCKET)) not in seen:
            seen.add(mark)
            campaign = campaigns.get(one.campaign)
            if campaign is not None and campaign.identity != "own" and one.time >= 0:
                start = mark[1] * series.BUCKET_SECONDS
                with contextlib.suppress(Exception):  # `fold` meets it too, and makes the hit a dead letter
                    _, begin, end = times.local_day(start, campaign.zone)
                    found.add(end)
                    if start < begin + EARLY:
                        found.add(begin)
    return found


def fold(
    hits: Iterable[Hit],
    campaigns: Mapping[str, Campaign],
    withdrawn: Mapping[bytes, Periods],
    consent: Consent,
    judge: Judge,
    secrets: Secrets,
    known: Salts,
) -> Tally:
    """Adds up. campaigns: those that hits may be counted under; hits of others are dropped.

    withdrawn: by recipient key, when hits of that recipient are not to be counted. known: the salts of the
    `days` of these hits.
    """
    tally = Tally()
    hashing = secrets.evidence_hash()
    for one in hits:
        try:
            sums = tally.sums.get(one.campaign)
            if sums is None:
                campaign = campaigns.get(one.campaign)
                if campaign is None:
                    if is_slug(one.campaign):
                        tally.drops["gone"] += 1
                    else:
                        tally.dead.append(UnreadableData(hit.encode(one), "campaign: no slug"))
                    continue
                sums = tally.sums[one.campaign] = Sums(
                    campaign, consent.rule(campaign.mode, campaign.gpc), burst_window.field(b"", campaign.id)
                )
            linked = one.flags & MODE
            tally.newest = max(tally.newest, one.time)
            if one.recipient in withdrawn and covers(withdrawn[one.recipient], one.time):
                tally.drops["withdrawn"] += 1
            elif one.time < 0:
                tally.dead.append(UnreadableData(hit.encode(one), "time: before 1970"))
            elif len(one.recipient) != (8 if linked > COUNT else 0):
                tally.dead.append(UnreadableData(hit.encode(one), "recipient: not as the flags say"))
            elif len(one.address) not in ADDRESS:
                tally.dead.append(UnreadableData(hit.encode(one), f"address: of {len(one.address)} bytes"))
            elif one.kind not in _KINDS:
                tally.dead.append(UnreadableData(hit.encode(one), f"kind: {one.kind!r}"))
            elif sums.campaign.kind != _KINDS[one.kind]:
                tally.drops["kind"] += 1
            elif one.kind == hit.EMAIL:
                _add_mail(tally, sums, one, linked, judge, hashing)
            else:
                _add_page(tally, sums, one, judge, known)
        except Exception as error:  # or one hit would stop its shard for good
            _set_aside(tally, one, error)
    for sums in tally.sums.values():
        _settle(sums)
    return tally


def _set_aside(tally: Tally, one: Hit, error: Exception) -> None:
    """Makes a dead letter of a hit that raised an exception.

    The reason leaves out the exception's text, because that may quote the hit.
    """
    if isinstance(error, MemoryError):
        raise error
    tally.dead.append(UnreadableData(hit.encode(one), f"cannot be counted: {type(error).__name__}"))


def _allow(tally: Tally, sums: Sums, one: Hit, mode: int, asked: bool) -> bool:
    """Returns whether a hit is counted in this mode. Counts one that is not as dropped."""
    if mode == OFF:
        tally.drops["off" if sums.rule.mode == OFF else "gpc"] += 1
        return False
    if asked and sums.rule.signals != "ignore":
        sums.cell(series.bucket_start(one.time))[series.HITS_GPC] += 1
    return True


def _asked(one: Hit) -> bool:
    """Returns whether the client asked not to be tracked."""
    return bool(one.gpc or one.dnt) and requests_no_tracking(one.gpc, one.dnt)


def _judged(sums: Sums, one: Hit, start: int, sent: int | None, judge: Judge) -> Verdict:
    """Returns the verdict on a hit. Raises an exception if `_settle` could not count the hit."""
    found = judge(one, sent)
    if found.verdict not in series.HITS_BY_CLASS:
        raise KeyError(found.verdict)
    sums.day(start)
    return found


def _add_mail(tally: Tally, sums: Sums, one: Hit, linked: int, judge: Judge, hashing: blake2b) -> None:
    time, flags, recipient, address = one.time, one.flags, one.recipient, one.address
    sent = None
    if recipient:
        sent = one.token_time if flags & tokens.SENDING else sums.campaign.sent_at
    start = time // BUCKET * series.BUCKET_SECONDS
    found = _judged(sums, one, start, sent, judge)
    verdict = found.verdict
    part = flags & PART
    asked = _asked(one)
    mode = allowed_mode(linked, sums.rule, asked)
    is_open = one.method == "GET" and part != BOTTOM and verdict != "own"
    is_closed = sums.campaign.closed_at is not None
    is_followed = mode >= PSEUDONYMOUS and not is_closed and verdict != "own"
    country, delay, labels = "", 0, found.labels
    if is_open and is_followed and labels:
        if address and verdict == "person":
            country = country_label(address)
        if sent is not None:
            delay = histogram.delay_bin(time // 1000 - sent)
    # All that may fail is done: now it is counted.
    if not _allow(tally, sums, one, mode, asked):
        return
    kind = NO_OPEN if not is_open else CLOSED if is_closed else OPEN if is_followed else ANONYMOUS
    key = (start, found, kind)
    sums.hits[key] = sums.hits.get(key, 0) + 1
    sums.last_hit = max(sums.last_hit, time)
    if not is_followed:
        if kind == ANONYMOUS and mode == LAST and recipient:
            day = time // DAY_MS
            tally.last[recipient] = max(day, tally.last.get(recipient, 0))
        return
    if address and verdict not in _ELSEWHERE:
        sums.addresses.add(address)
    if country:
        sums.countries[start, country] = sums.countries.get((start, country), 0) + 1
        labels = (*labels, country)
    if found.trace is not None:
        made = hashing.copy()
        made.update(recipient + address)
        hashed = int.from_bytes(made.digest())
        trace = Trace(time % MINUTE_MS, hashed, found.trace, found.rule, is_open, delay, labels)
        tally.traces.append((sums, recipient + sums.name, time, trace, tally.newest))
    if one.method != "GET":
        return
    loaded = recipient_record.TOP if part == TOP else recipient_record.BOTTOM if part == BOTTOM else 0
    if loaded == recipient_record.BOTTOM and verdict in ELIGIBLE:
        loaded |= recipient_record.SEEN
    if found.hides:
        loaded |= recipient_record.HIDDEN
    person = (
        recipient_record.from_open(time // 1000, loaded, verdict, delay)
        if is_open
        else RecipientRecord(flags=loaded)
    )
    known = sums.people.get(recipient)
    sums.people[recipient] = person if known is None else recipient_record.merge(known, person)


def _add_page(tally: Tally, sums: Sums, one: Hit, judge: Judge, known: Salts) -> None:
    start = one.time // BUCKET * series.BUCKET_SECONDS
    found = _judged(sums, one, start, None, judge)
    verdict = found.verdict
    is_report = one.spent >= 0
    is_view = one.method != "HEAD" and verdict != "own" and verdict not in _MACHINES
    elsewhere = verdict in _ELSEWHERE
    who: Who = (b"", (), b"")
    if is_view and not elsewhere:
        who = _visitor(sums, one, start, known)
    view = View(sums, one.time, start, tally.newest, *who, one.view, one.spent, one.visits)
    if is_view and not is_report:
        country = UNKNOWN if elsewhere or not one.address else country_label(one.address)[1:]
        view.page = web_names.page(one.page)
        browser, system, device = reader(one.agent)
        language = web_names.language(one.language)
        view.reader = Reader(
            country=country, browser=browser, system=system, device=device, language=language
        )
        view.source = web_names.source(one.page, one.page_referrer)
    asked = _asked(one)
    mode = allowed_mode(IDENTIFIED, sums.rule, asked)
    # All that may fail is done: now it is counted.
    if not _allow(tally, sums, one, mode, asked):
        return
    key = (start, found, NO_OPEN)
    sums.hits[key] = sums.hits.get(key, 0) + 1
    sums.last_hit = max(sums.last_hit, one.time)
    if is_view:
        if mode < PSEUDONYMOUS:
            view.visitor, view.others, view.cookieless = b"", (), b""
        elif one.address and not elsewhere:
            sums.addresses.add(one.address)
        tally.views.append(view)
    elif verdict in _MACHINES and one.method != "HEAD" and not is_report:
        sums.cell(start)[series.VIEWS_BOT] += 1


Who = tuple[bytes, tuple[bytes, ...], bytes]


def _visitor(sums: Sums, one: Hit, start: int, known: Salts) -> Who:
    """(who it is, or b"", under what else a visit may be found, the hash that it has without its cookie)."""
    identity = sums.campaign.identity
    if identity == "own":
        return one.visitor, (), b""
    begin, end = sums.ends(start)
    today = _hash(sums, one, known.get(end))
    before = b""
    if one.time // 1000 < begin + EARLY:
        before = _hash(sums, one, known.get(begin))
    if identity == "cookie" and one.visitor:
        others = (today, before) if one.is_new else ()
        return one.visitor, tuple(filter(None, others)), today
    return today, (before,) if before and today else (), b""


def _hash(sums: Sums, one: Hit, salt: bytes | None) -> bytes:
    """The visitor of a day, whose salt this is; b"" if it is gone."""
    if salt is None:
        return b""
    hashing = sums.hashes.get(salt)
    if hashing is None:
        hashing = sums.hashes[salt] = visitor_salts.visitor_hash(salt, sums.campaign.id)
    made = hashing.copy()
    made.update(len(one.address).to_bytes() + one.address + one.agent.encode("utf-8", "replace"))
    return made.digest()


def _settle(sums: Sums) -> None:
    """Spreads hits that were counted by kind over cells, rules and labels."""
    for (start, found, kind), count in sums.hits.items():
        cell = sums.cell(start)
        cell[series.HITS] += count
        cell[series.HITS_BY_CLASS[found.verdict]] += count
        sums.rules[found.rule] += count
        if kind != NO_OPEN:
            cell[series.OPENS] += count
            if kind == ANONYMOUS:
                cell[series.OPENS_ANONYMOUS] += count
            elif kind == OPEN and found.labels:
                opens = sums.opens_of(start)
                for label in found.labels:
                    opens[label] += count
    for (start, label), count in sums.countries.items():
        sums.opens_of(start)[label] += count
