"""Consents: who is told apart in a campaign of the preset `consented`, and where the references are shown."""

from __future__ import annotations

import csv
import io
import json

import pytest

from pixel_server.mail.links import Minter
from pixel_server.recipients import consents
from pixel_server.store import keys
from pixel_server.tokens import Mode, decode_unverified
from tests.conftest import ANY_YEAR
from workers.rollup_pass import Outcome, Rollup

REF, LATER_REF = "2026-05@2025-06-01T09:30:00Z", "2026-06@2025-06-20T00:00:00Z"


@pytest.fixture
def opens(site, secrets, clock):
    """Returns a function that opens the mail of a recipient, by a link that tells the recipient apart."""
    minter = Minter("http://pixel.test", secrets)
    clock.at("2025-06-10T09:00Z")

    def opens(who, campaign="mail"):
        url = minter.url(campaign, who, mode=Mode.IDENTIFIED, now=clock.now)
        assert site.get(url).headers["x-pixel"] == "recorded"

    return opens


def upload(site, lines, campaign="mail"):
    return site.put(
        f"/api/campaigns/{campaign}/recipients", content=lines, headers={"Content-Type": "text/csv"}
    )


def people(client):
    """Returns the recipient keys that have a record of opens."""
    return {field for key in client.keys("px:{?}:people:*") for field in client.hkeys(key)}


def stored_consents(client):
    found = {}
    for key in client.keys("px:{?}:consents:*"):
        found |= {field: str(consents.unpack(value)) for field, value in client.hgetall(key).items()}
    return found


def kept_of(site, secrets, who):
    return site.get(f"/api/recipients/{secrets.recipient_key(who).hex()}").json()


def test_consented_only_recipients_with_a_consent_are_told_apart(mail, opens, site, stats, client, secrets):
    mail(preset="consented", sent=4)
    answer = upload(site, f"recipient,consent_ref\nada,{REF}\nbob,\ncyd,{LATER_REF}\neve,yes\n").json()
    assert (answer["new"], answer["bad"]) == (2, 2)
    errors = {error["line"]: error["message"] for error in answer["errors"]}
    assert errors[3].startswith("has no consent_ref")
    assert errors[5].startswith("consent_ref must be the version of the notice")
    for who in ("ada", "ada", "bob", "cyd", "eve"):  # cyd consents only after this open
        opens(who)
    totals = stats("mail")["totals"]
    assert (totals["opens"], totals["opens_anonymous"], totals["unique_opens"]) == (5, 3, 1)
    assert people(client) == {secrets.recipient_key("ada")}
    assert not client.keys("px:{?}:last:*")
    # A consent that comes later counts from then on.
    upload(site, f"recipient,consent_ref\nbob,{REF}\nada,\n")
    opens("bob")
    totals = stats("mail")["totals"]
    assert (totals["opens_anonymous"], totals["unique_opens"]) == (3, 2)
    assert stored_consents(client)[secrets.recipient_key("ada")] == REF


def test_consented_links_of_recipients_without_a_consent_name_nobody(mail, site, client, secrets):
    mail(preset="consented")
    upload(site, f"recipient,consent_ref\nada,{REF}\n")
    rows = ["ada", {"recipient": "bob", "consent_ref": LATER_REF}, "cyd", "dan"]
    made = site.post("/api/campaigns/mail/links", json={"recipients": rows, "sent": True}).json()["links"]
    tokens = [
        decode_unverified(link["url"].rpartition("/")[2].removesuffix(".gif").encode()) for link in made
    ]
    assert [token.mode for token in tokens] == [Mode.PSEUDONYMOUS] * 2 + [Mode.COUNT] * 2
    assert tokens[2] == tokens[3]
    assert stored_consents(client) == {
        secrets.recipient_key("ada"): REF,
        secrets.recipient_key("bob"): LATER_REF,
    }
    assert site.get("/api/campaigns/mail/stats").json()["sent"] == 4
    rows = [{"recipient": "ada", "consent_ref": "yes"}, {"recipient": "bob", "consent_ref": None}]
    refused = site.post("/api/campaigns/mail/links", json={"recipients": rows})
    assert [error["field"] for error in refused.json()["errors"]] == ["consent_ref"] * 2


def test_consents_of_another_campaign_are_stored_and_change_nothing(
    mail, opens, site, stats, client, secrets
):
    mail(mode="identified")
    lines = [
        {"recipient": "ada", "name": "Ada", "consent_ref": REF},
        {"recipient": "bob", "consent_ref": None},
    ]
    answer = site.put(
        "/api/campaigns/mail/recipients",
        content="".join(json.dumps(line) + "\n" for line in lines),
        headers={"Content-Type": "application/x-ndjson"},
    ).json()
    assert (answer["new"], answer["errors"], answer["warnings"]) == (2, [], [])
    for who in ("ada", "bob", "cyd"):
        opens(who)
    assert stats("mail")["totals"]["unique_opens"] == 3
    [row] = kept_of(site, secrets, "ada")["campaigns"]
    assert (row["name"], row["consent_ref"]) == ("Ada", REF)
    [row] = kept_of(site, secrets, "bob")["campaigns"]
    assert row["consent_ref"] is None


def test_consents_are_shown_to_the_recipient_and_leave_with_an_erasure(mail, site, secrets, client):
    mail(preset="consented")
    upload(site, f"recipient,consent_ref\nada,{REF}\n")
    made = site.post("/api/campaigns/mail/links", json={"recipients": ["ada"]}).json()["links"]
    page = site.get(made[0]["privacy_url"], headers={"Accept-Language": "it"}).text
    assert "alla versione 2026-05 dell&#x27;informativa" in page
    assert "2025-06-01 09:30:00 UTC" in page
    key = secrets.recipient_key("ada").hex()
    erased = site.delete(f"/api/recipients/{key}").json()
    assert erased["removed"]["consents"] == 1
    assert stored_consents(client) == {}
    # A link from before the erasure: nothing is known of a consent any more.
    assert "2026-05" not in site.get(made[0]["privacy_url"]).text


def test_consents_export_of_withdrawals_has_times_and_consents(mail, site, secrets, clock):
    mail(preset="consented")
    mail(id="other", mode="pseudonymous")
    upload(site, f"recipient,consent_ref\nada,{REF}\nbob,{REF}\n")
    upload(site, f"recipient,consent_ref\nada,{LATER_REF}\n", "other")
    clock.at("2025-06-11T10:00Z")
    site.post("/api/withdrawals", json={"recipients": ["ada", "cyd"]})
    answer = site.get("/api/withdrawals", headers={"Accept": "text/csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    marks = {who: secrets.withdrawal_mark(secrets.recipient_key(who)).hex() for who in ("ada", "cyd")}
    since = "2025-06-11T10:00:00.000Z"
    assert sorted(tuple(row.values()) for row in csv.DictReader(io.StringIO(answer.text))) == sorted(
        [
            (marks["ada"], since, "", "mail", REF),
            (marks["ada"], since, "", "other", LATER_REF),
            (marks["cyd"], since, "", "", ""),
        ]
    )
    lines = site.get("/api/withdrawals", headers={"Accept": "application/x-ndjson"}).text.splitlines()
    by_mark = {line["mark"]: line for line in map(json.loads, lines)}
    assert by_mark[marks["cyd"]]["consents"] == []
    assert {consent["campaign"] for consent in by_mark[marks["ada"]]["consents"]} == {"mail", "other"}
    assert by_mark[marks["ada"]]["periods"] == [{"from": since, "until": None}]


def test_consents_newer_format_stops_the_shard_and_loses_nothing(
    mail, opens, site, client, secrets, settings, clock
):
    mail(preset="consented")
    upload(site, f"recipient,consent_ref\nada,{REF}\n")
    [key] = client.keys("px:{?}:consents:*")
    client.hset(key, secrets.recipient_key("ada"), b"\x93\x02\xa1v\x01")  # format 2
    opens("ada")
    shard = int(key.split(b"{")[1][:1])
    rollup = Rollup(client, settings, secrets, shard, max_ahead_ms=ANY_YEAR)
    assert rollup.try_pass(clock.now) is Outcome.STOPPED
    assert b"consent" in client.get(keys.stop(shard))
    assert client.xlen(keys.hits(shard)) == 1
