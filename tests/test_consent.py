"""The mode of a hit is the strictest of link, campaign, server and request."""

from __future__ import annotations

from itertools import product

import pytest

from pixel_server.consent import Consent, Rule, allowed_mode, mode_named, requests_no_tracking
from pixel_server.settings import Settings
from pixel_server.tokens import MODES, Mode


@pytest.mark.parametrize("name", ["", "all", "Count", "pseudonymous "])
def test_mode_named_unknown_name_returns_off(name):
    assert mode_named(name) is Mode.OFF


@pytest.mark.parametrize(("of_campaign", "most"), [*product(MODES, MODES)])
def test_rule_campaign_above_max_mode_is_limited_to_it(of_campaign, most):
    rule = Consent(Settings(max_mode=most)).rule(of_campaign, None)
    assert rule == Rule(min(mode_named(of_campaign), mode_named(most)), "count")


@pytest.mark.parametrize(("linked", "of_campaign"), [*product(Mode, Mode)])
def test_allowed_mode_link_and_campaign_differ_returns_the_lower(linked, of_campaign):
    low = min(linked, of_campaign)
    assert allowed_mode(linked, Rule(of_campaign, "count"), False) == low
    assert allowed_mode(linked, Rule(of_campaign, "ignore"), True) == low
    assert allowed_mode(linked, Rule(of_campaign, "count"), True) == min(low, Mode.COUNT)
    assert allowed_mode(linked, Rule(of_campaign, "drop"), True) == Mode.OFF


@pytest.mark.parametrize(
    ("gpc", "dnt", "asked"),
    [
        ("1", "", True),
        ("", "1", True),
        (" 1 ", "0", True),
        ("0", "0", False),
        ("true", "", False),
        ("", "1,0", False),
    ],
)
def test_requests_no_tracking_only_a_1_counts(gpc, dnt, asked):
    assert requests_no_tracking(gpc, dnt) is asked
