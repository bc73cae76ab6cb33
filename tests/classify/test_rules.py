"""Verdicts, one for each line of verdicts.yaml, and the errors of unusable rules."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import yaml

from pixel_server.classify import rules as classify
from pixel_server.classify.rule_file import RulesError
from pixel_server.classify.rules import Evidence, Rules, load_rules
from pixel_server.classify.user_agents import client
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
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['rule']}: {case['agent'][:40]}")
def test_judge_fixture_gives_its_verdict_and_rule(case):
    found = SHIPPED.judge(evidence(case))
    assert (found.verdict, found.rule) == (case["verdict"], case["rule"])


def test_shipped_rules_each_has_a_fixture():
    assert {rule.id for rule in SHIPPED.rules if not rule.burst} <= {case["rule"] for case in CASES}


@pytest.mark.parametrize("seed", range(20))
def test_judge_rules_in_any_order_gives_the_same_verdicts(seed):
    """Rules of the same priority are shuffled too: they do not disagree."""
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
    """At most 2 % of a public list of crawlers count as people."""
    agents = json.loads((HERE / "crawlers.json").read_text())["agents"]
    assert len(agents) > 1000
    wrong = [agent for agent in agents if SHIPPED.judge(Evidence(agent)).verdict in ELIGIBLE]
    assert len(wrong) <= 0.02 * len(agents), wrong


def test_judge_known_mail_programs_are_people():
    """At most 2 % of the mail programs in ua-parser's tests count as anything else."""
    agents = json.loads((HERE / "mail_clients.json").read_text())["agents"]
    assert len(agents) > 30
    wrong = [one for one in agents if SHIPPED.judge(Evidence(one["agent"])).verdict != "person"]
    assert len(wrong) <= 0.02 * len(agents), wrong


def test_verdict_memory_is_full_starts_again_within_its_bound(monkeypatch):
    monkeypatch.setattr(classify, "MAX_REMEMBERED", 10)
    rules = load_rules()
    for n in range(100):
        assert rules.judge(Evidence(f"curl/{n}")).verdict == "scanner"
    assert len(rules._remembered) <= 10


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
    assert len(rules._remembered) == 3


def test_verdict_referrer_with_two_prefixes_matches_both_rules(tmp_path):
    text = GOOD.replace("agent_words", "referrer").replace('"OurScanner"', '"https://a/b/", "https://a/"')
    more = text.replace('"https://a/b/", "https://a/"', '"https://a/b/"').replace('"ours"', '"more"')
    rules = own(tmp_path, text + more.replace("650", "660"))
    assert rules.judge(Evidence("", (), "https://a/b/c")).rule == "more"
    assert rules.judge(Evidence("", (), "https://a/c")).rule == "ours"
    assert rules.judge(Evidence("", (), "-")).rule == "none"


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
    """A hit shortly before the time of sending counts too, because clocks differ."""
    assert classify.is_soon(delay, soon) is found


@pytest.mark.parametrize(
    ("agent", "what"),
    [("", ""), ("\udcff", ""), ("(" * 512, ""), ("A" * 512, ""), ("Mozilla/5.0 (" + "a;" * 240, "")],
)
def test_client_any_text_is_a_class(agent, what):
    assert client(agent) in ("", "bot", "browser")


# Rules of the operator


def own(tmp_path, text):
    path = tmp_path / "rules.toml"
    path.write_text(text)
    return load_rules(path)


GOOD = """
[[rule]]
id = "ours"
priority = 650
verdict = "scanner"
agent_words = ["OurScanner"]
source = "ours"
date = 2026-11-24
"""

BURST = GOOD.replace('agent_words = ["OurScanner"]', "burst = true")


def test_load_rules_own_burst_rule_replaces_the_shipped_priority(tmp_path):
    rules = own(tmp_path, BURST.replace('"ours"', '"burst"'))
    assert [(rule.id, rule.priority) for rule in rules.rules if rule.burst] == [("burst", 650)]


def test_load_rules_own_rule_is_added(tmp_path):
    rules = own(tmp_path, GOOD)
    found = rules.judge(Evidence("Mozilla/5.0 (OurScanner 1)"))
    assert (found.verdict, found.rule) == ("scanner", "ours")
    assert rules.ruleset == f"{SHIPPED.ruleset}+own"


def test_load_rules_own_rule_with_a_shipped_id_replaces_it(tmp_path):
    text = GOOD.replace('"ours"', '"mail-client"').replace('["OurScanner"]', '["Thunderbird"]')
    rules = own(tmp_path, text.replace('id = "mail-client"', 'id = "mail-client"'))
    assert rules.judge(Evidence("Mozilla/5.0 Gecko/20100101 Thunderbird/128.5.0")).verdict == "scanner"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense", "rules.toml: Expected '='"),
        (GOOD + GOOD, "line 10: id 'ours' is used twice"),
        (GOOD.replace("ours", "none", 1), "line 2: id 'none'"),
        (GOOD.replace("scanner", "robot"), "line 2: Invalid enum value 'robot'"),
        (GOOD.replace("priority = 650\n", ""), "line 2: Object missing required field `priority`"),
        (GOOD.replace("agent_words", "agents"), "line 2: Object contains unknown field `agents`"),
        (GOOD.replace('["OurScanner"]', '"OurScanner"'), "line 2: Expected `array"),
        ("[rule]\n", "Expected `array"),
        (GOOD.replace('["OurScanner"]', "[]"), "line 2: agent_words must be a list of texts, none of them"),
        (GOOD.replace('"OurScanner"', '""'), "line 2: agent_words must be a list of texts, none of them"),
        (GOOD.replace('agent_words = ["OurScanner"]', ""), "line 2: it has no condition"),
        (GOOD.replace('agent_words = ["OurScanner"]', "soon = false"), "line 2: it has no condition"),
        (
            GOOD + 'network = ["google", "gogle"]',
            "line 2: network: there is no list 'gogle'; there are: apple",
        ),
        (GOOD + "burst = true", "line 2: burst must be the only condition, without agent_words"),
        (BURST, "line 2: there is already a rule of bursts, 'burst'"),
        (GOOD.replace("650", "700"), "line 2: priority 700 is that of 'gmail-proxy', whose verdict is proxy"),
        (
            GOOD + GOOD.replace("ours", "more").replace("scanner", "person"),
            "line 10: priority 650 is that of",
        ),
    ],
)
def test_load_rules_unusable_file_raises_one_line(tmp_path, text, says):
    with pytest.raises(RulesError) as error:
        own(tmp_path, text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["rule = [{}]", "rule = [\n{},\n]", '[["rule"]]\n{}'])
def test_load_rules_rules_without_lines_of_their_own_raises(tmp_path, text):
    inline = 'id = "own", source = "x", date = "2026-01-01", verdict = "own", priority = 1000, own = true'
    content = inline.replace(", ", "\n") if "[[" in text else "{" + inline + "}"
    with pytest.raises(RulesError, match=r"rules\.toml: each rule must begin with a line \[\[rule\]\]"):
        own(tmp_path, text.replace("{}", content))


def test_load_rules_missing_file_raises(tmp_path):
    with pytest.raises(RulesError, match="No such file"):
        load_rules(tmp_path / "none.toml")
