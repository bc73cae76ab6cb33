"""Folds a hit of a mail pixel into the sums."""

from __future__ import annotations

from hashlib import blake2b

from pixel_server import tokens
from pixel_server.classify.judge import Judge
from pixel_server.classify.rules import Verdict, is_at_delivery
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
    MODE_LAST,
    MODE_PSEUDONYMOUS,
    apply_consent,
    asks_no_tracking,
    judge_hit,
)
from workers.sums import ANONYMOUS_OPEN, LATE_OPEN, NO_OPEN, OPEN, NotedOpen, Sums, Tally, TracedHit

PART_BITS = 0x18
"""Bits of a hit's flags that name the part of the mail."""
TOP, BOTTOM = Part.TOP << 3, Part.BOTTOM << 3
"""Values of PART_BITS for the top and the bottom pixel of a mail with two pixels."""


def add_mail(tally: Tally, sums: Sums, hit: Hit, token_mode: int, judge: Judge, trace_hash: blake2b) -> None:
    """Adds a hit of a mail pixel to the sums. token_mode: the mode in which its link was made.

    trace_hash: keyed hash object without input. A copy of the object hashes the address of a trace.
    """
    time, flags, recipient, address = hit.time, hit.flags, hit.recipient, hit.address
    sent_at = None
    if recipient:
        sent_at = hit.token_time if flags & tokens.SENDING else sums.campaign.sent_at
    start = time // BUCKET_MS * series.BUCKET_SECONDS
    judged = judge_hit(sums, hit, start, sent_at, judge)
    verdict = judged.verdict
    part = flags & PART_BITS
    no_tracking = asks_no_tracking(hit)
    mode = sums.consented_mode(allowed_mode(token_mode, sums.consent, no_tracking), recipient, time)
    is_open = hit.method == "GET" and part != BOTTOM and verdict != "own"
    is_closed = sums.campaign.closed_at is not None
    stores_recipient = mode >= MODE_PSEUDONYMOUS and not is_closed and verdict != "own"
    country, delay, labels = "", 0, judged.labels
    if is_open and stores_recipient and labels:
        if address and verdict == "person":
            country = country_label(address)
        if sent_at is not None:
            delay = histogram.delay_bin(time // 1000 - sent_at)
    # The code below changes the sums, so it must not raise: a hit that raises becomes a dead letter.
    if not apply_consent(tally, sums, hit, mode, no_tracking):
        return
    kind = (
        NO_OPEN if not is_open else LATE_OPEN if is_closed else OPEN if stores_recipient else ANONYMOUS_OPEN
    )
    key = (start, judged, kind)
    sums.hits[key] = sums.hits.get(key, 0) + 1
    sums.last_hit_ms = max(sums.last_hit_ms, time)
    if not stores_recipient:
        if kind == ANONYMOUS_OPEN and mode == MODE_LAST and recipient:
            day = time // DAY_MS
            tally.last_open_days[recipient] = max(day, tally.last_open_days.get(recipient, 0))
        return
    if address and verdict not in FOREIGN_ADDRESS_VERDICTS:
        sums.addresses.add(address)
    if country:
        sums.countries[start, country] = sums.countries.get((start, country), 0) + 1
        labels = (*labels, country)
    trace = None
    if judged.trace is not None:
        hashed = trace_hash.copy()
        hashed.update(recipient + address)
        address_hash = int.from_bytes(hashed.digest())
        client_hash = 0
        if sent_at is not None and is_at_delivery(time // 1000 - sent_at, judge.delivery_seconds):
            hashed.update(hit.agent.encode("utf-8", "surrogatepass"))
            client_hash = int.from_bytes(hashed.digest())
        link = hit.token_time << 2 | part >> 3
        trace = Trace(
            *(time % MINUTE_MS, address_hash, judged.trace, judged.rule, is_open, delay, labels),
            link,
            client_hash,
        )
        tally.traced_hits.append(TracedHit(sums, recipient + sums.id_bytes, time, trace, tally.newest_ms))
    if sums.notes_opens and kind == OPEN and verdict in ELIGIBLE:
        tally.noted_opens.append(NotedOpen(sums, recipient, time, judged, country, trace))
    if hit.method == "GET":
        _add_to_record(sums, hit, part, judged, delay, is_open)


def _add_to_record(sums: Sums, hit: Hit, part: int, judged: Verdict, delay: int, is_open: bool) -> None:
    """Merges a GET of a pixel into the recipient's record.

    part: PART_BITS of the hit. delay: bin of the time from sending to the open, 0 if unknown.
    """
    flags = recipient_record.TOP if part == TOP else recipient_record.BOTTOM if part == BOTTOM else 0
    if part == BOTTOM and judged.verdict in ELIGIBLE:
        flags |= recipient_record.SEEN
    if judged.hides_reading:
        flags |= recipient_record.HIDES_READING
    if is_open:
        record = recipient_record.from_open(hit.time // 1000, flags, judged.verdict, delay)
    else:
        record = RecipientRecord(flags=flags)
    earlier = sums.people.get(hit.recipient)
    sums.people[hit.recipient] = record if earlier is None else recipient_record.merge(earlier, record)
