"""The page of a share link: figures, frames, expiry and invalid links."""

from __future__ import annotations

import json
import logging
import re
from html import unescape

import pytest
import redis

from pixel_server.auth import sessions, share_links
from pixel_server.dashboard import shared_figures
from pixel_server.figures import shared_stats
from tests.conftest import API_KEY
from tests.dashboard.test_pages import EVIL, Page, assert_harmless

DAY = "2026-09-20"
FRAME = "https://www.example.org"
MACHINE = "Mozilla/5.0"
"""User agent of Apple's mail program, which loads the images of all mails by machine."""


@pytest.fixture
def share(site):
    """Returns a function that creates a share link and returns its path."""

    def make(campaign="mail", **fields):
        made = site.post(f"/api/campaigns/{campaign}/shares", json={"name": "A partner", **fields})
        assert made.status_code == 201, made.text
        return made.json()["url"].removeprefix("http://pixel.test")

    return make


@pytest.fixture
def story(site, mail, page, opened, viewed, stats, clock):
    """Counts a mail with three opens on one day and one on the next, and a page with the same visits."""
    clock.at(f"{DAY}T08:00Z")
    mail(min_cell=3, sent=10, name="Spring mail")
    page(min_cell=3, name="Our site")
    for n, who in enumerate(("ada", "bob", "cyd")):
        opened(f"{DAY}T09:{n:02}Z", who)
        viewed(f"{DAY}T10:{n:02}Z", who)
    opened("2026-09-21T09:00Z", "dan")
    viewed("2026-09-21T09:00Z", "dan")
    clock.at("2026-09-22T12:00Z")
    stats("mail")


def assert_is_over(visitor, path):
    """Checks for the answer that all invalid links get."""
    answer = visitor.get(path)
    assert answer.status_code == 404
    page = assert_harmless(answer)
    assert "This link is no longer valid" in page.text
    assert not page.all("a") or {attrs["href"] for attrs in page.all("a")} == {"#main"}
    assert_headers(answer)
    told = visitor.get(f"{path}/stats.json")
    assert (told.status_code, told.json()["detail"]) == (404, "this link is no longer valid")
    assert_headers(told)
    return answer.text


def assert_headers(answer, framed_by="'none'"):
    assert f"frame-ancestors {framed_by}" in answer.headers["content-security-policy"]
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-robots-tag"] == "noindex"
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers
    assert "x-frame-options" not in answer.headers


@pytest.mark.parametrize("name", ["mail", "page"])
def test_public_share_figures_equal_those_of_a_shared_key(story, site, visitor, share, name):
    path = share(name)
    answer = visitor.get(path)
    assert answer.status_code == 200
    page = assert_harmless(answer)
    key = site.post("/api/keys", json={"name": "Partner", "scopes": [f"read:{name}"]}).json()["key"]
    asked = site.get(f"/api/campaigns/{name}/stats", headers={"Authorization": f"Bearer {key}"}).json()
    assert visitor.get(f"{path}/stats.json").json() == asked
    figures = dict(re.findall(r"<dt>.*?>([A-Z][a-z, -]+)<.*?</dt><dd>([^<]*)</dd>", answer.text))
    label, unit = ("Opens, machines too", "opens") if name == "mail" else ("Views", "visits")
    assert figures[label] == "3"
    assert asked["totals"]["opens" if name == "mail" else "views"] == 3
    assert f"fewer than 3 {unit}" in page.text
    assert "20 Sep 2026" in page.text
    assert "21 Sep 2026" not in page.text, "a day of one"
    assert "dan" not in answer.text
    [chart] = page.all("figure")
    assert chart["data-chart"] == f"{path}/stats.json?from={DAY}&to=2026-09-21"
    drawn = visitor.get(chart["data-chart"]).json()
    assert [item["start"][:10] for item in drawn["series"]] == [DAY], "no day beyond those that are shown"
    assert "Figures of 20 Sep 2026. Updated " in page.text
    assert "22 Sep 2026, 12:00 UTC" in page.text
    assert "20 Sep 2026 to" not in page.text
    assert drawn["totals"] == asked["totals"]
    assert len(answer.content) < 100_000


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("mail", ["Opened by people", "Delivered", "Opened by people or machines", "Opens, machines too"]),
        ("page", ["Views", "Visits", "Views per visit", "Busiest day"]),
    ],
)
def test_public_share_shows_several_figures(story, visitor, share, name, labels):
    page = visitor.get(share(name)).text
    found = re.findall(r"<div><dt>(?:<span[^>]*>)?([^<]+)", page)
    assert found == labels
    units = re.findall(r'<dd>[\d,]+ <span class="unit">([^<]+)', page)
    assert units == (["recipients", "mails", "recipients"] if name == "mail" else [])
    assert ("Each open counts, so a recipient can count more than once." in page) == (name == "mail")
    assert (">Open rate<" in page) == (name == "mail"), "nobody else opened, so the rate is exact"
    assert ("Counted, of the delivered mails." in page) == (name == "mail")


def test_public_share_with_machines_leads_with_opens_by_people(
    story, site, visitor, share, opened, clock, stats, sign_in
):
    site.headers["User-Agent"] = MACHINE
    for n in range(3):
        opened(f"{DAY}T11:{n:02}Z", f"machine {n}")
    clock.at("2026-09-22T13:00Z")
    stats("mail")
    page = " ".join(visitor.get(share("mail")).text.split())
    assert ">Opened by people<" in page
    assert ">Open rate<" not in page
    assert "The sender also sees an estimate." in page
    assert "data-steps" in page
    owner = sign_in().get("/campaigns/mail/shares").text
    [share_of_guests] = re.findall(r'<p class="big">([^<]+)</p>', page)
    assert f"Guests see that people opened {share_of_guests} of the delivered mails." in owner
    assert "Recipients and today\u2019s figures are not shown." in owner
    assert "Recipients and" not in sign_in().get("/campaigns/page/shares").text


def days(*opens):
    return [{"start": f"2026-09-{20 + n}T00:00:00+00:00", "opens": each} for n, each in enumerate(opens)]


@pytest.mark.parametrize(
    ("opens", "until", "shown", "is_rate_to_last_day"),
    [
        ((None, 90, 6, None, 3, None), "2026-09-23T00:00:00+00:00", [90, 6], True),
        ((90, 6, 50), "2026-09-22T00:00:00+00:00", [90, 6, 50], False),
        ((90, 6, None), "2026-09-25T00:00:00+00:00", [90, 6], True),
        ((90, None, 6, None), None, [90, None, 6], True),
        ((None, None), "2026-09-22T00:00:00+00:00", [], True),
    ],
)
def test_shown_days_end_with_the_open_rate_unless_much_follows(opens, until, shown, is_rate_to_last_day):
    stats = {"series": days(*opens), "open_rate": {"until": until} if until else None}
    span, is_to_last_day = shared_figures.shown_days(stats, "opens")
    assert [item["opens"] for item in span] == shown
    assert is_to_last_day == is_rate_to_last_day


def test_public_share_says_when_it_was_sent(story, site, visitor, share):
    site.patch("/api/campaigns/mail", json={"sent_at": f"{DAY}T06:30:00Z"})
    page = assert_harmless(visitor.get(share("mail")))
    assert "Sent 20 Sep 2026, 06:30 UTC to 10." in re.sub(r"\s+", " ", page.text)
    assert "Figures shared by" not in page.text, "no operator is set"


def test_public_share_breakdowns_group_small_values(story, visitor, share):
    answer = visitor.get(share("mail"))
    assert "Thunderbird" in answer.text
    found = assert_harmless(visitor.get(share("page")))
    assert "Devices" in found.text
    assert "UTM source" not in found.text, "nobody used one"
    assert "Languages" not in found.text, "it is not shared"


@pytest.fixture
def two_months(site, page, clock, stats):
    """Counts views of 12 pages in August, then of two on a Monday and of two on the Sunday of that week."""
    page(min_cell=1, name="Our site")

    def visit(at, paths):
        clock.at(at)
        for path in paths:
            assert site.get("/p/page.gif", params={"v": path, "u": f"https://e.org{path}"}).status_code == 200

    visit("2026-08-10T10:00Z", (f"/august/{number:02}" for number in range(12)))
    visit("2026-09-14T10:00Z", ["/monday", "/", "/"])
    visit("2026-09-20T10:00Z", ["/sunday", "/"])
    clock.at("2026-09-22T12:00Z")
    stats("page")


def test_public_share_list_with_withheld_visits_shows_limits(site, page, clock, stats, visitor, share):
    """Withheld visits may belong to any row, so no row shows all that a name has."""
    page(min_cell=3, name="Our site")
    clock.at("2026-09-14T10:00Z")
    for number, path in enumerate(["/a"] * 6 + ["/b", "/c", "/d"]):
        params = {"v": str(number), "u": f"https://e.org{path}"}
        assert site.get("/p/page.gif", params=params).status_code == 200
    clock.at("2026-09-22T12:00Z")
    stats("page")
    text = visitor.get(share("page")).text
    pages = text.partition(">Pages<")[2].partition("</table>")[0]
    rows = re.findall(r'<bdi>([^<]*)</bdi></td><td class="n">([^<]*)</td><td class="n dim">([^<]*)<', pages)
    assert rows == [("/a", "6", "66\u2013100%")]
    assert '>Views, <span class="base">at least<' in pages
    assert re.findall(r'<rect[^>]* width="([^"]*)"', pages) == ["100%", "66.67%"]
    below = text.partition(">Pages<")[2].partition("</section>")[0]
    assert "3 views are withheld. They belong to these names or others." in below
    devices = text.partition(">Devices<")[2].partition("</section>")[0]
    assert ">Visits<" in devices, "nothing is withheld"
    assert "100%" in devices
    assert "withheld" not in devices


def main_figures(text):
    return dict(re.findall(r"<dt>(?:<span[^>]*>)?([A-Z][a-z ]+).*?</dt><dd>([^<]*)</dd>", text))


@pytest.mark.parametrize(
    ("query", "views", "first", "listed_from", "current"),
    [
        ("days=7", "2", "2026-09-15", "2026-09-14", "7 days"),
        ("days=30", "5", "2026-08-23", "2026-08-17", "30 days"),
        ("days=90", "17", "2026-06-24", "2026-06-22", "90 days"),
        ("", "17", "2025-09-22", "2025-09-22", "365 days"),
        ("days=8", "17", "2025-09-22", "2025-09-22", "365 days"),
    ],
)
def test_public_share_days_of_a_site_show_what_a_shared_key_may_read(
    two_months, site, visitor, share, query, views, first, listed_from, current
):
    answer = visitor.get(f"{share('page')}?{query}")
    assert_harmless(answer)
    assert_headers(answer)
    key = site.post("/api/keys", json={"name": "Partner", "scopes": ["read:page"]}).json()["key"]

    def ask(path, start):
        headers = {"Authorization": f"Bearer {key}"}
        return site.get(f"/api/campaigns/page/{path}?from={start}", headers=headers).json()

    assert main_figures(answer.text)["Views"] == views == str(ask("stats", first)["totals"]["views"])
    assert len(answer.content) < 100_000
    listed = dict(re.findall(r"<bdi>(/[^<]*)</bdi></td><td class=\"n\">(\d+)<", answer.text))
    known = {row["name"]: str(row["views"]) for row in ask("breakdowns", listed_from)["by"]["page"]}
    assert len(listed) == min(10, len(known))
    assert listed.items() <= known.items()
    assert re.findall(r'aria-current="true">([^<]*)<', answer.text) == [current]


def test_public_share_week_names_the_days_of_its_lists(two_months, visitor, share):
    path, other_days = share("page"), "These are not the days above, because lists count whole weeks"
    text = Page(visitor.get(f"{path}?days=7")).text
    assert "Figures of 20 Sep 2026. " in text
    assert re.search("Lists of 14 Sep 2026 to 20 Sep 2026", text)
    assert other_days in text
    assert "/august" not in text
    assert other_days not in visitor.get(path).text


def test_public_share_list_of_a_site_opens_whole(two_months, visitor, share):
    path = share("page")
    text = visitor.get(f"{path}?days=90").text
    [link] = re.findall(r'<a href="([^"]*)" aria-label="Pages: show \d+ more">', text)
    assert unescape(link) == "?days=90&list=page#list-page"
    whole = visitor.get(f"{path}{unescape(link)}")
    assert_harmless(whole)
    assert len(set(re.findall(r"<bdi>(/[^<]*)</bdi>", whole.text))) == 15
    assert "more</a>" not in whole.text
    hostile = visitor.get(path, params={"days": '7"><script>1337', "list": "language"})
    assert_harmless(hostile)
    assert "1337" not in hostile.text


def test_public_share_days_without_figures_offer_other_days(two_months, visitor, share, clock, stats):
    clock.at("2026-10-20T12:00Z")
    stats("page")
    text = visitor.get(f"{share('page')}?days=7").text
    assert "There is nothing to show in these days." in text
    assert 'href="?days=90"' in text


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("from=x", 422),
        ("from=2026-09-22", 422),
        ("interval=15m", 403),
        ("tz=Asia/Tokyo", 403),
        ("to=%00", 422),
    ],
)
def test_public_share_range_not_shared_is_refused(story, visitor, share, query, status):
    answer = visitor.get(f"{share()}/stats.json?{query}")
    assert answer.status_code == status
    assert_headers(answer)


def test_public_share_no_shared_day_says_so(mail, page, visitor, share, clock):
    clock.at(f"{DAY}T08:00Z")
    mail()
    page()
    for name in ("mail", "page"):
        answer = visitor.get(share(name))
        assert answer.status_code == 200
        assert "There is nothing to show yet" in assert_harmless(answer).text


def test_public_share_opens_no_other_page(story, visitor, share):
    path = share("mail")
    answer = visitor.get(path)
    assert_headers(answer)
    assert_headers(visitor.get(f"{path}/stats.json"))
    page = Page(answer)
    assert [attrs["href"] for attrs in page.all("a")] == ["#main"]
    assert not page.all("form")
    token = path.rpartition("/")[2]
    assert answer.text.count(token) == 1, "in the address of its chart alone"
    assert not visitor.cookies
    assert visitor.get("/campaigns/mail").status_code == 303
    assert visitor.get(f"{path}/recipients").status_code == 404
    assert visitor.post(path).status_code == 405


def test_public_share_ignores_a_session(story, visitor, share, sign_in):
    path = share("mail")
    without = visitor.get(path)
    reader = sign_in(API_KEY)
    assert sessions.COOKIE in reader.cookies
    assert reader.get(path).text == without.text
    reader.cookies.set(sessions.COOKIE, "forged")
    answer = reader.get(path)
    assert answer.text == without.text
    assert "set-cookie" not in answer.headers


def test_public_share_allows_listed_frame_origins(story, visitor, share):
    path = share("mail", frames=[FRAME, "http://localhost:8000"])
    assert_headers(visitor.get(path), f"{FRAME} http://localhost:8000")
    assert_headers(visitor.get(f"{path}/stats.json"), f"{FRAME} http://localhost:8000")
    assert_headers(visitor.get(share("mail")))


def test_public_share_expired_or_revoked_answers_404(story, site, visitor, share, clock):
    ended = share("mail", expires_at="2026-09-23T00:00:00Z", frames=[FRAME])
    revoked, kept, gone = share("mail", name="Revoke"), share("mail"), share("page")
    for item in site.get("/api/campaigns/mail/shares").json()["items"]:
        if item["name"] == "Revoke":
            assert site.delete(f"/api/campaigns/mail/shares/{item['id']}").status_code == 204
    assert visitor.get(kept).status_code == 200
    texts = {assert_is_over(visitor, revoked)}
    clock.at("2026-09-23T00:00Z")
    texts.add(assert_is_over(visitor, ended))
    assert site.delete("/api/campaigns/page").status_code == 204
    texts.add(assert_is_over(visitor, gone))
    texts.add(assert_is_over(visitor, "/s/" + "A" * 32))
    assert len(texts) == 1, "nobody can tell which"


@pytest.mark.parametrize("token", ["x", "%00", "%0a", "..%2f", "A" * 5000, "%ff", "%F0%9F%98%80"])
def test_public_share_invalid_token_answers_404(site, visitor, token):
    assert visitor.get(f"/s/{token}").status_code == 404
    assert visitor.get(f"/s/{token}/stats.json").status_code == 404


@pytest.mark.parametrize("evil", EVIL)
def test_public_share_hostile_names_are_harmless(site, mail, opened, stats, clock, visitor, share, evil):
    clock.at(f"{DAY}T08:00Z")
    mail(name=evil, min_cell=1)
    opened(f"{DAY}T09:00Z")
    clock.at("2026-09-22T12:00Z")
    stats("mail")
    page = assert_harmless(visitor.get(share("mail")))
    assert evil in page.text
    assert "1337" not in page.text


@pytest.mark.parametrize("error", [redis.ConnectionError, redis.ResponseError])
def test_public_share_token_is_not_logged(story, visitor, share, monkeypatch, caplog, error):
    path = share("mail")
    token = path.rpartition("/")[2]

    async def fails(*_args):
        raise error("LOADING")

    caplog.set_level(logging.DEBUG)
    visitor.get(path)
    monkeypatch.setattr(share_links, "find", fails)
    answer = visitor.get(path)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert_headers(answer)
    assert "cannot be read at the moment" in assert_harmless(answer).text
    assert token not in answer.text
    told = visitor.get(f"{path}/stats.json")
    assert told.status_code == 503
    assert_headers(told)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("pixel_server")]
    assert token not in json.dumps(lines)
    assert (error is redis.ResponseError) == any("Redis refuses /s/{token}" in line for line in lines)


def test_shared_key_page_equals_public_share(story, site, sign_in, visitor, share):
    key = site.post("/api/keys", json={"name": "Partner", "scopes": ["read:mail"]}).json()["key"]
    shown = visitor.get(share("mail"))
    reader = sign_in(key)
    answer = reader.get("/campaigns/mail")
    page = assert_harmless(answer)
    assert page.all("dd") == Page(shown).all("dd")
    [chart] = page.all("figure")
    asked = reader.get(chart["data-chart"])
    assert asked.json()["totals"]["opens"] == 3
    assert "verdicts" not in asked.json()
    assert reader.get("/campaigns/page/stats.json").status_code == 403


def test_public_share_range_of_many_years_is_refused(story, visitor, share):
    answer = visitor.get(f"{share()}/stats.json?from=2016-12-01&to=2026-09-20")
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"field": "from", "message": "the range must not be longer than 1,100 days"}
    ]
    assert_headers(answer)
    assert visitor.get(f"{share()}/stats.json?from=2023-10-01&to=2026-09-20").status_code == 200


def test_public_share_many_requests_read_once_a_minute(story, visitor, share, clock, monkeypatch):
    read = shared_stats.read_with_months
    times = 0

    async def counted(*args):
        nonlocal times
        times += 1
        return await read(*args)

    monkeypatch.setattr(shared_stats, "read_with_months", counted)
    path = f"{share()}/stats.json"
    answers = {visitor.get(f"{path}?from={DAY}").text for _ in range(10)}
    assert len(answers) == 1
    assert times == 1
    assert visitor.get(f"{path}?from=2026-09-19").text not in answers
    assert times == 2
    clock.at("2026-09-22T12:01Z")
    visitor.get(f"{path}?from={DAY}")
    assert times == 3
    pages = {visitor.get(share()).status_code for _ in range(10)}
    assert pages == {200}
    assert times <= 5
