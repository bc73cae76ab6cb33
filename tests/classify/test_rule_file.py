"""Files of rules: the operator's rules beside the shipped rules, and the errors of unusable files."""

from __future__ import annotations

import pytest

from pixel_server.classify.rule_file import RulesError
from pixel_server.classify.rules import Evidence, load_rules


def own(tmp_path, text):
    """Returns the shipped rules with those of an operator's file."""
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


def test_read_rules_own_burst_rule_replaces_the_shipped_priority(tmp_path):
    rules = own(tmp_path, BURST.replace('"ours"', '"burst"'))
    assert [(rule.id, rule.priority) for rule in rules.rules if rule.burst] == [("burst", 650)]


def test_read_rules_own_rule_is_added(tmp_path):
    rules = own(tmp_path, GOOD)
    found = rules.judge(Evidence("Mozilla/5.0 (OurScanner 1)"))
    assert (found.verdict, found.rule) == ("scanner", "ours")
    assert rules.ruleset == f"{load_rules().ruleset}+own"


def test_read_rules_own_rule_with_a_shipped_id_replaces_it(tmp_path):
    text = GOOD.replace('"ours"', '"mail-client"').replace('["OurScanner"]', '["Thunderbird"]')
    rules = own(tmp_path, text)
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
        (GOOD.replace('["OurScanner"]', "[]"), "line 2: agent_words must be a list of texts that are not"),
        (GOOD.replace('"OurScanner"', '""'), "line 2: agent_words must be a list of texts that are not"),
        (GOOD.replace('agent_words = ["OurScanner"]', ""), "line 2: it has no condition"),
        (GOOD.replace('agent_words = ["OurScanner"]', "soon = false"), "line 2: it has no condition"),
        (
            GOOD + 'network = ["google", "gogle"]',
            "line 2: network: there is no list 'gogle'; there are: apple",
        ),
        (GOOD + "burst = true", "line 2: burst must be the only condition, without agent_words"),
        (BURST, "line 2: there is already a rule about bursts, 'burst'"),
        (GOOD.replace("650", "700"), "line 2: priority 700 is that of 'gmail-proxy', whose verdict is proxy"),
        (
            GOOD + GOOD.replace("ours", "more").replace("scanner", "person"),
            "line 10: priority 650 is that of",
        ),
    ],
)
def test_read_rules_unusable_file_raises_one_line(tmp_path, text, says):
    with pytest.raises(RulesError) as error:
        own(tmp_path, text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["rule = [{}]", "rule = [\n{},\n]", '[["rule"]]\n{}'])
def test_read_rules_rules_without_lines_of_their_own_raises(tmp_path, text):
    inline = 'id = "own", source = "x", date = "2026-01-01", verdict = "own", priority = 1000, own = true'
    content = inline.replace(", ", "\n") if "[[" in text else "{" + inline + "}"
    with pytest.raises(RulesError, match=r"rules\.toml: each rule must begin with a line \[\[rule\]\]"):
        own(tmp_path, text.replace("{}", content))


def test_read_rules_missing_file_raises(tmp_path):
    with pytest.raises(RulesError, match="No such file"):
        load_rules(tmp_path / "none.toml")


def test_read_rules_referrer_with_two_prefixes_matches_both_rules(tmp_path):
    text = GOOD.replace("agent_words", "referrer").replace('"OurScanner"', '"https://a/b/", "https://a/"')
    more = text.replace('"https://a/b/", "https://a/"', '"https://a/b/"').replace('"ours"', '"more"')
    rules = own(tmp_path, text + more.replace("650", "660"))
    assert rules.judge(Evidence("", (), "https://a/b/c")).rule == "more"
    assert rules.judge(Evidence("", (), "https://a/c")).rule == "ours"
    assert rules.judge(Evidence("", (), "-")).rule == "none"
