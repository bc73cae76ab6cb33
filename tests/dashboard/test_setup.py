"""The checklist of a new campaign, the form for a new campaign, and the list of an empty server."""

from __future__ import annotations

import re

import pytest

from pixel_server.addresses import is_local
from tests.dashboard.conftest import form_of
from tests.dashboard.test_campaign_forms import wrong
from tests.dashboard.test_pages import EVIL, Page, assert_harmless, figures
from tests.stack import until


def ticked(answer):
    """Returns the names of the steps that have a tick."""
    return re.findall(r'class="step done-step" data-redraw="step-(\w+)"', answer.text)


def is_checklist(answer):
    return 'data-page="setup"' in answer.text


def fill(reader, page, number, **filled):
    """Sends one of the forms of a checklist, the first form or the second."""
    form = re.findall(r'<form method="post" action="/campaigns.*?</form>', reader.get(page).text, re.DOTALL)
    fields = dict(re.findall(r'name="(csrf|step)" value="(.*?)"', form[number]))
    return reader.post(page, data={**fields, **filled})


def test_checklist_mail_number_of_mails_is_stored_and_ticks(site, reader, mail):
    mail(time_zone="Europe/Berlin")
    answer = reader.get("/campaigns/mail")
    assert is_checklist(answer)
    assert "/campaigns/mail/pixel/list" in answer.text
    assert ticked(answer) == []
    refused = fill(reader, "/campaigns/mail", 0, sent="many", sent_at="soon")
    assert refused.status_code == 422
    assert wrong(refused).keys() == {"sent", "sent_at"}
    assert 'value="many"' in refused.text
    assert is_checklist(refused)
    saved = fill(reader, "/campaigns/mail", 0, sent=" 1200 ", sent_at="2026-09-21T09:30")
    assert (saved.status_code, saved.headers["location"]) == (303, "/campaigns/mail?done=saved")
    campaign = site.get("/api/campaigns/mail").json()
    assert (campaign["sent"], campaign["sent_at"]) == (1200, "2026-09-21T07:30:00Z")
    answer = reader.get(saved.headers["location"])
    assert ticked(answer) == ["sent"]
    assert "Saved." in answer.text
    assert figures(answer)["sent"] == "1,200"
    assert "<details><summary>Change number or time</summary>" in answer.text
    assert "Time of sending: <time" in answer.text
    wrong_again = fill(reader, "/campaigns/mail", 0, sent="many")
    assert "<details open><summary>Change number or time</summary>" in wrong_again.text


def test_checklist_number_entered_with_the_campaign_is_not_asked_again(reader, mail):
    mail(sent=20)
    answer = reader.get("/campaigns/mail")
    assert "<details><summary>Change number or time</summary>" in answer.text
    assert "Time of sending: not set" in answer.text
    assert answer.text.index("All recipients") < answer.text.index("One recipient")


def test_checklist_mail_pixel_is_shown_and_ticks(site, reader, mail):
    mail()
    refused = fill(reader, "/campaigns/mail", 1, recipient="a\x00b")
    assert refused.status_code == 422
    assert wrong(refused).keys() == {"recipient"}
    assert ticked(refused) == []
    made = fill(reader, "/campaigns/mail", 1, recipient="ada@example.org", test="yes")
    assert made.status_code == 200
    assert is_checklist(made)
    assert ticked(made) == ["pixel"]
    assert ticked(reader.get("/campaigns/mail")) == ["pixel"]
    assert figures(made)["last_link"] == "21 Sep 2026, 14:13 UTC"
    token = re.search(r"&lt;img src=&#34;http://pixel\.test/o/([\w-]+)\.gif&#34; width=", made.text)[1]
    assert site.get(f"/o/{token}.gif").headers["x-pixel"] == "recorded"


def test_checklist_first_counted_request_makes_the_normal_page(site, reader, mail, opened, stats):
    mail()
    csrf = form_of(reader.get("/campaigns/mail"), "/campaigns/mail")["csrf"]
    assert is_checklist(reader.get("/campaigns/mail"))
    assert reader.get("/campaigns/mail/figures.json").json()["figures"]["totals.hits"] == "0"
    opened("2026-09-21T15:00Z")
    stats("mail")
    answer = reader.get("/campaigns/mail?done=counted")
    assert not is_checklist(answer)
    assert "The pixel works" in answer.text
    # A checklist that was still open: both forms go on.
    saved = reader.post("/campaigns/mail", data={"csrf": csrf, "step": "sent", "sent": "4", "sent_at": ""})
    assert (saved.status_code, site.get("/api/campaigns/mail").json()["sent"]) == (303, 4)
    made = reader.post("/campaigns/mail", data={"csrf": csrf, "step": "pixel", "recipient": "bob"})
    assert made.status_code == 200
    assert "Pixel for" in made.text


def test_checklist_is_not_shown_for_a_range_or_for_a_shared_key(reader, sign_in, made_key, mail):
    mail()
    assert not is_checklist(reader.get("/campaigns/mail?from=2026-09-01&until=2026-09-02"))
    assert reader.get("/campaigns/mail?from=yesterday").status_code == 422
    shared = sign_in(made_key("read:mail")[1]).get("/campaigns/mail")
    assert shared.status_code == 200
    assert not is_checklist(shared)


def test_checklist_web_site_shows_the_tags_and_what_was_refused(site, reader, page):
    page(identity="cookieless", origins=["https://www.example.org"])
    answer = reader.get("/campaigns/page")
    assert is_checklist(answer)
    assert "How many mails" not in answer.text
    assert 'data-campaign="page"' in Page(answer).text
    headers = {"Origin": "https://other.example", "Content-Type": "text/plain"}
    assert site.post("/p/page", content=b'{"i":"a"}', headers=headers).status_code == 403
    until(lambda: ticked(reader.get("/campaigns/page")) == ["pixel"])
    answer = reader.get("/campaigns/page")
    assert figures(answer)["totals.refused_origin"] == "1"
    assert "Change the origins" in answer.text


def test_checklist_read_scope_has_no_forms(sign_in, made_key, mail):
    mail()
    visitor = sign_in(made_key("read")[1])
    answer = visitor.get("/campaigns/mail")
    assert is_checklist(answer)
    assert "pixel/list" not in answer.text
    posts = [each["action"] for each in Page(answer).all("form") if each.get("method") == "post"]
    assert posts == ["/sign-out"]
    token = form_of(answer, "/sign-out")["csrf"]
    refused = visitor.post("/campaigns/mail", data={"csrf": token, "step": "sent", "sent": "1"})
    assert refused.status_code == 403


def test_checklist_without_a_pixel_says_why(reader, mail, settings):
    mail(mode="off")
    assert "it has no pixel" in reader.get("/campaigns/mail").text
    mail(id="local", base_url="http://127.0.0.1:8000")
    assert "which only this machine can reach" in reader.get("/campaigns/local").text
    mail(id="public")
    assert "which only this machine can reach" not in reader.get("/campaigns/public").text
    object.__setattr__(settings, "base_url", None)
    assert "PIXEL_BASE_URL" in reader.get("/campaigns/public").text


def test_pixel_page_keeps_both_sections_and_puts_what_was_sent_first(reader, send, mail):
    mail()
    path = "/campaigns/mail/pixel"
    for answer, is_one_first in (
        (reader.get(path), False),
        (send(path, recipient="ada@example.org"), True),
        (send(path, recipient=""), True),
    ):
        places = [answer.text.index(f'<h2 id="{name}">') for name in ("one", "many")]
        assert (places == sorted(places)) is is_one_first
        assert_harmless(answer)


def test_each_page_that_hands_out_an_address_says_if_only_this_machine_reaches_it(
    reader, send, mail, page, settings, made_key
):
    mail()
    page()
    key, _ = made_key("read")
    made = (
        lambda: reader.get("/campaigns/mail"),
        lambda: reader.get("/campaigns/page"),
        lambda: reader.get("/campaigns/page/pixel"),
        lambda: reader.get("/campaigns/mail/pixel"),
        lambda: reader.get("/campaigns/mail/pixel/list"),
        lambda: send("/campaigns/mail/pixel", recipient="ada@example.org"),
        lambda: send("/campaigns/mail/shares", name="Partner"),
        lambda: reader.get("/deliveries"),
        lambda: send("/deliveries", provider="postmark"),
        lambda: send("/keys", f"/keys/{key}/sign-in-link"),
    )
    for hand_out in made:
        assert "which only this machine can reach" not in hand_out().text
    object.__setattr__(settings, "base_url", "http://127.0.0.1:8000")
    for hand_out in made:
        text = hand_out().text
        assert text.count("which only this machine can reach") == 1, text
        assert "<code>http://127.0.0.1:8000</code>" in text


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("http://localhost:8000", True),
        ("http://a.localhost/px", True),
        ("http://127.0.0.1:8000", True),
        ("http://[::1]:8000", True),
        ("http://192.0.2.1", False),
        ("https://pixel.example.org", False),
        ("", False),
    ],
)
def test_is_local(base_url, expected):
    assert is_local(base_url) is expected


@pytest.mark.parametrize("text", EVIL)
def test_checklist_hostile_input_is_harmless(reader, mail, page, text):
    mail(name=text)
    page(name=text)
    assert_harmless(reader.get("/campaigns/page"))
    assert_harmless(reader.get("/campaigns/mail"))
    assert_harmless(fill(reader, "/campaigns/mail", 0, sent=text, sent_at=text))
    assert_harmless(fill(reader, "/campaigns/mail", 1, recipient=text))
    assert_harmless(fill(reader, "/campaigns/mail", 1, recipient=text * 300, part=text))


def is_more_open(answer):
    return '<details class="rest" open>' in answer.text


def test_new_campaign_more_opens_for_what_stands_in_it(reader, send):
    answer = reader.get("/new")
    before, _, behind = answer.text.partition("<summary>More: id,")
    assert set(re.findall(r' name="(\w+)"', before)) >= {"kind", "name", "sent", "mode"}
    assert set(re.findall(r' name="(\w+)"', behind)) >= {"id", "bounced", "sent_at", "mode", "time_zone"}
    assert not set(re.findall(r" name=\"(\w+)\"", behind)) & {"kind", "name", "sent"}
    assert not is_more_open(answer)
    assert "required" not in behind, "the browser could not show its message"
    # The page's script proposes an id.
    assert not is_more_open(send("/new", name="W" * 201, id="www", sent="many"))
    assert is_more_open(send("/new", name="W" * 201, bounced="3"))
    for name, text in (("id", "No Id"), ("time_zone", ""), ("keep_days", "x"), ("min_cell", "")):
        refused = send("/new", **{"name": "Spring", "id": "spring", "mode": "count", name: text})
        assert refused.status_code == 422
        assert is_more_open(refused), name


def test_list_of_an_empty_server_offers_the_first_campaign_and_the_demo(reader, sign_in, made_key):
    answer = reader.get("/")
    page = assert_harmless(answer)
    [new] = [each for each in page.all("a") if each.get("href") == "/new"]
    assert new["class"] == "button main big-button"
    assert "pixel-server demo add" in page.text
    assert 'type="search"' not in answer.text
    visitor = sign_in(made_key("read")[1])
    assert "demo add" not in visitor.get("/").text
