"""The open rate of a campaign, with how sure it is; and whether two rates differ.

Delivered is mails sent less bounced, those to recipients of whom no open is recorded among them: who
withdrew, who asks not to be followed where such requests are dropped, and whose links are of mode `off`. They
read as others do, and are in no opener here, so where there are many all figures are too low by their share;
how many they are is not kept. To read is to see the mail with its images: who reads without them is
seen by nobody, and is in no figure here. Apple Mail Privacy Protection fetches the images of a mail by
machine, read or not, so the reading of its users is hidden. The others are visible.

    low       recipients with a human-eligible open / delivered: these read, machines in disguise apart
    high      (recipients with any open + anonymous opens) / delivered, at most 1: no more read
    estimate  (visible openers + hidden * p) / delivered, p = visible openers / visible; at least low
    interval  holds the true share of delivered who read 95 times in 100

By hand: 100 delivered, 60 hidden. Of the 40 visible, 10 read; of the hidden, 3 read in another client too; 2
more were opened by a scanner alone. Then low = 13/100, high = (10 + 60 + 2)/100 = 0.72, p = 10/40 and
estimate = (10 + 60 * 0.25)/100 = 0.25. It is p itself, always: hidden recipients do not move the estimate,
they only widen its interval, here to 0.16..0.37.

**It is assumed that hidden recipients read as often as visible ones.** The data cannot show it. If they read
at a rate of q, the estimate is wrong by (q - p) * hidden/delivered, and the interval does not cover that. It
is also assumed that a visible recipient with only scanner or unknown opens did not read; high alone counts
them. And that Apple fetched all: it may wait for Wi-Fi and power
(https://bird.com/en-nl/blog/4-insights-on-ios-15-mail-privacy-protection). A user of it whose mail was
neither fetched nor opened stands among the visible who did not read, so where these are many the estimate is
too low.

The interval. Under the assumption the visible are a sample without replacement of the delivered, so, of a
true share t, the visible share has a variance of t(1 - t)/visible * hidden/(delivered - 1) (Cochran, Sampling
Techniques, 3rd ed. 1977, theorem 3.2). Wilson's interval with n = visible * (delivered - 1)/hidden inverts
that: one step for both the doubt about p and the chance in which of the hidden read. In the example
n = 40 * 99/60 = 66 gives 0.1613..0.3662. Ends are rounded outwards to whole recipients and cut to what is
known: at least low, at most all of the hidden. The exact coverage is 95.0 % or more for 200 to 100,000
delivered, 10 to 90 % hidden and p of 2 to 60 %. Where less than one visible opener is to be expected it can
fall to 84 %, as Wilson's does: a single one then makes the interval begin too high.

There is no estimate where

- fewer than 30 are visible: its interval would be up to 35 points wide. A minimum of openers there is not, as
  it would show estimates only where luck made them high.
- anonymous opens exist: whoever made them may be a visible reader, so p is not known.
- known readers alone exceed the interval: hidden recipients do read more, and the assumption is refuted.

With nobody hidden and no anonymous open, nothing is estimated: estimate and interval are low.
"""

from __future__ import annotations

from math import ceil, exp, floor, hypot, lgamma, sqrt
from statistics import NormalDist
from typing import NamedTuple, TypedDict

MIN_VISIBLE = 30
COUNTED = "count: nobody is hidden"
ESTIMATED = "visible share, Wilson score interval with finite population correction, 95 %"
COMPARED = "Newcombe hybrid score interval, 95 %; Fisher's exact test, mid-p"


class Openers(NamedTuple):
    """Of one campaign, each in recipients, save `anonymous`. Whoever is in person or hidden is in any."""

    delivered: int | None
    any: int
    """with any open"""
    person: int
    """with a human-eligible open"""
    hidden: int
    """with an open by a client that loads all by machine, Apple's"""
    hidden_person: int
    """with both of these"""
    anonymous: int
    """opens without a recipient; each is at most one more opener"""


class Rate(TypedDict):
    """Shares of delivered, 0 to 1. The last three are None together."""

    low: float
    high: float
    estimate: float | None
    interval: tuple[float, float] | None
    method: str | None


class Difference(TypedDict):
    """Of a's rate less b's, -1 to 1."""

    difference: float
    interval: tuple[float, float]
    p_value: float
    significant: bool
    method: str


def open_rate(openers: Openers) -> tuple[Rate | None, bool]:
    """(the rate or None, whether more opened than were delivered). No denominator, no rate.

    ValueError: counts that cannot be of one campaign.
    """
    delivered, opened, person, hidden, hidden_person, anonymous = openers
    if delivered is None or (delivered == 0 and not opened):
        return None, False
    if opened > delivered:
        return None, True
    if (
        min(openers[1:]) < 0
        or hidden_person > min(person, hidden)
        or person + hidden - hidden_person > opened
    ):
        raise ValueError(f"not of one campaign: {openers}")
    estimate, interval, method = _estimate(delivered, openers) or (None, None, None)
    return {
        "low": round(person / delivered, 6),
        "high": round(min(delivered, opened + anonymous) / delivered, 6),
        "estimate": estimate,
        "interval": interval,
        "method": method,
    }, False


def _estimate(delivered: int, openers: Openers) -> tuple[float, tuple[float, float], str] | None:
    _, _, person, hidden, hidden_person, anonymous = openers
    visible, visible_openers = delivered - hidden, person - hidden_person
    known = round(person / delivered, 6)
    if anonymous:
        return None
    if not hidden:
        return known, (known, known), COUNTED
    if visible < MIN_VISIBLE:
        return None
    share = visible_openers / visible
    low, high = _score(share, visible * (delivered - 1) / hidden, 0.95)
    fewest = max(person, floor(low * delivered))
    most = min(visible_openers + hidden, ceil(high * delivered))
    if person > most:
        return None
    interval = round(fewest / delivered, 6), round(most / delivered, 6)
    return max(round(share, 6), known), interval, ESTIMATED


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a proportion. Source: E. B. Wilson, JASA 22 (1927), 209-212.

    ValueError: n is not above 0, or successes not within 0..n.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n}")
    return _score(successes / n, n, confidence)


def _score(share: float, n: float, confidence: float) -> tuple[float, float]:
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (middle - half if share > 0 else 0.0), (middle + half if share < 1 else 1.0)


def differs(a: tuple[int, int], b: tuple[int, int]) -> Difference | None:
    """Whether two rates, each (successes, n), differ by more than chance. None: an n is 0.

    Significant: a p-value below 0.05. At the edge test and interval may disagree; both are shown. The
    interval is method 10 of R. G. Newcombe, Statistics in Medicine 17 (1998), 873-890. The test is twice the
    smaller tail of Fisher's, with half of the observed table: for few as for many (Lydersen, Fagerland,
    Laake, Statistics in Medicine 28 (2009), 1159-1175). A z test would find 1 of 1 against 0 of 1000
    impossible; it is 1 in 1001.

    It knows chance alone: of all delivered, rates differ too when one campaign has more hidden recipients, so
    it is to be asked of the visible. And it takes the recipients for others: if the same people got both, it
    finds less than there is.

    ValueError: successes not within 0..n.
    """
    if a[1] == 0 or b[1] == 0:
        return None
    (low_a, high_a), (low_b, high_b) = wilson(*a), wilson(*b)
    rate_a, rate_b = a[0] / a[1], b[0] / b[1]
    difference = rate_a - rate_b
    low = difference - hypot(rate_a - low_a, high_b - rate_b)
    high = difference + hypot(high_a - rate_a, rate_b - low_b)
    p_value = _mid_p(a, b) if difference >= 0 else _mid_p(b, a)
    return {
        "difference": round(difference, 6),
        "interval": (round(low, 6), round(high, 6)),
        "p_value": float(f"{p_value:.6g}"),
        "significant": p_value < 0.05,
        "method": COMPARED,
    }


def _mid_p(a: tuple[int, int], b: tuple[int, int]) -> float:
    """Two-sided; a's rate is not the lower. The tail is summed outwards until it no longer grows."""
    (k, n), (rest, m) = a, b
    successes = k + rest
    term = exp(_log_choose(n, k) + _log_choose(m, rest) - _log_choose(n + m, successes))
    tail = term / 2
    while term > tail * 1e-17:
        term *= (n - k) * (successes - k) / ((k + 1) * (m - successes + k + 1))
        tail += term
        k += 1
    return 2 * min(tail, 1 - tail)


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
