"""`POST /api/explain`: what the roll-up would say, of what the door would keep."""

from __future__ import annotations

import pytest

from pixel_server import hit
from tests.stack import READER

HEAD = "# source: x\n# date: 2026-01-01\n"


@pytest.fixture
def rule(site):
    """The rule that judges such a hit, and the lists that hold its address."""

    def rule(agent=READER, ip="198.51.100.9", **more):
        answer = site.post("/api/explain", json={"user_agent": agent, "ip": ip, **more})
        assert answer.status_code == 200, answer.text
        return answer.json()["rule"], answer.json()["networks"]

    return rule


@pytest.fixture
def lists(settings):
    settings.networks.mkdir(parents=True)
    return settings.networks


def test_lists_that_are_refreshed_are_taken(rule, lists):
    assert rule() == ("mail-client", [])
    (lists / "proofpoint.txt").write_text(HEAD + "198.51.100.0/24\n")
    assert rule() == rule(ip="::ffff:198.51.100.9") == ("proofpoint", ["proofpoint"])
    (lists / "proofpoint.txt").write_text("nonsense\n")
    assert rule() == ("proofpoint", ["proofpoint"]), "as workers do"


def test_lists_that_cannot_be_used_at_all(site, lists):
    (lists / "proofpoint.txt").write_text("nonsense\n")
    answer = site.post("/api/explain", json={"user_agent": READER, "ip": "198.51.100.9"})
    assert answer.status_code == 503
    assert answer.json()["detail"].endswith("proofpoint.txt:1: 'nonsense' is no network")


def test_what_the_door_cuts_off_is_not_looked_at(rule):
    long = READER.ljust(hit.MAX_AGENT)
    assert rule(long + "GoogleImageProxy")[0] == "mail-client"
    assert rule(long[:-16] + "GoogleImageProxy")[0] == "gmail-proxy"
    assert rule("\u00e9" * 256 + "GoogleImageProxy")[0] == rule("\u00e9" * 256)[0], "bytes, not characters"
    headers = {"SEC-Purpose": "x" * hit.MAX_SIGNAL + "prefetch"}
    assert rule(headers=headers)[0] == "mail-client"
    assert rule(headers={"Sec-PURPOSE": "prefetch"})[0] == "purpose-prefetch"
