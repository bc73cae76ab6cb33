"""Folds a hit of a web page into the sums: finds its visitor, the visitor's traits, its page and source."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

from pixel_server import times
from pixel_server.addresses import HOUSEHOLD_BYTES
from pixel_server.campaigns.campaign import Campaign
from pixel_server.classify.judge import Judge
from pixel_server.classify.user_agents import visitor_facets
from pixel_server.consent import allowed_mode
from pixel_server.counters import series, visitor_salts, visits, web_names
from pixel_server.counters.labels import UNKNOWN, country_label
from pixel_server.counters.visitor_salts import Salts
from pixel_server.counters.web_breakdown import VisitorTraits
from pixel_server.hit import WEB, Hit
from workers.fold_hit import (
    BUCKET_MS,
    FOREIGN_ADDRESS_VERDICTS,
    MODE_IDENTIFIED,
    MODE_PSEUDONYMOUS,
    apply_consent,
    asks_no_tracking,
    judge_hit,
)
from workers.sums import NO_OPEN, Sums, Tally, View

MACHINES = frozenset({"prefetch", "scanner"})
"""Verdicts of views that no visitor made."""
EARLY_SECONDS = visits.PAUSE_MS // 1000
"""Seconds after midnight during which a visitor's hash of the day before is computed too: the visit may have
begun before midnight."""

Visitor = tuple[bytes, tuple[bytes, ...], bytes]
"""(visitor, other_visitors, cookieless), as in `View`."""
_NO_VISITOR: Visitor = (b"", (), b"")


def salt_days(hits: Iterable[Hit], campaigns: Mapping[str, Campaign]) -> set[int]:
    """Returns the days whose salts hash the visitors of these hits. A day is named by its end, in seconds."""
    ends: set[int] = set()
    seen_buckets: set[tuple[str, int]] = set()
    for hit in hits:
        if hit.kind == WEB and (key := (hit.campaign, hit.time // BUCKET_MS)) not in seen_buckets:
            seen_buckets.add(key)
            campaign = campaigns.get(hit.campaign)
            if campaign is not None and campaign.identity != "own" and hit.time >= 0:
                start = key[1] * series.BUCKET_SECONDS
                with contextlib.suppress(Exception):  # `fold` fails too, and makes the hit a dead letter
                    _, begin, end = times.local_day(start, campaign.zone)
                    ends.add(end)
                    if start < begin + EARLY_SECONDS:
                        ends.add(begin)
    return ends


def add_web(tally: Tally, sums: Sums, hit: Hit, judge: Judge, salts: Salts) -> None:
    """Adds a hit of a web page to the sums: a view, a report on a view, or a request that is neither."""
    start = hit.time // BUCKET_MS * series.BUCKET_SECONDS
    judged = judge_hit(sums, hit, start, None, judge)
    verdict = judged.verdict
    is_report = hit.spent_ms >= 0
    is_from_visitor = hit.method != "HEAD" and verdict != "own" and verdict not in MACHINES
    is_foreign_address = verdict in FOREIGN_ADDRESS_VERDICTS
    visitor = _NO_VISITOR
    if is_from_visitor and not is_foreign_address:
        visitor = _visitor(sums, hit, start, salts)
    view = View(sums, hit.time, start, tally.newest_ms, *visitor, hit.view, hit.spent_ms, hit.visits)
    if is_from_visitor and not is_report:
        is_country_unknown = is_foreign_address or not hit.address
        view.page = web_names.page(hit.page, is_folded=sums.campaign.paths == "folded")
        browser, system, device = visitor_facets(hit.agent)
        view.traits = VisitorTraits(
            country=UNKNOWN if is_country_unknown else country_label(hit.address)[1:],
            browser=browser,
            system=system,
            device=device,
            language=web_names.language(hit.language),
        )
        view.source = web_names.source(hit.page, hit.page_referrer)
    no_tracking = asks_no_tracking(hit)
    mode = allowed_mode(MODE_IDENTIFIED, sums.consent, no_tracking)
    # The code below changes the sums, so it must not raise: a hit that raises becomes a dead letter.
    if not apply_consent(tally, sums, hit, mode, no_tracking):
        return
    key = (start, judged, NO_OPEN)
    sums.hits[key] = sums.hits.get(key, 0) + 1
    sums.last_hit_ms = max(sums.last_hit_ms, hit.time)
    if is_from_visitor:
        if mode < MODE_PSEUDONYMOUS:
            view.visitor, view.other_visitors, view.cookieless = _NO_VISITOR
        elif hit.address and not is_foreign_address:
            sums.addresses.add(hit.address)
        tally.views.append(view)
    elif verdict in MACHINES and hit.method != "HEAD" and not is_report:
        sums.cell(start)[series.VIEWS_BOT] += 1


def _visitor(sums: Sums, hit: Hit, start: int, salts: Salts) -> Visitor:
    """Returns the visitor of a hit, identified as the campaign's `identity` says."""
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
    """Returns the hash of a hit's visitor with the salt of a day, or b"" if the salt is None (gone)."""
    if salt is None:
        return b""
    salted_hash = sums.hashes.get(salt)
    if salted_hash is None:
        salted_hash = sums.hashes[salt] = visitor_salts.visitor_hash(salt, sums.campaign.id)
    hashed = salted_hash.copy()
    network = hit.address[:HOUSEHOLD_BYTES]
    hashed.update(len(hit.address).to_bytes() + network + hit.agent.encode("utf-8", "replace"))
    return hashed.digest()
