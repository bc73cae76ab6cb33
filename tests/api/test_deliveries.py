"""Events in NDJSON: what they change in the figures, and what is refused."""

from __future__ import annotations

import json

import pytest

from tests.api.answers import problem
from tests.conftest import API_KEY

NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def send(site):
    """Returns a function that posts events, (recipient, event), and returns the answer."""

    def send(*events, campaign="mail", headers=NDJSON):
        content = "".join(json.dumps({"recipient": who, "event": kind}) + "\n" for who, kind in events)
        return site.post(f"/api/campaigns/{campaign}/deliveries", content=content, headers=headers)

    return send


MAILING = (
    *((f"r{n}", "delivered") for n in range(6)),  # r0 to r5 arrive
    ("r5", "bounced_hard"),  # r5 comes back later
    ("r6", "bounced_soft"),
    ("r7", "bounced_soft"),
    ("r7", "delivered"),  # the second try of r7 arrives
    ("r0", "complained"),
    ("r1", "unsubscribed"),
)
"""Events of 8 recipients. By hand: r0 to r4 and r7 are delivered, that is 6. r5 bounced hard, r6 soft."""


def test_deliveries_figures_follow_from_events(mail, send, stats, opened, site):
    mail()
    opened("2026-09-21T09:00Z", "r0")
    assert stats("mail")["sent_source"] is None
    answer = send(*MAILING)
    assert (answer.status_code, answer.json()["new"], answer.json()["lines"]) == (200, 8, 12)
    assert send(*reversed(MAILING)).json()["known"] == 8
    shown = stats("mail")
    assert (shown["sent"], shown["bounced"], shown["delivered"]) == (8, 2, 6)
    assert shown["sent_source"] == "deliveries"
    assert shown["deliveries"] == {
        "delivered": 6,
        "bounced_hard": 1,
        "bounced_soft": 1,
        "complained": 1,
        "unsubscribed": 1,
    }
    assert shown["open_rate"]["low"] == round(1 / 6, 6)
    item = site.get("/api/overview").json()["items"][0]
    assert (item["sent"], item["open_rate"]["low"]) == (8, round(1 / 6, 6))


def test_deliveries_given_sent_wins_and_bounced_follows(mail, send, stats, site):
    mail(sent=100)
    send(*MAILING)
    assert (stats("mail")["sent"], stats("mail")["bounced"], stats("mail")["delivered"]) == (100, 2, 98)
    assert stats("mail")["sent_source"] == "given"
    site.patch("/api/campaigns/mail", json={"bounced": 30})
    assert (stats("mail")["bounced"], stats("mail")["delivered"]) == (30, 70)
    assert stats("mail")["deliveries"]["delivered"] == 6


def test_deliveries_bounces_alone_leave_sent_to_the_lists(mail, send, stats, site):
    # A provider that reports only bounces does not know how many mails were sent.
    mail()
    people = [f"r{n}" for n in range(10)]
    site.post("/api/campaigns/mail/links", json={"recipients": people, "sent": True})
    send(("r1", "bounced_hard"))
    assert (stats("mail")["sent"], stats("mail")["bounced"], stats("mail")["delivered"]) == (10, 1, 9)
    assert stats("mail")["sent_source"] == "lists"


def test_deliveries_recipient_is_told_apart_as_in_links(mail, send, site, secrets):
    mail()
    send(("Ada@Example.org", "delivered"), ("Ada@Example.org", "unsubscribed"))
    key = secrets.recipient_key("Ada@Example.org").hex()
    found = site.get(f"/api/recipients/{key}").json()["campaigns"]
    assert [row["deliveries"] for row in found] == [["delivered", "unsubscribed"]]


def test_deliveries_bad_lines_are_named(mail, send):
    mail()
    answer = send(("ada", "delivered"), ("bob", "opened"))
    assert (answer.json()["new"], answer.json()["bad"]) == (1, 1)
    assert answer.json()["errors"][0]["line"] == 2
    assert problem(send(("bob", "opened")), 422)["errors"][0]["line"] == 1


def test_deliveries_campaign_that_keeps_no_recipients_is_refused(mail, page, send):
    mail(mode="count")
    page()
    assert "keeps recipients" in problem(send(("ada", "delivered")), 409)["detail"]
    assert problem(send(("ada", "delivered"), campaign="page"), 409)
    assert problem(send(("ada", "delivered"), campaign="no-such"), 404)


def test_deliveries_other_media_type_is_refused(mail, send):
    mail()
    assert problem(send(("ada", "delivered"), headers={"Content-Type": "application/json"}), 415)
    assert problem(send(("ada", "delivered"), headers={**NDJSON, "Content-Encoding": "gzip"}), 415)


def test_deliveries_key_without_people_is_refused(mail, send, site):
    mail()
    key = site.post("/api/keys", json={"name": "reader", "scopes": ["read", "write"]}).json()["key"]
    assert problem(send(("ada", "delivered"), headers={**NDJSON, "Authorization": f"Bearer {key}"}), 403)


def test_deliveries_page_of_the_mailing_shows_what_was_reported(mail, send, site, stats, opened):
    mail()
    opened("2026-09-21T09:00Z", "r0")
    send(*MAILING)
    stats("mail")
    site.post("/sign-in", data={"key": API_KEY})
    page = site.get("/campaigns/mail", headers={"Accept": "text/html"}).text
    assert 'data-figure="deliveries.bounced_hard">1<' in page
    assert 'data-figure="delivered">6<' in page
