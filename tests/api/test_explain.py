"""`POST /api/explain`. The tests of `classify.explain` cover its answers."""

from __future__ import annotations

from starlette.testclient import TestClient

from pixel_server.settings import Settings
from tests.stack import READER

HIT = {"user_agent": READER, "ip": "198.51.100.9"}


def test_explain_hit_of_a_mail_program_names_its_rule(site: TestClient):
    answer = site.post("/api/explain", json=HIT)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["rule"], answer.json()["networks"]) == ("mail-client", [])


def test_explain_unusable_list_of_networks_answers_503(site: TestClient, settings: Settings):
    settings.networks_directory.mkdir(parents=True)
    (settings.networks_directory / "proofpoint.txt").write_text("nonsense\n")
    answer = site.post("/api/explain", json=HIT)
    assert answer.status_code == 503
    assert answer.json()["detail"].endswith("proofpoint.txt:1: 'nonsense' is not a network")
