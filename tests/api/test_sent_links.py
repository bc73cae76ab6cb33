"""Links made with `sent`: the mails that count as sent, and the recipients who did not open."""

from __future__ import annotations

import pytest

from tests.figures.test_recipients import LIST


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


def upload(site, *recipients, query=""):
    content = "".join(f'{{"recipient": "{recipient}"}}\n' for recipient in recipients)
    done = site.put(f"/api/campaigns/mail/recipients{query}", content=content.encode(), headers=LIST)
    assert done.status_code == 200, done.text
    return done.json()


def test_uploads_count_as_sent_unless_told(mail, send, site, stats):
    mail()
    upload(site, "ada", "bob", query="?sent=false")
    assert (stats("mail")["sent"], stats("mail")["open_rate"]) == (None, None)
    upload(site, "ada", "cyd")
    assert stats("mail")["sent"] == 2
    assert upload(site, "ada", "cyd", "bob", query="?sent=true")["known"] == 3
    assert stats("mail")["sent"] == 3
    site.get(send("mail", "ada")[0]["url"])
    assert (stats("mail")["sent"], stats("mail")["open_rate"]["low"]) == (3, round(1 / 3, 6))
    site.patch("/api/campaigns/mail", json={"sent": 12})
    assert stats("mail")["sent"] == 12
    for query in ("?sent=yes", "?sent=", "?send=true", "?sent=true&sent=false"):
        refused = site.put(f"/api/campaigns/mail/recipients{query}", content=b"", headers=LIST)
        assert refused.status_code == 422


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
    """Returns the inactive recipients since a day: {recipient: row}."""
    known = {secrets.recipient_key(who).hex(): who for who in ("ada", "bob", "cyd", "dan", "eve", "fay")}

    def quiet(since):
        answer = site.get("/api/recipients", params={"quiet_since": since})
        assert answer.status_code == 200, answer.text
        return {known[row["key"]]: row for row in answer.json()["items"]}

    return quiet
