"""The geometry of the small charts."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from pixel_server.counters.labels import OTHER
from pixel_server.dashboard import formatting, svg
from pixel_server.verdicts import CLASSES


def test_stack_parts_fill_the_whole_bar():
    counts = {name: n for n, name in enumerate(CLASSES)}
    parts = svg.stack(counts)
    assert [part.name for part in parts] == list(CLASSES)
    assert parts[0].start == 0
    for part, following in pairwise(parts):
        assert part.start + part.width == pytest.approx(following.start, abs=0.011)
    assert parts[-1].start + parts[-1].width == pytest.approx(100, abs=0.011)
    assert sum(part.share for part in parts) == pytest.approx(1)


@pytest.mark.parametrize("count", [0, None])
def test_stack_without_counts_is_empty(count):
    assert svg.stack(dict.fromkeys(CLASSES, count)) == []


def test_spark_draws_each_day_above_zero():
    path = svg.spark([0, None, 1, 1000, 500])
    assert re.findall(r"M(\d+) 20v-(\d+)", path) == [("10", "1"), ("15", "20"), ("20", "10")]
    assert svg.spark([]) == svg.spark([0, None]) == ""


@pytest.mark.parametrize(
    ("low", "high", "estimate", "drawn"),
    [
        (0.13, 0.72, 0.25, {"low": 13, "width": 59, "estimate": 25}),
        (0, 0, 0, {"low": 0, "width": 0, "estimate": 0}),
        (0.999, 1, None, {"low": 99, "width": 1, "estimate": -1}),
        (1, 1, None, {"low": 100, "width": 0, "estimate": -1}),
    ],
)
def test_open_rate_bar_is_empty_or_at_least_one_percent_wide(low, high, estimate, drawn):
    rate = {"low": low, "high": high, "estimate": estimate}
    assert svg.open_rate_bar(rate) == pytest.approx(drawn)


def test_open_rate_bar_without_rate_is_none():
    assert svg.open_rate_bar(None) is None


def test_bars_stay_in_the_view_box():
    path, most = svg.bars([3, None, 0, 6], 800, 160)
    assert most == 6
    assert path.startswith("M0.0 160v-80.0")
    assert all(float(height) <= 160 for height in re.findall(r"v-([\d.]+)", path))
    assert svg.bars([], 800, 160) == ("", 0)


def test_rest_is_what_ranked_rows_leave_out():
    rows = [{"name": f"n{i}", "opens": 12 - i} for i in range(12)] + [{"name": OTHER, "opens": 22}]
    assert svg.rest(rows, "opens") == {"number": 2, "opens": 3, "share": 0.03, "share_high": 0.03}
    shown = svg.ranked(rows, "opens")
    assert sum(row["opens"] for row in shown) + 3 == 100
    assert svg.rest(rows, "opens", 12) is None


def test_ranked_row_of_none_is_last_and_shortens_no_other():
    rows = [
        {"name": "(none)", "visits": 585},
        {"name": "news", "visits": 40},
        {"name": "spring", "visits": 20},
    ]
    assert bars_of(rows) == [("news", 100, False), ("spring", 50, False), ("(none)", 100, True)]
    rows[0]["visits"] = 30
    rows.append({"name": OTHER, "visits": 10})
    assert bars_of(rows)[2:] == [("(none)", 75, False), (OTHER, 25, False)]
    assert [row["is_nameless"] for row in svg.ranked(rows, "visits")] == [False, False, True, True]
    assert bars_of(rows[:1]) == [("(none)", 0, False)]


def bars_of(rows):
    """Returns (name, width, whether it is cut) of each bar."""
    return [(row["name"], row["width"], row["is_cut"]) for row in svg.ranked(rows, "visits")]


def test_ranked_row_of_none_is_shown_however_small():
    rows = [{"name": name, "opens": 5} for name in "abcd"] + [{"name": "(none)", "opens": 1}]
    assert [row["name"] for row in svg.ranked(rows, "opens", 2)] == ["a", "b", "(none)"]
    share = pytest.approx(10 / 21)
    assert svg.rest(rows, "opens", 2) == {"number": 2, "opens": 10, "share": share, "share_high": share}


def test_ranked_a_single_row_left_over_is_shown():
    rows = [{"name": name, "opens": 1} for name in "abc"]
    assert len(svg.ranked(rows, "opens", 2)) == 3
    assert svg.rest(rows, "opens", 2) is None


def test_ranked_rows_with_unnamed_counts_have_limits():
    rows = [{"name": name, "visits": n} for name, n in (("a", 60), ("b", 20), ("c", 5), ("d", 5), ("e", 0))]
    found = svg.ranked(rows, "visits", 2, 10)
    assert [(row["share"], row["share_high"], row["width"], row["width_high"]) for row in found] == [
        (0.6, 0.7, 85.71, 100),
        (0.2, 0.3, 28.57, 42.86),
    ]
    assert svg.rest(rows, "visits", 2, 10) == {"number": 3, "visits": 10, "share": 0.1, "share_high": 0.2}


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (106 / 649, 214 / 649, "16\u201333%"),
        (0.16, 0.33, "16\u201333%"),
        (0.29, 0.2901, "29\u201330%"),
        (0.0001, 0.004, "0\u20131%"),
        (0.0, 1.0, "0\u2013100%"),
        (0.1304, 0.1304, "13.0%"),
        (None, None, "\u2013"),
    ],
)
def test_share_range_is_never_too_narrow(low, high, text):
    assert formatting.share_range(low, high) == text


def test_ranked_rows_have_their_share_of_the_sum():
    rows = [{"name": name, "opens": n} for name, n in (("a", 12), ("b", 6), ("c", 1), ("d", 1))]
    found = svg.ranked(rows, "opens", 2)
    assert [(row["name"], row["share"], row["width"]) for row in found] == [
        ("a", 0.6, 100.0),
        ("b", 0.3, 50.0),
    ]
    rows.append({"name": OTHER, "opens": 20})
    found = svg.ranked(rows, "opens", 2)
    assert [(row["name"], row["share"], row["width"]) for row in found] == [
        ("a", 0.3, 60.0),
        ("b", 0.15, 30.0),
        (OTHER, 0.5, 100.0),
    ], "how much is not named is always seen"
    assert svg.ranked([{"name": "a", "opens": 0}], "opens", 2)[0]["share"] is None
