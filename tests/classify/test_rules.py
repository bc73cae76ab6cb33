"""Verdicts, one for each line of verdicts.yaml."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import yaml

from pixel_server.classify import rules as classify
from pixel_server.classify.rules import Evidence, Rules, load_rules
from pixel_server.classify.user_agents import client_class
from pixel_server.verdicts import ELIGIBLE

HERE = Path(__file__).parent
CASES = yaml.safe_load((HERE / "verdicts.yaml").read_text())
SHIPPED = load_rules()
GMAIL_PREFETCH = next(rule.agent for rule in SHIPPED.rules if rule.id == "gmail-prefetch-referrer")


def evidence(case):
    return Evidence(
        case["agent"],
        tuple(case.get("in", ())),
        case.get("referrer", ""),
        case.get("purpose", ""),
        case.get("soon", False),
        case.get("own", False),
        case.get("at_delivery", True),
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['rule']}: {case['agent'][:40]}")
def test_judge_fixture_gives_its_verdict_and_rule(case):
    found = SHIPPED.judge(evidence(case))
    assert (found.verdict, found.rule) == (case["verdict"], case["rule"])


def test_shipped_rules_each_has_a_fixture():
    assert {rule.id for rule in SHIPPED.rules if not rule.burst} <= {case["rule"] for case in CASES}


@pytest.mark.parametrize("seed", range(20))
def test_judge_rules_in_any_order_gives_the_same_verdicts(seed):
    """Shuffles rules of the same priority too, because such rules have the same verdict."""
    rules = list(SHIPPED.rules)
    random.Random(seed).shuffle(rules)
    shuffled = Rules(rules, "")
    shuffled._tests = [
        (classify._test(rule), rule)
        for rule in sorted(rules, key=lambda rule: -rule.priority)
        if not rule.burst
    ]
    for case in CASES:
        assert shuffled.judge(evidence(case)).verdict == case["verdict"], case


def test_judge_known_crawlers_are_not_people():
    """Allows 2 % of a public list of crawlers to count as people."""
    agents = json.loads((HERE / "crawlers.json").read_text())["agents"]
    assert len(agents) > 1000
    wrong = [agent for agent in agents if SHIPPED.judge(Evidence(agent)).verdict in ELIGIBLE]
    assert len(wrong) <= 0.02 * len(agents), wrong


def test_judge_known_mail_programs_are_people():
    """Allows 2 % of the mail programs in ua-parser's tests to count as anything else."""
    agents = json.loads((HERE / "mail_clients.json").read_text())["agents"]
    assert len(agents) > 30
    wrong = [one for one in agents if SHIPPED.judge(Evidence(one["agent"])).verdict != "person"]
    assert len(wrong) <= 0.02 * len(agents), wrong


def test_verdict_memory_is_full_starts_again_within_its_bound(monkeypatch):
    monkeypatch.setattr(classify, "MAX_CACHED", 10)
    rules = load_rules()
    for n in range(100):
        assert rules.judge(Evidence(f"curl/{n}")).verdict == "scanner"
    assert len(rules._cache) <= 10


def test_verdict_texts_that_no_rule_mentions_are_not_remembered():
    rules = load_rules()
    for n in range(100):
        found = rules.judge(
            Evidence(GMAIL_PREFETCH, (), f"http://mail.google.com/{n}", f"purpose=prefetcH;{n}")
        )
        assert found.rule == "purpose-prefetch"
        assert rules.judge(Evidence(GMAIL_PREFETCH, (), f"http://mail.google.com/{n}", f"{n}")).rule == (
            "gmail-prefetch-referrer"
        )
        assert rules.judge(Evidence(GMAIL_PREFETCH, (), f"https://{n}", f"purpose={n}")).rule == (
            "gmail-prefetch-probable"
        )
    assert len(rules._cache) == 3


@pytest.mark.parametrize(
    ("delay", "soon", "found"),
    [
        (None, 5, False),
        (0, 5, True),
        (4.9, 5, True),
        (5, 5, False),
        (-60, 5, True),
        (-61, 5, False),
        (0, 0, False),
        (-1, 0, False),
    ],
)
def test_is_soon_delay_within_the_limit_and_the_clock_error(delay, soon, found):
    """Counts a hit shortly before the time of sending too, because clocks differ."""
    assert classify.is_soon(delay, soon) is found


@pytest.mark.parametrize(
    ("agent", "what"),
    [("", ""), ("\udcff", ""), ("(" * 512, ""), ("A" * 512, ""), ("Mozilla/5.0 (" + "a;" * 240, "")],
)
def test_client_any_text_is_a_class(agent, what):
    assert client_class(agent) in ("", "bot", "browser")


@pytest.mark.parametrize(
    ("delay", "seconds", "found"),
    [
        (None, 600, True),
        (None, 0, True),
        (-3600, 600, True),
        (599.9, 600, True),
        (600, 600, False),
        (0, 0, False),
    ],
)
def test_is_at_delivery_delay_within_the_window_or_unknown(delay, seconds, found):
    assert classify.is_at_delivery(delay, seconds) is found
