"""The page of a campaign's recipients: states with counts, sorting, search, pages and downloads."""

from __future__ import annotations

import json
import re

import pytest

from pixel_server.dashboard import recipients as pages
from pixel_server.mail.links import Minter
from tests.dashboard.test_pages import EVIL, Page, assert_harmless, story

__all__ = ["story"]
PATH = "/campaigns/mail/recipients"
LIST = {"Content-Type": "application/x-ndjson"}


pytestmark = pytest.mark.usefixtures("few_buckets")


@pytest.fixture
def listed(site, mail):
    """Makes a campaign with 450 recipients, r0 to r449, of whom nobody opened."""
    mail(mode="identified")
    lines = "".join(json.dumps({"recipient": f"r{n}"}) + "\n" for n in range(450))
    assert site.put(f"/api{PATH}", content=lines, headers=LIST).status_code == 200


def keys_of(answer):
    """Returns the keys of the recipients on a page, in their order."""
    return re.findall(r'href="/recipients/([0-9a-f]{16})\?campaign=mail"', answer.text)


def all_pages(reader, link):
    """Returns the keys on all pages, and the number of pages."""
    found, pages_read = [], 0
    while link:
        answer = reader.get(link)
        assert answer.status_code == 200
        found += keys_of(answer)
        next_links = [attrs["href"] for attrs in Page(answer).all("a") if attrs.get("rel") == "next"]
        link, pages_read = next_links[0] if next_links else None, pages_read + 1
    return found, pages_read


def test_recipients_page_states_show_their_recipients(story, site, reader):
    answer = reader.get("/campaigns/mail/recipients?state=person")
    page = assert_harmless(answer)
    assert len(keys_of(answer)) == 4
    assert "You see keys" not in page.text
    assert '<details class="keys"' not in answer.text
    site.patch("/api/campaigns/mail", json={"mode": "pseudonymous"})
    keys = reader.get("/campaigns/mail/recipients")
    assert "You see keys, not addresses" in Page(keys).text
    assert len(keys_of(keys)) == 4
    assert "Show more" not in keys.text
    assert "20 Sep 2026, 09:00" in page.text
    alone = reader.get("/campaigns/mail/recipients?state=machine_only")
    assert len(keys_of(alone)) == 1
    assert reader.get("/campaigns/mail/recipients?state=no").status_code == 422
    assert reader.get("/campaigns/mail/recipients?after=-1").status_code == 422
    missing = reader.get("/campaigns/mail/recipients?state=unopened")
    assert missing.status_code == 409
    ways_out = missing.text.partition('class="empty"')[2].partition("</p>")[0]
    links = ["/campaigns/mail/recipients/upload", "/campaigns/mail/pixel"]
    assert re.findall(r'href="([^"]*)"', ways_out) == links
    assert reader.get("/campaigns/page/recipients").status_code == 409


def test_recipients_page_times_are_of_the_opens_that_the_heads_name(
    story, site, reader, secrets, clock, stats
):
    clock.at("2026-09-20T11:00Z")
    link = Minter("http://pixel.test", secrets).url("mail", "ada", now=clock.now)
    site.get(link, headers={"User-Agent": "python-requests/2.32.3"})
    stats("mail")

    key = secrets.recipient_key("ada").hex()

    def row(query):
        """Returns the heads of the times, and the first and last time of ada's row."""
        html = reader.get(f"{PATH}?{query}").text
        heads = re.findall(r">((?:First|Last) open[^<]*)</a>", html)
        cells = next(row for row in html.split("<tr>") if f"/recipients/{key}?" in row)
        assert re.findall(r'class="at [^>]*data-label="([^"]*)"', cells) == heads
        return heads, re.findall(r"<time[^>]*>20 Sep 2026, ([0-9:]*)<", cells)

    by_person = ["First open by a person", "Last open by a person"], ["09:00", "09:01"]
    by_any = ["First open (any)", "Last open (any)"], ["09:00", "11:00"]
    assert row("") == by_person
    assert row("state=all") == by_any
    assert row("state=person&sort=last_open") == by_any
    assert row("state=all&sort=first_open_person") == by_person


@pytest.mark.parametrize("sorted_at_once", [1000, 0])
def test_recipients_page_many_recipients_are_paged(listed, reader, secrets, monkeypatch, sorted_at_once):
    monkeypatch.setattr(pages, "SORTED_AT_ONCE", sorted_at_once)
    found, pages_read = all_pages(reader, f"{PATH}?state=unopened")
    assert sorted(found) == sorted(secrets.recipient_key(f"r{n}").hex() for n in range(450))
    assert pages_read >= 2


@pytest.mark.parametrize("sorted_at_once", [1000, 0])
def test_recipients_page_of_keys_shows_ten_rows_and_then_all(
    listed, site, reader, monkeypatch, sorted_at_once
):
    monkeypatch.setattr(pages, "SORTED_AT_ONCE", sorted_at_once)
    site.patch("/api/campaigns/mail", json={"mode": "pseudonymous"})
    short = reader.get(f"{PATH}?state=all")
    assert len(keys_of(short)) == pages.FIRST_KEYS
    assert "<details open" not in short.text
    [more] = [attrs["href"] for attrs in Page(short).all("a") if attrs.get("rel") == "next"]
    found, _ = all_pages(reader, more)
    assert len(found) == len(set(found)) == 450
    assert found[: pages.FIRST_KEYS] == keys_of(short)


def test_recipients_page_too_many_to_sort_at_once_offers_to_sort(listed, reader, monkeypatch):
    monkeypatch.setattr(pages, "SORTED_AT_ONCE", 100)
    page = reader.get(PATH + "?state=all")
    assert "about 450 recipients" in page.text
    assert "aria-sort" not in page.text
    offered = reader.get(f"{PATH}?state=all&sort=last_open")
    assert "in no order" not in offered.text
    assert 'All <span class="dim">450</span>' in offered.text


def test_recipients_page_columns_sort_in_both_directions(listed, reader, secrets):
    heads = {attrs.get("href") for attrs in Page(reader.get(f"{PATH}?state=unopened")).all("a")}
    assert f"{PATH}?state=unopened&sort=recipient&order=desc" in heads, "it is sorted by recipient already"
    for sort in ("name", "opens", "opens_person", "first_open", "last_open"):
        [head] = [each for each in heads if each and f"sort={sort}&" in each]
        assert reader.get(head).text.count("aria-sort") == 1
    names = sorted(f"r{n}" for n in range(450))
    first, _ = all_pages(reader, f"{PATH}?state=unopened&sort=recipient&order=desc")
    assert first == [secrets.recipient_key(name).hex() for name in reversed(names)]


def test_recipients_page_tabs_show_the_counts_of_the_api(story, site, reader):
    counts = site.get(f"/api{PATH}/counts").json()
    text = Page(reader.get(PATH)).text
    for state, number in counts.items():
        label = pages.STATES[state][0]
        assert (f"{label} {number}" in text) == (number is not None)


def test_recipients_page_select_of_a_phone_offers_the_states_of_the_tabs(story, reader):
    page = Page(reader.get(f"{PATH}?state=machine_only"))
    options = [(option["value"], "selected" in option) for option in page.all("option")]
    assert options == [(state, state == "machine_only") for state in pages.STATES]
    assert "Machines only (1)" in page.text
    [form] = [form for form in page.all("form") if form.get("class") == "state-form"]
    assert (form["method"], form["action"]) == ("get", PATH)
    assert "Combine with other campaigns" in page.text


def test_recipients_page_tabs_add_up(site, mail, sign_in, secrets, clock, stats):
    clock.at("2026-09-20T08:00Z")
    mail()
    lines = "".join(json.dumps({"recipient": who}) + "\n" for who in ("ada", "bob", "cyd", "eve"))
    assert site.put(f"/api{PATH}", content=lines, headers=LIST).status_code == 200
    minter = Minter("http://pixel.test", secrets)
    for who, agent in (("ada", None), ("bob", "python-requests/2.32.3"), ("cyd", ""), ("bob", "")):
        headers = {} if agent is None else {"User-Agent": agent}
        site.get(minter.url("mail", who, now=clock.now), headers=headers)
    stats("mail")
    site.post("/api/withdrawals", json={"recipients": ["ada", "eve"]})
    page = Page(sign_in().get(f"{PATH}?state=all")).text
    shown = {
        state: int(found[1])
        for state, (label, _) in pages.STATES.items()
        if (found := re.search(rf"{label} (\d+)", page))
    }
    assert shown == {
        **{"person": 1, "unopened": 0, "machine_only": 0, "unknown": 2},
        **{"opened": 3, "all": 4, "withdrawn": 2},
    }
    assert shown["person"] + shown["machine_only"] + shown["unknown"] == shown["opened"]
    assert "1 of them withdrew without an open" in page


def test_recipients_page_without_a_person_offers_any_open(site, mail, reader, secrets, clock, stats):
    clock.at("2026-09-20T08:00Z")
    mail()
    url = Minter("http://pixel.test", secrets).url("mail", "dan", now=clock.now)
    assert site.get(url, headers={"User-Agent": ""}).headers["x-pixel"] == "recorded"
    stats("mail")
    assert len(keys_of(reader.get(f"{PATH}?state=unknown"))) == 1
    nobody = Page(reader.get(PATH))
    assert "No open by a person so far." in nobody.text
    assert f"{PATH}?state=opened" in [attrs["href"] for attrs in nobody.all("a")]


def test_recipients_page_says_who_withdrew(story, site, reader, secrets):
    site.post("/api/withdrawals", json={"recipients": ["ada"]})
    page = reader.get(f"{PATH}?state=withdrawn")
    assert keys_of(page) == [secrets.recipient_key("ada").hex()]
    assert '<span class="dim">withdrew</span>' in page.text


def test_recipients_page_search_finds_parts_of_names(listed, send):
    page = send(PATH, q="R44")
    assert_harmless(page)
    assert page.status_code == 200
    assert "11 found for" in Page(page).text
    assert len(keys_of(page)) == 11
    assert "0 found" in Page(send(PATH, q="nobody")).text
    many = Page(send(PATH, q="r")).text
    assert "450 found" in many
    assert "The first 100 are shown" in many


def test_recipients_page_search_without_names_opens_the_recipient(story, site, send, secrets):
    site.patch("/api/campaigns/mail", json={"mode": "pseudonymous"})
    found = send(PATH, q=" ada ")
    key = secrets.recipient_key("ada").hex()
    assert (found.status_code, found.headers["location"]) == (303, f"/recipients/{key}?campaign=mail")
    assert "0 found" in Page(send(PATH, q="nobody")).text


def test_recipients_page_hostile_search_is_harmless(listed, send):
    for text in (*EVIL, "x" * 300, "a\x00b"):
        answer = send(PATH, q=text)
        assert answer.status_code == (200 if text in EVIL else 422)
        assert_harmless(answer)


@pytest.mark.parametrize("text", EVIL)
def test_recipients_page_hostile_names_are_harmless(site, mail, reader, send, text):
    mail(mode="identified", name=text)
    line = json.dumps({"recipient": text, "name": text}) + "\n"
    site.put(f"/api{PATH}", content=line, headers=LIST)
    for page in (reader.get(f"{PATH}?state=all&sort=name"), send(PATH, q=text)):
        shown = assert_harmless(page)
        assert len(keys_of(page)) == 1
        assert shown.text.count(text) >= 2


def test_recipients_page_empty_search_shows_all(story, send):
    assert send(PATH, q="  ").headers["location"] == f"{PATH}?state=all"


def test_recipients_page_without_scope_people_is_403(sign_in, made_key, mail):
    mail()
    visitor = sign_in(made_key("read", "write")[1])
    assert visitor.get(PATH).status_code == 403
    assert visitor.post(PATH, data={"q": "ada"}).status_code == 403


def test_recipients_download_has_all_recipients(story, site, reader):
    table = reader.get("/campaigns/mail/recipients.csv?state=person")
    assert table.headers["content-disposition"] == 'attachment; filename="mail-person.csv"'
    assert table.text.count("\r\n") == 5
    accept = {"Accept": "application/x-ndjson"}
    lines = site.get("/api/campaigns/mail/recipients?state=person", headers=accept).text
    assert reader.get("/campaigns/mail/recipients.ndjson?state=person").text == lines
    noted = [line for line in site.get("/api/audit").json()["items"] if line["what"] == "recipients.read"]
    assert len(noted) == 3
