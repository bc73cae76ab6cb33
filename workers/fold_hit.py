"""The steps that a mail hit and a web hit share on their way into the sums."""

from __future__ import annotations

from pixel_server.classify.judge import Judge
from pixel_server.classify.rules import Verdict
from pixel_server.consent import requests_no_tracking
from pixel_server.counters import series
from pixel_server.hit import Hit
from pixel_server.tokens import Mode
from workers.sums import Sums, Tally

MODE_OFF, MODE_COUNT, MODE_LAST, MODE_PSEUDONYMOUS, MODE_IDENTIFIED = (int(mode) for mode in Mode)
"""Modes as plain integers: enums would take a third of the time in which a hit is folded."""
BUCKET_MS = series.BUCKET_SECONDS * 1000
"""Length of a bucket in milliseconds."""
FOREIGN_ADDRESS_VERDICTS = frozenset({"proxy", "prefetch"})
"""Verdicts of hits that came from the address of another machine than the reader's."""


def asks_no_tracking(hit: Hit) -> bool:
    """Returns whether the client asks not to be tracked (`Sec-GPC` or `DNT`)."""
    return bool(hit.gpc or hit.dnt) and requests_no_tracking(hit.gpc, hit.dnt)


def judge_hit(sums: Sums, hit: Hit, start: int, sent_at: int | None, judge: Judge) -> Verdict:
    """Returns the verdict on a hit.

    start: start of the hit's bucket, s. sent_at: time at which its mail was sent, s, or None if not known.
    Raises an exception for a hit that `Sums.settle` could not count.
    """
    verdict = judge(hit, sent_at)
    if verdict.verdict not in series.HITS_BY_CLASS:
        raise KeyError(verdict.verdict)
    if start not in sums.local_days:
        sums.day(start)
    return verdict


def apply_consent(tally: Tally, sums: Sums, hit: Hit, mode: int, no_tracking: bool) -> bool:
    """Returns whether a hit may be counted in this mode. Counts the hit as dropped if not.

    no_tracking: whether the client asks not to be tracked. Unless the campaign ignores that, also adds the
    hit to HITS_GPC. Call this function when nothing can raise an exception any more, because a hit that
    raises must not be counted anywhere.
    """
    if mode == MODE_OFF:
        tally.drops["off" if sums.consent.mode == MODE_OFF else "gpc"] += 1
        return False
    if no_tracking and sums.consent.gpc_effect != "ignore":
        sums.cell(series.bucket_start(hit.time))[series.HITS_GPC] += 1
    return True
