"""Recipients who had mail and did not open any since a day."""

from __future__ import annotations

import json

import pytest

from pixel_server.mail.links import Minter
from tests.figures.test_recipients import LIST, SCANNER

pytestmark = pytest.mark.usefixtures("few_buckets")


@pytest.fixture
def send(site, clock):
    """Makes links with `sent` for recipients."""

    def send(campaign, *rows, at=None, **more):
        if at:
            clock.at(at)
        made = site.post(
            f"/api/campaigns/{campaign}/links", json={"recipients": list(rows), "sent": True, **more}
        )
        assert made.status_code == 200, made.text
        return made.json()["links"]

    return send


@pytest.fixture
def inactive_since(site, secrets):
    """Returns the inactive recipients since a day: {recipient: row}."""
    known = {secrets.recipient_key(who).hex(): who for who in ("ada", "bob", "cyd", "dan", "eve", "fay")}

    def inactive_since(since):
        answer = site.get("/api/recipients", params={"quiet_since": since})
        assert answer.status_code == 200, answer.text
        return {known[row["key"]]: row for row in answer.json()["items"]}

    return inactive_since


def test_inactive_recipients_mailed_without_open_are_listed(
    site, send, stats, inactive_since, secrets, clock
):
    for name, mode in (("old", "pseudonymous"), ("new", "identified"), ("dim", "count")):
        site.post("/api/campaigns", json={"id": name, "name": name, "kind": "email", "mode": mode})
    minter = Minter("http://pixel.test", secrets)

    def opens(at, campaign, who, **headers):
        clock.at(at)
        site.get(minter.url(campaign, who, now=clock.now), headers=headers)

    send("old", "ada", "bob", "cyd", "dan", "eve", at="2026-01-10T08:00Z")
    opens("2026-01-10T09:00Z", "old", "ada")
    opens("2026-01-10T09:00Z", "old", "bob")
    opens("2026-03-05T09:00Z", "old", "bob")  # an old mail that is read again
    send("new", "ada", "bob", "cyd", "dan", at="2026-03-01T08:00Z")
    lines = json.dumps({"recipient": "cyd", "name": "Cyd"}) + "\n"
    assert site.put("/api/campaigns/new/recipients", content=lines, headers=LIST).status_code == 200
    send("dim", "fay", at="2026-03-01T08:00Z")
    opens("2026-03-02T09:00Z", "new", "dan")
    opens("2026-03-02T09:00Z", "new", "cyd", **{"User-Agent": SCANNER})
    clock.at("2026-03-06T00:00Z")
    for name in ("old", "new"):
        stats(name)
    found = inactive_since("2026-03-01")
    assert found.keys() == {"ada", "cyd"}
    assert (found["ada"]["campaigns"], found["ada"]["last_open_person"]) == (1, "2026-01-10T09:00:00.000Z")
    assert (found["cyd"]["name"], found["cyd"]["last_open_person"]) == ("Cyd", None)
    assert inactive_since("2026-01-01").keys() == {"cyd", "eve"}
    assert inactive_since("2026-01-01")["cyd"]["campaigns"] == 2
    assert inactive_since("2026-03-02") == {}
    text = site.get(
        "/api/recipients", params={"quiet_since": "2026-03-01"}, headers={"Accept": "text/csv"}
    ).text
    assert text.splitlines()[0] == "key,recipient,name,campaigns,last_open_person"
    assert len(text.splitlines()) == 3
    site.post("/api/recipients/find", json={"recipient": "cyd"})
    site.delete(f"/api/recipients/{secrets.recipient_key('cyd').hex()}")
    assert inactive_since("2026-03-01").keys() == {"ada"}


def test_inactive_recipients_future_mail_does_not_count(site, mail, send, inactive_since, clock):
    mail(sent_at="2026-03-02T00:00:00Z")
    site.put("/api/campaigns/mail/recipients", content=b'{"recipient": "ada"}\n', headers=LIST)
    send("mail", {"recipient": "bob", "sent_at": "2026-03-02T08:00:00Z"}, at="2026-03-01T08:00Z")
    assert inactive_since("2026-03-01") == {}
    clock.at("2026-03-02T00:00Z")
    assert inactive_since("2026-03-01").keys() == {"ada", "bob"}


def test_inactive_recipients_names_come_from_any_campaign(site, clock):
    clock.at("2026-03-01T08:00Z")
    for n in range(3):
        made = {"id": f"c{n}", "name": "C", "kind": "email", "mode": "identified"}
        site.post("/api/campaigns", json={**made, "sent_at": "2026-03-01T00:00:00Z"})
        rows = [json.dumps({"recipient": f"r{i}", "name": f"R{i}"}) for i in range(200) if i % 3 >= n]
        assert site.put(f"/api/campaigns/c{n}/recipients", content="\n".join(rows), headers=LIST).is_success
    site.patch("/api/campaigns/c0", json={"mode": "pseudonymous"})
    items = site.get("/api/recipients", params={"quiet_since": "2026-03-01"}).json()["items"]
    assert {(row["recipient"], row["name"], row["campaigns"]) for row in items} == {
        (f"r{i}", f"R{i}", i % 3 + 1) if i % 3 else (None, None, 1) for i in range(200)
    }
    assert len(items) == 200


def test_inactive_recipients_upload_counts_by_campaign_time(site, mail, inactive_since, clock):
    mail(sent_at="2026-02-01T00:00:00Z")
    site.put("/api/campaigns/mail/recipients", content=b'{"recipient": "ada"}\n', headers=LIST)
    assert (inactive_since("2026-02-01").keys(), inactive_since("2026-02-02")) == ({"ada"}, {})


@pytest.mark.parametrize(
    "query",
    [
        "",
        "quiet_since=",
        "quiet_since=yesterday",
        "quiet_since=2026-02-30",
        "quiet_since=2026-W10-1",
        "quiet_since=2026-01-01&after=x",
    ],
)
def test_inactive_recipients_bad_day_is_422(site, query):
    answer = site.get(f"/api/recipients?{query}")
    assert (answer.status_code, len(answer.json()["errors"])) == (422, 1)
