"""Parts of pages: lists with their bars, and the key of open rates."""

from __future__ import annotations

import re

import pytest

from pixel_server.counters.labels import OTHER
from pixel_server.dashboard import render, svg

PARTS = render._environment.get_template("_parts.html").module


def words(html):
    return " ".join(re.sub("<[^>]*>", " ", str(html)).split())


def ranked(*counts):
    """Returns the list of these (name, visits), of which two names are shown."""
    rows = [{"name": name, "visits": visits} for name, visits in counts]
    shown, rest = (function(rows, "visits", 2) for function in (svg.ranked, svg.rest))
    return PARTS.ranked("utm_source", "UTM source", shown, "visits", "", rest)


def test_list_rows_without_a_name_are_grey_and_come_last():
    html = ranked(("a", 9), ("b", 8), ("c", 2), ("d", 1), ("(none)", 7), (OTHER, 20))
    names = re.findall(r"<bdi>(.*?)</bdi>|>(\d+ more)<", html)
    assert [name or more for name, more in names] == ["a", "b", "2 more", "None", "Other"]
    assert re.findall(r'class="under([^"]*)"', html) == ["", "", " nameless", " nameless"]


def test_list_bar_that_is_cut_says_so():
    assert words(ranked(("a", 58), ("b", 8), ("(none)", 517))).count("bar cut") == 1
    assert "bar cut" not in ranked(("a", 58), ("b", 8), ("(none)", 57))


@pytest.mark.parametrize(
    ("unnamed", "is_exact", "says"),
    [
        (1, True, "1 visit is withheld. It belongs to these names or others."),
        (1200, True, "1,200 visits are withheld. They belong to these names or others."),
        (8, False, "Up to 8 visits are withheld. They belong to these names or others."),
    ],
)
def test_list_with_withheld_visits_says_how_many(unnamed, is_exact, says):
    for rows in (svg.ranked([{"name": "a", "visits": 3}], "visits", 2, unnamed), []):
        html = words(PARTS.ranked("page", "Pages", rows, "visits", unnamed=unnamed, is_exact=is_exact))
        assert html.endswith(says)
        assert "Visits, at least" in html
        assert ("No name is shown." in html) == (not rows)
    assert "withheld" not in ranked(("a", 3))


@pytest.mark.parametrize(
    ("ends", "says"),
    [
        ([], ""),
        ([(0.2, 0.2, 0.2)], "opened by people"),
        ([(0.2, 0.4, None), (0.2, 0.2, 0.2)], "opened by people with machines"),
        ([(0.2, 0.4, None), (0.2, 0.4, 0.3)], "opened by people with machines estimated"),
    ],
)
def test_key_of_open_rates_names_only_colours_that_are_shown(ends, says):
    rates = [{"low": low, "high": high, "estimate": estimate} for low, high, estimate in ends]
    bars = [None, *map(svg.open_rate_bar, rates)]
    assert words(PARTS.rate_key_of_all(bars)) == says
