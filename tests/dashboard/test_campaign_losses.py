"""Changes of a campaign that lose something for good: the form asks first, and keeps what was typed."""

from __future__ import annotations

import html
import re

import pytest

from tests.dashboard.conftest import form_of
from tests.dashboard.test_pages import EVIL, assert_harmless

EDIT = "/campaigns/mail/edit"


def upload(site):
    """Uploads a list of one recipient with a name."""
    line, kind = '{"recipient": "ada@example.org", "name": "Ada"}', {"Content-Type": "application/x-ndjson"}
    assert site.put("/api/campaigns/mail/recipients", content=line, headers=kind).status_code == 200


def losses(answer):
    """Returns what a change loses, as the page says. Returns None if the change was saved."""
    if answer.status_code == 303:
        return None
    assert (answer.status_code, "Save these changes?" in answer.text) == (200, True), answer.text
    return [html.unescape(text) for text in re.findall("<li>([^<]*)</li>", answer.text)]


def shown(site, name="mail"):
    return site.get(f"/api/campaigns/{name}").json()


def test_lowered_mode_asks_and_saves_what_was_typed(site, send, confirm, mail, opened, stats):
    mail(name=EVIL[0])
    opened("2026-09-20T09:00Z")
    stats("mail")
    before = shown(site)
    asked = send(EDIT, mode="count", name=EVIL[1], tags="a, b")
    assert_harmless(asked)
    assert losses(asked) == [
        "All that is stored about single recipients is deleted within about 10 minutes.",
        "From now on the open rate and other figures about recipients are not shown, also of the past.",
        "From now on this is stored about a recipient: "
        "Only the number of requests and opens. Recipients are not told apart.",
        "An answer that stores more cannot be chosen again.",
    ]
    assert shown(site) == before
    back = confirm(asked, EDIT, back="yes")
    assert back.status_code == 200
    assert form_of(back, EDIT).items() >= {"mode": "count", "name": EVIL[1], "tags": "a, b"}.items()
    assert shown(site) == before
    assert losses(confirm(asked, EDIT, mode="off"))[-2].endswith("are not counted."), "it loses more now"
    assert confirm(asked, EDIT).headers["location"] == f"{EDIT}?done=saved"
    assert shown(site) == {**before, "mode": "count", "name": EVIL[1], "tags": ["a", "b"]}


def test_lowered_mode_of_a_campaign_without_data_is_saved(site, send, mail):
    mail(mode="identified")
    assert losses(send(EDIT, mode="pseudonymous")) is None
    assert losses(send(EDIT, mode="identified")) is None
    upload(site)
    assert losses(send(EDIT, mode="pseudonymous")) == [
        "The uploaded list of recipients and names is deleted within about 10 minutes. Their keys stay."
    ]
    assert losses(send(EDIT, name="Another", keep_names="80")) is None


def test_lowered_mode_of_a_site_asks(send, page, viewed, stats):
    page()
    viewed("2026-09-20T09:00Z")
    stats("page")
    assert losses(send("/campaigns/page/edit", mode="count")) == [
        "From now on figures about visitors are not shown, also of the past.",
        "From now on this is stored about a visitor: Only the number of views. Visitors are not told apart.",
        "An answer that stores more cannot be chosen again.",
    ]


def test_shorter_retention_asks_only_about_stored_days(
    site, send, confirm, mail, opened, stats, clock, sweep
):
    mail(time_zone="Europe/Berlin")
    opened("2026-09-10T09:00Z")
    opened("2026-09-20T09:00Z", "bob")
    stats("mail")
    clock.at("2026-09-21T09:00Z")
    assert losses(send(EDIT, keep_buckets="11", keep_days="11")) is None
    asked = send(EDIT, keep_buckets="10", keep_days="10")
    assert losses(asked)[:2] == [
        "15-minute figures before 11 Sep 2026 (UTC) are not shown from now on.",
        "Daily figures before 11 Sep 2026 are not shown from now on.",
    ]
    assert losses(confirm(asked, EDIT)) is None
    assert (shown(site)["keep"], sweep()["days"]) == ({"buckets": 10, "days": 10}, 1)
    assert losses(send(EDIT, keep_buckets="300", keep_days="")) is None


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ({"keep_recipients": "3"}, None),
        ({"keep_names": "1"}, ("names ended on 21 Sep 2026", "The uploaded list of recipients and names is")),
        ({"keep_recipients": "1"}, ("recipients ended on 21 Sep 2026", "Further opens are only counted.")),
        ({"sent_at": "2024-01-01T09:00"}, ("recipients ended on", "Further opens are only counted.")),
        ({"sent_at": "2024-01-01T09:00", "mode": "count"}, ("All that is stored", "An answer that")),
    ],
)
def test_time_of_sending_and_days_to_keep_people_ask(site, send, mail, opened, stats, clock, changes, lost):
    mail(mode="identified", sent_at="2026-09-20T08:00Z")
    upload(site)
    opened("2026-09-20T09:00Z")
    stats("mail")
    clock.at("2026-09-21T09:00Z")
    found = losses(send(EDIT, **changes))
    assert (found is None) == (lost is None)
    assert lost is None or all(any(text in each for each in found) for text in lost)


def test_checklist_asks_before_a_time_of_sending_closes_the_campaign(site, send, confirm, mail):
    mail()
    site.post("/api/campaigns/mail/links", json={"recipients": ["ada"]})
    asked = send("/campaigns/mail", sent="5", sent_at="2024-01-01T09:00")
    assert "The days to keep recipients ended on" in losses(asked)[0]
    back = confirm(asked, "/campaigns/mail", back="yes")
    assert form_of(back, "/campaigns/mail")["sent_at"] == "2024-01-01T09:00"
    assert shown(site)["sent_at"] is None
    assert confirm(asked, "/campaigns/mail").status_code == 303
    assert (shown(site)["sent"], shown(site)["sent_at"]) == (5, "2024-01-01T09:00:00Z")
