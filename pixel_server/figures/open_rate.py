"""The open rate of a campaign with its uncertainty, and whether two rates differ by more than chance.

`delivered` is mails sent less mails bounced. It includes mails whose opens are not recorded: mails to
recipients who withdrew, mails read in clients that send GPC or DNT if the campaign drops their hits, and
mails of mode `off`. The recipients of these mails read as others do but are not counted as openers, so all
figures are too low by the share of these mails. The number of these mails is not stored. To read means to see
the mail with its images: a reader without images cannot be seen, and is in no figure here. Apple Mail Privacy
Protection fetches the images of a mail by machine, whether the mail is read or not, so it hides whether its
users read. Recipients with such a fetch are hidden; all others are visible.

    low       recipients with an open by a person or proxy / delivered: they read, except machines in disguise
    high      (recipients with any open + anonymous opens) / delivered, at most 1: nobody else read
    estimate  (visible openers + hidden * p) / delivered, where p = visible openers / visible; at least low
    interval  contains the true share of readers among the delivered, in 95 of 100 campaigns

A worked example. 100 mails are delivered, 60 recipients are hidden. Of the 40 visible, 10 read. Of the
hidden, 3 read in another client too. 2 more mails were opened by a scanner alone. Then low = 13/100 = 0.13,
high = (10 + 60 + 2)/100 = 0.72, p = 10/40 = 0.25 and estimate = (10 + 60 * 0.25)/100 = 0.25. The estimate
equals p unless low is greater. Hidden recipients do not move the estimate, but only widen its interval, here
to 0.16..0.37.

**The estimate assumes that hidden and visible recipients read equally often.** The data cannot confirm this.
If hidden recipients read at a rate of q, the estimate is wrong by (q - p) * hidden/delivered, and the
interval does not cover that error. Two more assumptions: a visible recipient with only scanner or unknown
opens did not read (only high counts such a recipient), and Apple fetched all mails. Apple may wait for Wi-Fi
and power (https://bird.com/en-nl/blog/4-insights-on-ios-15-mail-privacy-protection). A mail that Apple did
not fetch and its user did not open counts as visible and not read. If there are many such mails, the estimate
is too low.

The interval. Under the assumption, the visible are a sample of the delivered without replacement. So, for a
true share t, the visible share has the variance t(1 - t)/visible * hidden/(delivered - 1) (Cochran, Sampling
Techniques, 3rd ed. 1977, theorem 3.2). Wilson's interval with n = visible * (delivered - 1)/hidden inverts
this variance. The interval covers the uncertainty of p and the chance that decides which hidden recipients
read. In the example n = 40 * 99/60 = 66 gives 0.1613..0.3662. Its ends are rounded outwards to whole
recipients, and cut to what is known: at least low, and at most the share if all hidden recipients read. The
exact coverage is 95.0 % or more for 200 to 100,000 delivered, 10 to 90 % hidden and p of 2 to 60 %. If less
than one visible opener is expected, the coverage can fall to 84 %, as with Wilson's interval: a single opener
then makes the interval begin too high.

There is no estimate if

- fewer than 30 are visible: the interval would be up to 35 points wide. The number of openers has no minimum:
  with a minimum, small campaigns would show an estimate only if chance had made it high.
- there are anonymous opens: visible recipients may have made them, so p is not known.
- the recipients who surely read exceed the interval: hidden recipients then read more than visible ones, and
  the assumption is refuted.

If nobody is hidden and no open is anonymous, nothing is estimated: estimate and interval equal low.
"""

from __future__ import annotations

from math import ceil, exp, floor, hypot, lgamma, sqrt
from statistics import NormalDist
from typing import NamedTuple, TypedDict

MIN_VISIBLE = 30
"""Smallest number of visible recipients for which a rate is estimated."""
COUNT_METHOD = "count: nobody is hidden"
ESTIMATE_METHOD = "visible share, Wilson score interval with finite population correction, 95 %"
COMPARISON_METHOD = "Newcombe hybrid score interval, 95 %; Fisher's exact test, mid-p"


class Openers(NamedTuple):
    """Numbers of recipients of one campaign. `any` includes `person` and `hidden`."""

    delivered: int | None
    any: int
    """Recipients with any open."""
    person: int
    """Recipients with an open by a person or a proxy."""
    hidden: int
    """Recipients with an open by a client that loads all images by machine (Apple's)."""
    hidden_person: int
    """Recipients who are counted in both `person` and `hidden`."""
    anonymous: int
    """Opens without a recipient. Each is at most one more opener."""


class Rate(TypedDict):
    """Shares of delivered, 0 to 1. `estimate`, `interval` and `method` are None together."""

    low: float
    high: float
    estimate: float | None
    interval: tuple[float, float] | None
    method: str | None


class Difference(TypedDict):
    """The rate of a less the rate of b, from -1 to 1. `interval` is of 95 %."""

    difference: float
    interval: tuple[float, float]
    p_value: float
    significant: bool
    method: str


def open_rate(openers: Openers) -> tuple[Rate | None, bool]:
    """Returns (the rate, whether more recipients opened than mails were delivered).

    The rate is None if the number of delivered mails is not known, is 0, or is less than the openers. Raises
    ValueError if the counts contradict each other.
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
        raise ValueError(f"counts that contradict each other: {openers}")
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
    low_rate = round(person / delivered, 6)
    if anonymous:
        return None
    if not hidden:
        return low_rate, (low_rate, low_rate), COUNT_METHOD
    if visible < MIN_VISIBLE:
        return None
    share = visible_openers / visible
    low, high = _score(share, visible * (delivered - 1) / hidden, 0.95)
    least = max(person, floor(low * delivered))
    most = min(visible_openers + hidden, ceil(high * delivered))
    if person > most:
        return None
    interval = round(least / delivered, 6), round(most / delivered, 6)
    return max(round(share, 6), low_rate), interval, ESTIMATE_METHOD


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the score interval of a proportion. Source: E. B. Wilson, JASA 22 (1927), 209-212.

    Raises ValueError if n is not above 0, or successes are not within 0..n.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n}")
    return _score(successes / n, n, confidence)


def _score(share: float, n: float, confidence: float) -> tuple[float, float]:
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (middle - half if share > 0 else 0.0), (middle + half if share < 1 else 1.0)


def compare_rates(a: tuple[int, int], b: tuple[int, int]) -> Difference | None:
    """Returns how two rates, each (successes, n), differ, and whether by more than chance.

    Returns None if an n is 0. A difference is significant if the p-value is below 0.05. Near 0.05, test and
    interval may disagree; both are shown. The interval is method 10 of R. G. Newcombe, Statistics in Medicine
    17 (1998), 873-890. The p-value is twice the smaller tail of Fisher's exact test, in which the observed
    table counts half. It suits small and large numbers (Lydersen, Fagerland, Laake, Statistics in Medicine 28
    (2009), 1159-1175). A z test would call 1 of 1 against 0 of 1000 impossible; its chance is 1 in 1001.

    The test covers chance alone. Rates of all delivered also differ if one campaign has more hidden
    recipients, so compare rates of visible recipients. The test assumes different recipients: if the same
    people got both mails, it misses real differences. Raises ValueError if successes are not within 0..n.
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
        "method": COMPARISON_METHOD,
    }


def _mid_p(a: tuple[int, int], b: tuple[int, int]) -> float:
    """Returns the two-sided mid-p by summing the upper tail. The rate of a must be at least the rate of b."""
    (k, n), (k_b, m) = a, b
    successes = k + k_b
    term = exp(_log_choose(n, k) + _log_choose(m, k_b) - _log_choose(n + m, successes))
    tail = term / 2
    while term > tail * 1e-17:
        term *= (n - k) * (successes - k) / ((k + 1) * (m - successes + k + 1))
        tail += term
        k += 1
    return 2 * min(tail, 1 - tail)


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
