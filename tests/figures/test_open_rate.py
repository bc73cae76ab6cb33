"""Open rates, compared with values by hand, published values and simulated populations."""

from __future__ import annotations

import random
from itertools import accumulate, product
from math import comb, exp, lgamma, log, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_server.figures import open_rate as rates
from pixel_server.figures.open_rate import (
    COUNT_METHOD,
    ESTIMATE_METHOD,
    MIN_VISIBLE,
    Openers,
    compare_rates,
    open_rate,
    wilson,
)


def openers(delivered, *, read, hidden=0, hidden_read=0, others=0, anonymous=0):
    """Returns Openers. read: visible openers. others: opens by scanners or unknown clients alone."""
    return Openers(delivered, read + hidden + others, read + hidden_read, hidden, hidden_read, anonymous)


def test_open_rate_worked_example_holds():
    rate, over = open_rate(openers(100, read=10, hidden=60, hidden_read=3, others=2))
    assert (rate, over) == (
        {"low": 0.13, "high": 0.72, "estimate": 0.25, "interval": (0.16, 0.37), "method": ESTIMATE_METHOD},
        False,
    )
    for shown in (
        "13/100",
        "0.72",
        "0.25.",
        "0.16..0.37.",
        "0.1613..0.3662",
        "40 * 99/60 = 66",
        f"than {MIN_VISIBLE} are",
    ):
        assert shown in rates.__doc__


@pytest.mark.parametrize(
    ("counts", "answer"),
    [
        (Openers(None, 5, 5, 0, 0, 0), (None, False)),
        (Openers(0, 5, 5, 0, 0, 0), (None, True)),
        (Openers(0, 0, 0, 0, 0, 0), (None, False)),
        (Openers(4, 5, 5, 0, 0, 0), (None, True)),
        (Openers(-1, 0, 0, 0, 0, 0), (None, True)),  # more mails bounced than were sent
    ],
)
def test_open_rate_without_denominator_is_none(counts, answer):
    assert open_rate(counts) == answer


@pytest.mark.parametrize(
    ("counts", "rate"),
    [
        (openers(4, read=1), (0.25, 0.25, 0.25, (0.25, 0.25), COUNT_METHOD)),
        (openers(4, read=0), (0, 0, 0, (0, 0), COUNT_METHOD)),
        (openers(3, read=3), (1, 1, 1, (1, 1), COUNT_METHOD)),
        (openers(3, read=1, others=1), (0.333333, 0.666667, 0.333333, (0.333333, 0.333333), COUNT_METHOD)),
        (openers(4, read=1, anonymous=1), (0.25, 0.5, None, None, None)),
        (openers(4, read=1, anonymous=9), (0.25, 1, None, None, None)),
        (openers(200, read=50, hidden=100, anonymous=1), (0.25, 0.755, None, None, None)),
        (openers(100, read=0, hidden=100), (0, 1, None, None, None)),
        (openers(100, read=29, hidden=71), (0.29, 1, None, None, None)),
        (openers(101, read=30, hidden=71), (0.29703, 1, 1, (0.910891, 1), ESTIMATE_METHOD)),
        (openers(101, read=0, hidden=71), (0, 0.70297, 0, (0, 0.089109), ESTIMATE_METHOD)),
        (openers(31, read=3, hidden=1), (0.096774, 0.129032, 0.1, (0.096774, 0.129032), ESTIMATE_METHOD)),
    ],
)
def test_open_rate_given_counts_gives_low_high_estimate(counts, rate):
    names = ("low", "high", "estimate", "interval", "method")
    assert open_rate(counts) == (dict(zip(names, rate, strict=True)), False)


@pytest.mark.parametrize(
    ("known", "estimate", "begins", "ends"),
    [
        (0, 0.25, 0.16, 0.37),
        (7, 0.25, 0.17, 0.37),
        (20, 0.3, 0.3, 0.37),
        (27, 0.37, 0.37, 0.37),
    ],
)
def test_open_rate_known_hidden_readers_bound_the_estimate(known, estimate, begins, ends):
    rate, _ = open_rate(openers(100, read=10, hidden=60, hidden_read=known))
    assert (rate["estimate"], rate["interval"]) == (estimate, (begins, ends))


def test_open_rate_known_readers_beyond_interval_no_estimate():
    rate, _ = open_rate(openers(100, read=10, hidden=60, hidden_read=28))
    assert (rate["low"], rate["estimate"], rate["interval"], rate["method"]) == (0.38, None, None, None)


@pytest.mark.parametrize(
    "counts",
    [
        Openers(10, 5, 6, 0, 0, 0),
        Openers(10, 5, 3, 3, 0, 0),
        Openers(10, 5, 1, 3, 2, 0),
        Openers(10, 5, 3, 1, 2, 0),
        Openers(10, 5, 3, 1, 1, -1),
    ],
)
def test_open_rate_contradicting_counts_raise(counts):
    with pytest.raises(ValueError, match="contradict each other"):
        open_rate(counts)


@st.composite
def campaigns(draw):
    delivered = draw(st.integers(1, 10**6))
    hidden = draw(st.integers(0, delivered))
    read = draw(st.integers(0, delivered - hidden))
    others = draw(st.integers(0, delivered - hidden - read))
    hidden_read = draw(st.integers(0, hidden))
    return openers(delivered, read=read, hidden=hidden, hidden_read=hidden_read, others=others)


@given(campaigns())
def test_open_rate_low_estimate_high_are_in_order(counts):
    rate, over = open_rate(counts)
    assert not over
    assert 0 <= rate["low"] <= rate["high"] <= 1
    if rate["estimate"] is not None:
        begins, ends = rate["interval"]
        assert rate["low"] <= begins <= rate["estimate"] <= ends <= rate["high"]


@given(campaigns())
def test_open_rate_one_more_reader_raises_all(counts):
    one_more = counts._replace(any=counts.any + 1, person=counts.person + 1)
    (before, _), (after, _) = open_rate(counts), open_rate(one_more)
    if after is not None and before["estimate"] is not None and after["estimate"] is not None:
        for name in ("low", "high", "estimate"):
            assert before[name] <= after[name]
        assert before["interval"][0] <= after["interval"][0]
        assert before["interval"][1] <= after["interval"][1]


@pytest.mark.parametrize("read", [0, 30, 150, 300])
def test_open_rate_more_hidden_widens_the_interval(read):
    """Keeps 300 visible and their readers, and adds hidden recipients."""
    wide = [
        ends - begins
        for hidden in (0, 10, 100, 1000, 10**6)
        for begins, ends in [open_rate(openers(300 + hidden, read=read, hidden=hidden))[0]["interval"]]
    ]
    assert wide == sorted(wide)
    assert wide[0] == 0
    begins, ends = wilson(read, 300)
    assert wide[-1] == pytest.approx(ends - begins, abs=1e-4)


def draws(rng, n, p, times):
    """Returns binomial counts."""
    middle, reach = n * p, 9 * sqrt(n * p * (1 - p)) + 9
    values = range(max(0, int(middle - reach)), min(n, int(middle + reach)) + 1)
    whole = lgamma(n + 1)
    weights = [
        exp(whole - lgamma(k + 1) - lgamma(n - k + 1) + k * log(p) + (n - k) * log(1 - p)) for k in values
    ]
    return rng.choices(values, cum_weights=list(accumulate(weights)), k=times)


def coverage(rng, delivered, hidden, p, hidden_p, times):
    """Returns the share of intervals that contain the true share of readers, or None without intervals.

    Up to a tenth of the hidden readers are known, by an open in another client.
    """
    held = []
    visible_readers = draws(rng, delivered - hidden, p, times)
    for read, hidden_readers in zip(visible_readers, draws(rng, hidden, hidden_p, times), strict=True):
        known = rng.randint(0, hidden_readers // 10)
        rate, _ = open_rate(openers(delivered, read=read, hidden=hidden, hidden_read=known))
        if rate["interval"] is not None:
            begins, ends = rate["interval"]
            held.append(begins <= round((read + hidden_readers) / delivered, 6) <= ends)
    return sum(held) / len(held) if held else None


DELIVERED = (200, 1000, 10_000, 100_000)
SHARE_HIDDEN = (0.1, 0.3, 0.5, 0.7, 0.9)


def test_open_rate_interval_covers_95_percent():
    """Simulates populations whose hidden readers are known too, under the assumption of the module: each
    recipient reads with the same chance p, hidden or not. The next test breaks the assumption.
    """
    rng = random.Random(1)
    found = {
        (delivered, share, p): coverage(rng, delivered, round(delivered * share), p, p, 1000)
        for delivered, share, p in product(DELIVERED, SHARE_HIDDEN, (0.02, 0.05, 0.1, 0.2, 0.4, 0.6))
    }
    assert {(delivered, share) for (delivered, share, _), held in found.items() if held is None} == {
        (200, 0.9)
    }
    seen = {cell: held for cell, held in found.items() if held is not None}
    assert min(seen.values()) > 0.925, min(seen, key=seen.get)  # 95 % less 3.6 standard errors of 1000 draws
    assert 0.95 < sum(seen.values()) / len(seen) < 0.97


@pytest.mark.parametrize(
    ("delivered", "share", "most"), [(1000, 0.5, 0.01), (10_000, 0.1, 0.05), (100_000, 0.9, 0)]
)
def test_open_rate_hidden_read_more_breaks_coverage(delivered, share, most):
    held = coverage(random.Random(2), delivered, round(delivered * share), 0.2, 0.4, 1000)
    assert held <= most


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # z * z = 3.841459: z * z/(n + z * z), and its mirror
        (0, 1, 0, 0.7935),
        (1, 1, 0.2065, 1),
        (20, 20, 0.8389, 1),
    ],
)
def test_wilson_published_values_agree(successes, n, low, high):
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10**7), st.data())
def test_wilson_interval_contains_share_and_mirrors(n, data):
    successes = data.draw(st.integers(0, n))
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert wilson(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)
    wide_low, wide_high = wilson(successes, n, 0.99)
    assert wide_low <= low
    assert high <= wide_high


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (1, 0), (-1, 5), (6, 5), (0, -1)])
def test_wilson_bad_counts_raise(successes, n):
    with pytest.raises(ValueError, match=f"{successes} of {n}"):
        wilson(successes, n)


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), 873-890, table II, method 10
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1),
        ((10, 10), (0, 10), 0.6075, 1),
    ],
)
def test_compare_rates_published_values_agree(a, b, low, high):
    found = compare_rates(a, b)
    assert found["difference"] == round(a[0] / a[1] - b[0] / b[1], 6)
    assert found["interval"] == pytest.approx((low, high), abs=5.1e-5)


@pytest.mark.parametrize(
    ("a", "b", "p_value", "significant"),
    [
        ((3, 4), (1, 4), 18 / 70, False),  # the lady and the tea: (1 + 16/2)/70, twice
        ((4, 4), (0, 4), 1 / 70, True),
        ((1, 1), (0, 1000), 1 / 1001, True),
        ((0, 10), (0, 20), 1, False),
        ((10, 10), (10, 10), 1, False),
        ((5, 10), (50, 100), 1, False),
        ((10_000, 10_000), (0, 10_000), 0, True),
    ],
)
def test_compare_rates_p_value_by_hand_agrees(a, b, p_value, significant):
    found = compare_rates(a, b)
    assert found["p_value"] == pytest.approx(p_value, abs=0.1 if p_value == 1 else 1e-6)
    assert found["significant"] is significant


def test_compare_rates_millions_are_compared():
    """A z test agrees for numbers this large: z = 2.1213, p = 0.0339."""
    assert compare_rates((500_000, 10**6), (501_500, 10**6))["p_value"] == pytest.approx(0.033895, abs=2e-6)


@pytest.mark.parametrize(("a", "b"), [((0, 0), (1, 2)), ((1, 2), (0, 0)), ((0, 0), (0, 0))])
def test_compare_rates_no_recipients_is_none(a, b):
    assert compare_rates(a, b) is None


def test_compare_rates_bad_counts_raise():
    with pytest.raises(ValueError, match="3 of 2"):
        compare_rates((1, 2), (3, 2))


@st.composite
def shares(draw):
    n = draw(st.integers(1, 10**6))
    return draw(st.integers(0, n)), n


@given(shares(), shares())
def test_compare_rates_swapped_is_mirrored(a, b):
    found, turned = compare_rates(a, b), compare_rates(b, a)
    (low, high), (turned_low, turned_high) = found["interval"], turned["interval"]
    assert -1 <= low <= found["difference"] <= high <= 1
    assert (-turned_high, -turned_low, -turned["difference"]) == (low, high, found["difference"])
    assert 0 <= found["p_value"] <= 1
    assert turned["p_value"] == pytest.approx(found["p_value"], rel=1e-5)


@pytest.mark.parametrize(("n", "m"), [(10, 10), (30, 30), (10, 60)])
def test_compare_rates_chance_alone_is_significant_5_percent(n, m):
    """Sums the probability of every outcome of two campaigns of one rate. Mid-p may exceed 5 % slightly."""
    calls = [
        (k, j) for k in range(n + 1) for j in range(m + 1) if compare_rates((k, n), (j, m))["significant"]
    ]
    for p in (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5):
        chance = sum(comb(n, k) * comb(m, j) * p ** (k + j) * (1 - p) ** (n + m - k - j) for k, j in calls)
        assert chance < 0.055
