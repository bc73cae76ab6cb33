"""The judge, which gives each hit its verdict in the roll-up."""

from __future__ import annotations

from datetime import date
from ipaddress import ip_address, ip_network
from pathlib import Path

import msgspec
from redis import Redis

from pixel_server import tokens
from pixel_server.classify.explain import explain
from pixel_server.classify.judge import Judge
from pixel_server.classify.network_refresh import NewList
from pixel_server.classify.network_store import fields_of
from pixel_server.classify.networks import load_networks
from pixel_server.classify.rules import load_rules
from pixel_server.hit import EMAIL, Hit
from pixel_server.settings import Settings
from pixel_server.store import keys
from tests.stack import READER

NOW = 1_790_000_000
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
LIST = "# source: x\n# date: 2026-01-01\n198.51.100.0/24\n"


def judge(tmp_path: Path) -> Judge:
    settings = Settings(data=tmp_path, own_networks=(ip_network("203.0.113.0/24"),), soon_seconds=5)
    return Judge(load_rules(), load_networks(settings), settings)


def hit(address: str = "198.51.100.9", flags: int = 0) -> Hit:
    return Hit(NOW * 1000, "spring", EMAIL, "GET", flags, address=ip_address(address).packed, agent=READER)


def test_judge_hit_of_a_mail_program_is_a_person(tmp_path: Path):
    assert judge(tmp_path)(hit(), None).rule == "mail-client"
    assert judge(tmp_path)(hit(), NOW - 60).rule == "mail-client"


def test_judge_hit_soon_after_sending_is_a_scanner(tmp_path: Path):
    assert judge(tmp_path)(hit(), NOW - 4).rule == "at-once"


def test_judge_browser_behind_an_isolating_network_is_a_person_after_delivery(tmp_path: Path):
    path = tmp_path / "networks" / "mimecast.txt"
    path.parent.mkdir()
    path.write_text(LIST)
    judged = judge(tmp_path)
    browser = msgspec.structs.replace(hit(), agent=BROWSER)
    for sent_at, rule in (
        *((None, "mimecast"), (NOW + 3600, "mimecast"), (NOW - 599, "mimecast")),
        *((NOW - 600, "isolated"), (NOW - 86_400, "isolated")),
    ):
        assert judged(browser, sent_at).rule == rule
    assert judged(hit(), NOW - 600).rule == "gateway-later", "a mail program"
    assert judged(msgspec.structs.replace(hit(), agent=""), NOW - 600).rule == "gateway-later"


def test_judge_test_link_or_own_network_is_the_senders_own(tmp_path: Path):
    assert judge(tmp_path)(hit(flags=tokens.TEST), None).rule == "own"
    assert judge(tmp_path)(hit("203.0.113.7"), None).rule == "own"


def test_refresh_list_changes_or_breaks_uses_the_last_good_list(tmp_path: Path, client: Redis):
    judged = judge(tmp_path)
    path = tmp_path / "networks" / "proofpoint.txt"
    path.parent.mkdir()
    for text, rule in ((LIST, "proofpoint"), ("nonsense", "proofpoint")):
        path.write_text(text)
        judged.refresh(client)
        assert judged(hit(), None).rule == rule


def test_refresh_list_in_the_store_is_used_and_changes_the_ruleset(tmp_path: Path, client: Redis):
    judged = judge(tmp_path)
    shipped = judged.ruleset
    assert judged(hit(), None).rule == "mail-client"
    new = NewList("openai", 1, 1, date(2026, 1, 1), LIST.encode())
    client.hset(keys.NETWORKS, mapping=fields_of(new, NOW))
    judged.refresh(client)
    assert judged(hit(), None).rule == "openai"
    rules, _, lists = judged.ruleset.partition("/")
    assert (rules, rules + "/" + lists != shipped) == (load_rules().ruleset, True)
    assert explain(Settings(data=tmp_path), READER, "198.51.100.9", {}, None)["ruleset"] == judged.ruleset
