"""Explanations of verdicts: the same verdict as the roll-up's, from the parts of a hit that are recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pixel_server import hit
from pixel_server.classify.explain import explain
from pixel_server.settings import Settings
from tests.stack import READER

HEAD = "# source: x\n# date: 2026-01-01\n"

Rule = Callable[..., tuple[str, list[str]]]


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """Returns the empty directory for the operator's lists of networks."""
    lists = Settings(data=tmp_path).networks_directory
    lists.mkdir(parents=True)
    return lists


@pytest.fixture
def rule(tmp_path: Path) -> Rule:
    """Returns the rule that judges a hit, and the lists of networks that hold its address."""
    settings = Settings(data=tmp_path)

    def rule(
        agent: str = READER, ip: str = "198.51.100.9", headers: dict[str, str] | None = None
    ) -> tuple[str, list[str]]:
        answer = explain(settings, agent, ip, headers or {}, None)
        return answer["rule"], answer["networks"]

    return rule


def test_explain_list_is_refreshed_uses_the_new_list(rule: Rule, lists: Path):
    assert rule() == ("mail-client", [])
    (lists / "proofpoint.txt").write_text(HEAD + "198.51.100.0/24\n")
    assert rule() == rule(ip="::ffff:198.51.100.9") == ("proofpoint", ["proofpoint"])


def test_explain_refreshed_list_is_unusable_uses_the_list_from_before(rule: Rule, lists: Path):
    (lists / "proofpoint.txt").write_text(HEAD + "198.51.100.0/24\n")
    assert rule() == ("proofpoint", ["proofpoint"])
    (lists / "proofpoint.txt").write_text("nonsense\n")
    assert rule() == ("proofpoint", ["proofpoint"]), "as workers do"


def test_explain_long_agent_judges_only_the_bytes_that_are_recorded(rule: Rule):
    long = READER.ljust(hit.MAX_AGENT)
    assert rule(long + "GoogleImageProxy")[0] == "mail-client"
    assert rule(long[:-16] + "GoogleImageProxy")[0] == "gmail-proxy"
    assert rule("\u00e9" * 256 + "GoogleImageProxy")[0] == rule("\u00e9" * 256)[0], "bytes, not characters"


def test_explain_long_header_judges_only_the_bytes_that_are_recorded(rule: Rule):
    headers = {"SEC-Purpose": "x" * hit.MAX_SIGNAL + "prefetch"}
    assert rule(headers=headers)[0] == "mail-client"
    assert rule(headers={"Sec-PURPOSE": "prefetch"})[0] == "purpose-prefetch"
