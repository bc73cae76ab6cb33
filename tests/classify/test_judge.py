"""The roll-up's judge of hits."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

from pixel_server import tokens
from pixel_server.classify.judge import Judge
from pixel_server.classify.networks import Networks
from pixel_server.classify.rules import load_rules
from pixel_server.hit import EMAIL, Hit
from pixel_server.settings import Settings
from tests.stack import READER

NOW = 1_790_000_000
LIST = "# source: x\n# date: 2026-01-01\n198.51.100.0/24\n"


def judge(tmp_path: Path) -> Judge:
    settings = Settings(data=tmp_path, own_networks=(ip_network("203.0.113.0/24"),), soon_seconds=5)
    return Judge(load_rules(), Networks.load(settings.networks_directory), settings)


def hit(address: str = "198.51.100.9", flags: int = 0) -> Hit:
    return Hit(NOW * 1000, "spring", EMAIL, "GET", flags, address=ip_address(address).packed, agent=READER)


def test_judge_hit_of_a_mail_program_is_a_person(tmp_path: Path):
    assert judge(tmp_path)(hit(), None).rule == "mail-client"
    assert judge(tmp_path)(hit(), NOW - 60).rule == "mail-client"


def test_judge_hit_soon_after_sending_is_a_scanner(tmp_path: Path):
    assert judge(tmp_path)(hit(), NOW - 4).rule == "at-once"


def test_judge_test_link_or_own_network_is_the_senders_own(tmp_path: Path):
    assert judge(tmp_path)(hit(flags=tokens.TEST), None).rule == "own"
    assert judge(tmp_path)(hit("203.0.113.7"), None).rule == "own"


def test_refresh_list_changes_or_breaks_uses_the_last_good_list(tmp_path: Path):
    judged = judge(tmp_path)
    path = tmp_path / "networks" / "proofpoint.txt"
    path.parent.mkdir()
    for text, rule in ((LIST, "proofpoint"), ("nonsense", "proofpoint")):
        path.write_text(text)
        judged.refresh()
        assert judged(hit(), None).rule == rule
