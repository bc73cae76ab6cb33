"""Folds a hit of a mail pixel into the sums."""

from __future__ import annotations

from hashlib import blake2b

from pixel_server import tokens
from pixel_server.classify.judge import Judge
from pixel_server.consent import allowed_mode
from pixel_server.counters import histogram, recipient_record, series
from pixel_server.counters.burst_window import MINUTE_MS, Trace
from pixel_server.counters.labels import country_label
from pixel_server.counters.recipient_record import RecipientRecord
from pixel_server.hit import Hit
from pixel_server.times import DAY_MS
from pixel_server.tokens import Part
from pixel_server.verdicts import ELIGIBLE
from workers.fold_hit import (
    BUCKET_MS,
    FOREIGN_ADDRESS_VERDICTS,
    LAST,
    PSEUDONYMOUS,
    asks_privacy,
    is_counted,
    judge_hit,
)
from workers.sums import ANONYMOUS_OPEN, LATE_OPEN, NO_OPEN, OPEN, Sums, Tally, TracedHit

PART_BITS = 0x18
"""Bits of a hit's flags that name the part of the mail."""
TOP, BOTTOM = Part.TOP << 3, Part.BOTTOM << 3
"""Values of PART_BITS of the top and the bottom pixel."""


def add_mail(tally: Tally, sums: Sums, hit: Hit, token_mode: int, judge: Judge, trace_hash: blake2b) -> None:
    """Adds a hit of a mail pixel. token_mode: the mode that its link was made in.

    trace_hash: keyed hash for the addresses in traces. It is copied for each trace.
    """
    time, flags, recipient, address = hit.time, hit.flags, hit.recipient, hit.address
    sent = None
    if recipient:
        sent = hit.token_time if flags & tokens.SENDING else sums.campaign.sent_at
    start = time // BUCKET_MS * series.BUCKET_SECONDS
    judged = judge_hit(sums, hit, start, sent, judge)
    verdict = judged.verdict
    part = flags & PART_BITS
    is_private = asks_privacy(hit)
    mode = allowed_mode(token_mode, sums.consent, is_private)
    is_open = hit.method == "GET" and part != BOTTOM and verdict != "own"
    is_closed = sums.campaign.closed_at is not None
    is_followed = mode >= PSEUDONYMOUS and not is_closed and verdict != "own"
    country, delay, labels = "", 0, judged.labels
    if is_open and is_followed and labels:
        if address and verdict == "person":
            country = country_label(address)
        if sent is not None:
            delay = histogram.delay_bin(time // 1000 - sent)
    # The code below changes the sums, so it must not raise: a hit that raises becomes a dead letter.
    if not is_counted(tally, sums, hit, mode, is_private):
        return
    kind = NO_OPEN if not is_open else LATE_OPEN if is_closed else OPEN if is_followed else ANONYMOUS_OPEN
    key = (start, judged, kind)
    sums.hits[key] = sums.hits.get(key, 0) + 1
    sums.last_hit_ms = max(sums.last_hit_ms, time)
    if not is_followed:
        if kind == ANONYMOUS_OPEN and mode == LAST and recipient:
            day = time // DAY_MS
            tally.last_open_days[recipient] = max(day, tally.last_open_days.get(recipient, 0))
        return
    if address and verdict not in FOREIGN_ADDRESS_VERDICTS:
        sums.addresses.add(address)
    if country:
        sums.countries[start, country] = sums.countries.get((start, country), 0) + 1
        labels = (*labels, country)
    if judged.trace is not None:
        hashed = trace_hash.copy()
        hashed.update(recipient + address)
        number = int.from_bytes(hashed.digest())
        trace = Trace(time % MINUTE_MS, number, judged.trace, judged.rule, is_open, delay, labels)
        tally.traced_hits.append(TracedHit(sums, recipient + sums.id_bytes, time, trace, tally.newest_ms))
    if hit.method != "GET":
        return
    loaded = recipient_record.TOP if part == TOP else recipient_record.BOTTOM if part == BOTTOM else 0
    if loaded == recipient_record.BOTTOM and verdict in ELIGIBLE:
        loaded |= recipient_record.SEEN
    if judged.hides:
        loaded |= recipient_record.HIDDEN
    record = (
        recipient_record.from_open(time // 1000, loaded, verdict, delay)
        if is_open
        else RecipientRecord(flags=loaded)
    )
    earlier = sums.people.get(recipient)
    sums.people[recipient] = record if earlier is None else recipient_record.merge(earlier, record)
