"""Folds a hit of a web page into the sums: who the visitor is, and what the view breaks down into."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

from pixel_server import times
from pixel_server.campaigns.campaign import Campaign
from pixel_server.classify.judge import Judge
from pixel_server.classify.user_agents import visitor_facets
from pixel_server.consent import allowed_mode
from pixel_server.counters import series, visitor_salts, visits, web_names
from pixel_server.counters.labels import UNKNOWN, country_label
from pixel_server.counters.visitor_salts import Salts
from pixel_server.counters.web_breakdown import Reader
from pixel_server.hit import WEB, Hit
from workers.fold_hit import (
    BUCKET_MS,
    FOREIGN_ADDRESS_VERDICTS,
    IDENTIFIED,
    PSEUDONYMOUS,
    asks_privacy,
    is_counted,
    judge_hit,
)
from workers.sums import NO_OPEN, Sums, Tally, View

MACHINES = frozenset({"prefetch", "scanner"})
"""Verdicts of views that no visitor made."""
EARLY_SECONDS = visits.PAUSE_MS // 1000
"""Seconds after midnight in which a visitor is also looked up under yesterday's hash: the visit may go on."""

Visitor = tuple[bytes, tuple[bytes, ...], bytes]
"""(visitor, other_visitors, cookieless), as in `View`."""
_NO_VISITOR: Visitor = (b"", (), b"")


def salt_days(hits: Iterable[Hit], campaigns: Mapping[str, Campaign]) -> set[int]:
    """Returns the ends (s) of the days whose salts the visitors of these hits are hashed with."""
    ends: set[int] = set()
    seen: set[tuple[str, int]] = set()
    for hit in hits:
        if hit.kind == WEB and (key := (hit.campaign, hit.time // BUCKET_MS)) not in seen:
            seen.add(key)
            campaign = campaigns.get(hit.campaign)
            if campaign is not None and campaign.identity != "own" and hit.time >= 0:
                start = key[1] * series.BUCKET_SECONDS
                with contextlib.suppress(Exception):  # `fold` meets it too, and makes the hit a dead letter
                    _, begin, end = times.local_day(start, campaign.zone)
                    ends.add(end)
                    if start < begin + EARLY_SECONDS:
                        ends.add(begin)
    return ends


def add_web(tally: Tally, sums: Sums, hit: Hit, judge: Judge, salts: Salts) -> None:
    """Adds a hit of a web page: a view, a report on a view, or a request that is neither."""
    start = hit.time // BUCKET_MS * series.BUCKET_SECONDS
    judged = judge_hit(sums, hit, start, None, judge)
    verdict = judged.verdict
    is_report = hit.spent >= 0
    is_view = hit.method != "HEAD" and verdict != "own" and verdict not in MACHINES
    is_others_address = verdict in FOREIGN_ADDRESS_VERDICTS
    visitor = _NO_VISITOR
    if is_view and not is_others_address:
        visitor = _visitor(sums, hit, start, salts)
    view = View(sums, hit.time, start, tally.newest_ms, *visitor, hit.view, hit.spent, hit.visits)
    if is_view and not is_report:
        is_unknown = is_others_address or not hit.address
        view.page = web_names.page(hit.page)
        browser, system, device = visitor_facets(hit.agent)
        view.reader = Reader(
            country=UNKNOWN if is_unknown else country_label(hit.address)[1:],
            browser=browser,
            system=system,
            device=device,
            language=web_names.language(hit.language),
        )
        view.source = web_names.source(hit.page, hit.page_referrer)
    is_private = asks_privacy(hit)
    mode = allowed_mode(IDENTIFIED, sums.consent, is_private)
    # Nothing below raises an exception for one hit: from here on the hit is counted.
    if not is_counted(tally, sums, hit, mode, is_private):
        return
    key = (start, judged, NO_OPEN)
    sums.hits[key] = sums.hits.get(key, 0) + 1
    sums.last_hit_ms = max(sums.last_hit_ms, hit.time)
    if is_view:
        if mode < PSEUDONYMOUS:
            view.visitor, view.other_visitors, view.cookieless = _NO_VISITOR
        elif hit.address and not is_others_address:
            sums.addresses.add(hit.address)
        tally.views.append(view)
    elif verdict in MACHINES and hit.method != "HEAD" and not is_report:
        sums.cell(start)[series.VIEWS_BOT] += 1


def _visitor(sums: Sums, hit: Hit, start: int, salts: Salts) -> Visitor:
    """Returns the visitor of a hit, by the campaign's `identity`."""
    identity = sums.campaign.identity
    if identity == "own":
        return hit.visitor, (), b""
    begin, end = sums.day_bounds(start)
    today = _hash(sums, hit, salts.get(end))
    yesterday = b""
    if hit.time // 1000 < begin + EARLY_SECONDS:
        yesterday = _hash(sums, hit, salts.get(begin))
    if identity == "cookie" and hit.visitor:
        others = (today, yesterday) if hit.is_new else ()
        return hit.visitor, tuple(filter(None, others)), today
    return today, (yesterday,) if yesterday and today else (), b""


def _hash(sums: Sums, hit: Hit, salt: bytes | None) -> bytes:
    """Returns the hash of a visitor under the salt of a day, b"" if the salt is gone."""
    if salt is None:
        return b""
    hashing = sums.hashes.get(salt)
    if hashing is None:
        hashing = sums.hashes[salt] = visitor_salts.visitor_hash(salt, sums.campaign.id)
    hashed = hashing.copy()
    hashed.update(len(hit.address).to_bytes() + hit.address + hit.agent.encode("utf-8", "replace"))
    return hashed.digest()
