"""The steps that a mail hit and a web hit share on their way into the sums."""

from __future__ import annotations

from pixel_server.classify.judge import Judge
from pixel_server.classify.rules import Verdict
from pixel_server.consent import requests_no_tracking
from pixel_server.counters import series
from pixel_server.hit import Hit
from pixel_server.tokens import Mode
from workers.sums import Sums, Tally

OFF, COUNT, LAST, PSEUDONYMOUS, IDENTIFIED = (int(mode) for mode in Mode)
"""Modes as plain numbers: enums would take a third of the time that a hit has."""
BUCKET_MS = series.BUCKET_SECONDS * 1000
"""Milliseconds of a bucket."""
FOREIGN_ADDRESS_VERDICTS = frozenset({"proxy", "prefetch"})
"""Verdicts of hits that came from somebody else's machine. Its address says nothing of the reader."""


def asks_privacy(hit: Hit) -> bool:
    """Returns whether the client asks not to be tracked (`Sec-GPC` or `DNT`)."""
    return bool(hit.gpc or hit.dnt) and requests_no_tracking(hit.gpc, hit.dnt)


def judge_hit(sums: Sums, hit: Hit, start: int, sent: int | None, judge: Judge) -> Verdict:
    """Returns the verdict on a hit. start: of its bucket, s. sent: when its mail was sent, s.

    Raises an exception if `Sums.settle` could not count the hit.
    """
    verdict = judge(hit, sent)
    if verdict.verdict not in series.HITS_BY_CLASS:
        raise KeyError(verdict.verdict)
    if start not in sums.local_days:
        sums.day(start)
    return verdict


def is_counted(tally: Tally, sums: Sums, hit: Hit, mode: int, is_private: bool) -> bool:
    """Returns whether a hit is counted in this mode. Counts a hit that is not as dropped.

    Call it when nothing can raise an exception any more: a hit that raises must not be counted anywhere.
    """
    if mode == OFF:
        tally.drops["off" if sums.consent.mode == OFF else "gpc"] += 1
        return False
    if is_private and sums.consent.gpc_effect != "ignore":
        sums.cell(series.bucket_start(hit.time))[series.HITS_GPC] += 1
    return True
