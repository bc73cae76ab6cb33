"""Links made with `sent`: who was sent a mail, for the rate, for who did not open, and for who is quiet."""

from __future__ import annotations

import json

import pytest

from pixel_server.mail.links import Minter
from tests.figures.test_recipients import LIST, SCANNER


@pytest.fixture
def send(site, clock):
    """Makes links of mails that are sent, to each of these."""

    def send(campaign, *rows, at=None, **more):
        if at:
            clock.at(at)
        made = site.post(
            f"/api/campaigns/{campaign}/links", json={"recipients": list(rows), "sent": True, **more}
        )
        assert made.status_code == 200, made.text
        return made.json()["links"]

    return send


def test_links_sent_count_each_recipient_once(mail, send, site, stats, clock):
    mail()
    assert (stats("mail")["sent"], stats("mail")["open_rate"]) == (None, None)
    first = send(
        "mail", "ada", "bob", {"recipient": "cyd", "part": "top"}, {"recipient": "cyd", "part": "bottom"}
    )
    send("mail", "ada", "dan", {"recipient": "eve", "test": True}, {"recipient": "fay", "mode": "off"})
    site.post("/api/campaigns/mail/links", json={"recipients": ["gus"]})
    site.get(first[0]["url"])
    site.patch("/api/campaigns/mail", json={"bounced": 2})
    found = stats("mail")
    assert (found["sent"], found["delivered"], found["open_rate"]["low"]) == (4, 2, 0.5)
    day = {"from": "2026-09-21", "to": "2026-09-22"}
    assert stats("mail", **day)["open_rate"]["low"] == 0.5
    site.patch("/api/campaigns/mail", json={"sent": 12})
    assert stats("mail")["delivered"] == 10


def test_uploads_do_not_count_as_sent(mail, send, site, stats):
    mail()
    site.put(
        "/api/campaigns/mail/recipients",
        content=b'{"recipient": "ada"}\n{"recipient": "bob"}\n',
        headers=LIST,
    )
    assert stats("mail")["sent"] is None
    send("mail", "ada")
    again = site.put("/api/campaigns/mail/recipients", content=b'{"recipient": "ada"}\n', headers=LIST)
    assert again.json()["known"] == 1
    assert stats("mail")["sent"] == 1


def test_links_sent_in_mode_count_keep_a_number(mail, send, site, stats, client):
    mail(mode="count")
    send("mail", "ada", "bob", "bob")
    send("mail", "ada")
    assert stats("mail")["sent"] == 3
    assert client.keys("*listed*") == []
    assert site.get("/api/campaigns/mail/recipients", params={"state": "unopened"}).status_code == 409


def test_links_sent_leave_withdrawn_recipients_out(mail, send, site, stats):
    mail()
    site.post("/api/withdrawals", json={"recipients": ["bob"]})
    assert len(send("mail", "ada", "bob")) == 2
    assert stats("mail")["sent"] == 1


def test_recipients_unopened_are_listed(mail, send, site, stats, secrets):
    mail()
    ada, bob = send("mail", "ada", "bob")
    site.get(ada["url"])
    stats("mail")
    found = site.get("/api/campaigns/mail/recipients", params={"state": "unopened"}).json()["items"]
    assert [row["key"] for row in found] == [secrets.recipient_key("bob").hex()]
    assert bob["url"]


def test_recipients_unopened_leave_withdrawn_out(mail, send, site, quiet, clock):
    mail()
    send("mail", "ada", "bob", "cyd", at="2026-03-01T08:00Z")
    site.post("/api/withdrawals", json={"recipients": ["bob", "cyd"]})
    site.request("DELETE", "/api/withdrawals", json={"recipients": ["cyd"]})
    found = site.get("/api/campaigns/mail/recipients", params={"state": "unopened"}).json()["items"]
    assert len(found) == 2
    assert quiet("2026-03-01").keys() == {"ada", "cyd"}


def test_links_closed_campaign_is_409(mail, send, site, clock, sweep):
    mail(keep={"recipients": 1})
    send("mail", "ada", at="2026-03-01T00:00Z")
    clock.at("2026-03-03T00:00Z")
    sweep()
    made = site.post("/api/campaigns/mail/links", json={"recipients": ["ada"], "sent": True})
    assert made.status_code == 409


@pytest.mark.parametrize("sent", [1, "yes", None])
def test_links_sent_not_a_flag_is_422(mail, site, sent):
    mail()
    made = site.post("/api/campaigns/mail/links", json={"recipients": ["ada"], "sent": sent})
    assert (made.status_code, made.json()["errors"][0]["field"]) == (422, "sent")


@pytest.fixture
def quiet(site, secrets):
    """Who is quiet since a day: {recipient: row}."""
    known = {secrets.recipient_key(who).hex(): who for who in ("ada", "bob", "cyd", "dan", "eve", "fay")}

    def quiet(since):
        answer = site.get("/api/recipients", params={"quiet_since": since})
        assert answer.status_code == 200, answer.text
        return {known[row["key"]]: row for row in answer.json()["items"]}

    return quiet


def test_inactive_recipients_mailed_without_open_are_listed(site, send, stats, quiet, secrets, clock):
    for name, mode in (("old", "pseudonymous"), ("new", "identified"), ("dim", "count")):
        site.post("/api/campaigns", json={"id": name, "name": name, "kind": "email", "mode": mode})
    minter = Minter("http://pixel.test", secrets)

    def opens(at, campaign, who, **headers):
        clock.at(at)
        site.get(minter.url(campaign, who, now=clock.now), headers=headers)

    send("old", "ada", "bob", "cyd", "dan", "eve", at="2026-01-10T08:00Z")
    opens("2026-01-10T09:00Z", "old", "ada")
    opens("2026-01-10T09:00Z", "old", "bob")
    opens("2026-03-05T09:00Z", "old", "bob")  # an old mail, read again
    send("new", "ada", "bob", "cyd", "dan", at="2026-03-01T08:00Z")
    lines = json.dumps({"recipient": "cyd", "name": "Cyd"}) + "\n"
    assert site.put("/api/campaigns/new/recipients", content=lines, headers=LIST).status_code == 200
    send("dim", "fay", at="2026-03-01T08:00Z")
    opens("2026-03-02T09:00Z", "new", "dan")
    opens("2026-03-02T09:00Z", "new", "cyd", **{"User-Agent": SCANNER})
    clock.at("2026-03-06T00:00Z")
    for name in ("old", "new"):
        stats(name)
    found = quiet("2026-03-01")
    assert found.keys() == {"ada", "cyd"}
    assert (found["ada"]["campaigns"], found["ada"]["last_open_person"]) == (1, "2026-01-10T09:00:00.000Z")
    assert (found["cyd"]["name"], found["cyd"]["last_open_person"]) == ("Cyd", None)
    assert quiet("2026-01-01").keys() == {"cyd", "eve"}
    assert quiet("2026-01-01")["cyd"]["campaigns"] == 2
    assert quiet("2026-03-02") == {}
    text = site.get(
        "/api/recipients", params={"quiet_since": "2026-03-01"}, headers={"Accept": "text/csv"}
    ).text
    assert text.splitlines()[0] == "key,recipient,name,campaigns,last_open_person"
    assert len(text.splitlines()) == 3
    site.post("/api/recipients/find", json={"recipient": "cyd"})
    site.delete(f"/api/recipients/{secrets.recipient_key('cyd').hex()}")
    assert quiet("2026-03-01").keys() == {"ada"}


def test_inactive_recipients_future_mail_does_not_count(site, mail, send, quiet, clock):
    mail(sent_at="2026-03-02T00:00:00Z")
    site.put("/api/campaigns/mail/recipients", content=b'{"recipient": "ada"}\n', headers=LIST)
    send("mail", {"recipient": "bob", "sent_at": "2026-03-02T08:00:00Z"}, at="2026-03-01T08:00Z")
    assert quiet("2026-03-01") == {}
    clock.at("2026-03-02T00:00Z")
    assert quiet("2026-03-01").keys() == {"ada", "bob"}


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


def test_inactive_recipients_upload_counts_by_campaign_time(site, mail, quiet, clock):
    mail(sent_at="2026-02-01T00:00:00Z")
    site.put("/api/campaigns/mail/recipients", content=b'{"recipient": "ada"}\n', headers=LIST)
    assert (quiet("2026-02-01").keys(), quiet("2026-02-02")) == ({"ada"}, {})


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
