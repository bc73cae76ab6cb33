"""The page of a site: its range, its filters, and the names of its rows."""

from __future__ import annotations

import json
import re
from html import unescape
from urllib.parse import quote

import pytest

from pixel_server.counters import web_breakdown
from tests.dashboard.test_pages import assert_harmless, figures
from tests.stack import READER

DAY = "2026-09-20"
NOTES = "/campaigns/page/notes"
HOSTILE = '"><script>alert(1)</script>&country=XX'


@pytest.fixture
def visit(site, clock):
    """Returns a function that makes a visit of some pages, one a minute."""

    def make(at, who, *pages, language="de-AT", referrer=""):
        clock.at(at)
        for number, path in enumerate(pages):
            query = {"u": f"https://e.org{path}", "v": who, "r": "" if number else referrer}
            headers = {"User-Agent": READER, "Accept-Language": language}
            assert site.get("/p/page.gif", params=query, headers=headers).status_code == 200
            clock.now += 60

    return make


@pytest.fixture
def visited(page, visit, clock, stats):
    page(identity="own", name="Our site")
    visit("2026-08-01T09:00Z", "ada", "/old")
    visit(f"{DAY}T09:00Z", "ada", "/", "/pricing", referrer="https://www.google.com/")
    visit(f"{DAY}T10:00Z", "bob", "/pricing", language="en")
    clock.at(f"{DAY}T12:00Z")
    stats("page")


def row_links(answer):
    """Returns the queries of the rows that filter, by the text of the row: of the first, if two are equal."""
    found = re.findall(r'<a class="filter" href="/campaigns/page\?([^"]*)"><bdi>([^<]*)</bdi>', answer.text)
    return {unescape(name): unescape(query) for query, name in reversed(found)}


def lead(answer):
    """Returns the text of each main figure by its label, in the order of the page."""
    found = re.findall(r"<dt><span[^>]*>([^<]*)<.*?<dd>(.*?)</dd>", answer.text)
    return {label: unescape(re.sub(r"<[^>]*>", "", text)) for label, text in found}


def test_site_page_list_tells_what_it_leaves_out_and_shows_it_on_request(page, visit, clock, stats, reader):
    page(identity="own")
    visit(f"{DAY}T09:00Z", "ada", *(f"/{number:02}" for number in range(12)))
    clock.at(f"{DAY}T12:00Z")
    stats("page")
    answer = reader.get("/campaigns/page?language=de")
    [link] = re.findall(r'<a href="([^"]*)" aria-label="Pages: show 2 more">2 more</a>', answer.text)
    assert len(re.findall(r"<bdi>/[01]\d</bdi>", answer.text)) == 10 + 1 + 1, "pages, entry, exit"
    whole = reader.get(unescape(link))
    assert len(re.findall(r"<bdi>/[01]\d</bdi>", whole.text)) == 12 + 1 + 1
    assert "language=de" in link, "the filter stays"
    assert "Show fewer" in whole.text
    assert_harmless(reader.get(f"/campaigns/page?list={quote(HOSTILE)}"))


def test_site_page_list_with_visits_beyond_the_kept_names_shows_limits(
    page, visit, clock, stats, reader, monkeypatch
):
    """A name may be added to `(other)` on one day and kept on another, so no row shows all that it has."""
    monkeypatch.setattr(web_breakdown, "MAX_NAMES", 2)
    monkeypatch.setattr(web_breakdown, "KEPT_NAMES", 1)
    page(identity="own")
    visit(f"{DAY}T09:00Z", "ada", "/a", "/a", "/a", "/b", "/c")
    clock.at(f"{DAY}T12:00Z")
    stats("page")
    text = reader.get("/campaigns/page").text
    pages = text.partition('id="list-page"')[2].partition("</section>")[0]
    rows = re.findall(
        r'<bdi>([^<]*)</bdi></a></td><td class="n">([^<]*)</td><td class="n dim">([^<]*)<', pages
    )
    assert rows == [("/a", "3", "60\u2013100%")]
    assert "2 views are not counted by name. They belong to these names or others." in pages
    assert "at least" not in text.partition('id="list-country"')[2]


def test_site_page_names_its_own_days_in_the_range(visited, reader):
    answer = reader.get("/campaigns/page?from=2026-09-19&until=2026-09-19&page=/pricing")
    assert 'aria-current="true">Custom: 19 Sep 2026</summary>' in answer.text
    assert '<input type="hidden" name="page" value="/pricing">' in answer.text


def test_site_page_shows_last_30_days_and_all_time_on_request(visited, reader):
    answer = reader.get("/campaigns/page")
    assert_harmless(answer)
    shown = figures(answer)
    assert (shown["totals.views"], shown["totals.visits"]) == ("3", "2")
    assert "/old" not in answer.text
    assert "1 Nov" not in answer.text
    everything = reader.get("/campaigns/page?range=all")
    assert figures(everything)["totals.visits"] == "3"
    assert "/old" in everything.text, "the tables are of all days too"
    chart = unescape(re.search(r'data-chart="([^"]*)"', everything.text)[1])
    assert reader.get(chart).json()["series"][0]["start"][:10] <= "2026-08-01"
    assert 'aria-current="true">All time<' in everything.text


def chart(answer):
    """Returns (title, names of the drawn figures, link above the chart by its label, current label)."""
    title = re.search(r"<figcaption><h2>(.*?) <span", answer.text)[1]
    series = json.loads(unescape(re.search(r'data-series="([^"]*)"', answer.text)[1]))
    links = re.findall(r'<a href="([^"]*)#chart"( aria-current="true")?>([^<]*)<', answer.text)
    current = [label for _, is_current, label in links if is_current]
    return title, [name for name, *_ in series], {label: unescape(link) for link, _, label in links}, current


def test_site_page_links_choose_what_the_chart_draws(visited, reader):
    answer = reader.get("/campaigns/page?from=2026-09-01&until=2026-09-20")
    title, drawn, links, current = chart(answer)
    assert (title, drawn, current) == ("Unique visitors per day", ["unique_visitors"], ["Unique visitors"])
    assert list(links) == ["Unique visitors", "Visits", "Views"]
    visits = reader.get(links["Visits"])
    assert_harmless(visits)
    assert chart(visits)[:2] == ("Visits per day", ["visits"])
    assert chart(reader.get(links["Views"]))[:2] == ("Views per day", ["views", "visits"])
    for label in ("7 days", "All time"):
        link = unescape(re.search(rf'href="([^"]*)"[^>]*>{label}<', visits.text)[1])
        assert chart(reader.get(link))[1] == ["visits"], "another range keeps the chart"
    filtered = reader.get(f"/campaigns/page?{row_links(visits)['German']}")
    assert chart(filtered)[3] == ["Matching visits"], "a filter keeps the chart"
    assert chart(filtered)[0] == "Matching visits per day"
    assert '<input type="hidden" name="chart" value="visits">' in visits.text


@pytest.mark.parametrize(
    ("query", "interval", "visits", "views"),
    [
        ("chart=visitors&language=de", "day", "Matching visits", "Views in these visits"),
        ("chart=visitors&interval=hour", "hour", "Visits", "Views"),
        ("language=de", "day", "Matching visits", "Views in these visits"),
    ],
)
def test_site_page_chart_without_known_visitors_draws_views_and_visits(
    visited, reader, query, interval, visits, views
):
    answer = reader.get(f"/campaigns/page?from=2026-09-20&{query}")
    title, drawn, links, current = chart(answer)
    assert (title, drawn, current) == (f"{views} per {interval}", ["views", "visits"], [views])
    assert list(links) == [visits, views]
    assert f'<th scope="col" class="n">{views}</th>' in answer.text
    assert json.loads(unescape(re.search(r'data-series="([^"]*)"', answer.text)[1]))[0][1] == views
    assert "Unique visitors</th>" not in answer.text


def test_site_page_chart_hostile_choice_is_ignored(visited, reader):
    answer = reader.get("/campaigns/page", params={"chart": HOSTILE})
    assert_harmless(answer)
    assert chart(answer)[1] == ["unique_visitors"]
    assert "<script>alert" not in answer.text


@pytest.mark.parametrize(
    ("query", "says", "has_changes"),
    [
        ("from=2026-09-01&until=2026-09-19", ", with changes since the previous period.", True),
        (
            "from=2026-09-01&until=2026-09-20",
            ", with changes since the previous period, both without today.",
            True,
        ),
        ("from=2026-08-01&until=2026-09-20", ". No change is shown: no figures before 1 Aug 2026.", False),
        ("from=2026-07-28&until=2026-08-08", ". No change is shown: no figures before 1 Aug 2026.", False),
        ("from=2026-09-01&until=2026-09-20&language=de", "1 Sep 2026 to 20 Sep 2026.", False),
        ("from=2026-09-20&until=2026-09-20", "20 Sep 2026.", False),
    ],
)
def test_site_page_without_changes_says_why(visited, visit, stats, reader, clock, query, says, has_changes):
    visit("2026-08-31T09:00Z", "ada", "/old")
    clock.at(f"{DAY}T12:00Z")
    stats("page")
    answer = reader.get(f"/campaigns/page?{query}")
    fresh = re.sub(r"<[^>]*>", "", re.search(r'<p class="fresh">(.*?)</p>', answer.text, re.DOTALL)[1])
    assert fresh.strip().split("\n")[0].endswith(says)
    assert ('class="change"' in answer.text) == has_changes


@pytest.mark.parametrize("path", ["campaigns/page?", "compare?id=page&id=page2&"])
def test_site_page_changes_compare_whole_days(visited, visit, stats, reader, site, clock, path):
    """Today is not over: without this rule each change would be a fall until the evening."""
    site.post("/api/campaigns", json={"id": "page2", "name": "Other", "kind": "web"})
    for day, views in ((1, 1), (2, 4), (12, 2)):
        for number in range(views):
            visit(f"2026-09-{day:02}T09:{number:02}Z", "ada", f"/{number}")
    clock.at(f"{DAY}T12:00Z")
    stats("page")
    answer = reader.get(f"/{path}from=2026-09-11&until=2026-09-20")
    changes = re.findall(r'class="change"[^>]*>([^<]*)<', answer.text)
    assert "\u221250.0%" in changes
    assert "both without today" in answer.text


def test_site_page_names_are_spelled_out(visited, reader):
    names = row_links(reader.get("/campaigns/page"))
    assert {"German", "English", "Desktop", "Search", "No referrer"} <= names.keys()


def test_site_page_click_on_rows_filters_the_whole_page(visited, reader, site):
    query = row_links(reader.get("/campaigns/page?from=2026-09-01"))["/pricing"]
    one = reader.get(f"/campaigns/page?{query}")
    assert_harmless(one)
    assert figures(one)["totals.visits"] == "2"
    assert "2 of 2 visits match" in one.text
    two = reader.get(f"/campaigns/page?{row_links(one)['German']}")
    assert figures(two)["totals.visits"] == "1"
    assert (figures(two)["totals.views"], figures(two)["bounce_share"]) == ("2", "0%")
    chips = re.findall(r"<li>([^<]*) <bdi>([^<]*)</bdi> <a href=\"([^\"]*)\"", two.text)
    assert [chip[:2] for chip in chips] == [("Visits that saw", "/pricing"), ("Language:", "German")]
    assert "page=" not in chips[0][2]
    assert "language=de" in chips[0][2]
    assert "from=2026-09-01" in chips[0][2], "the range stays"
    [clear] = re.findall(r'<a href="([^"]*)">Clear all</a>', two.text)
    assert "from=2026-09-01" in clear
    assert "page=" not in clear
    assert "language=" not in clear
    assert "data-live" not in two.text, "live figures have no filter"
    assert lead(two) == {
        **{"Unique visitors": "\u2013not with a filter", "Matching visits": "1"},
        **{"Views in these visits": "21 of /pricing", "Bounce rate": "0%of these visits"},
        **{"Visit duration": "1 minof these visits", "Time on page": "\u2013not with a filter"},
    }
    assert list(lead(two)) == list(lead(one)), "each figure keeps its place"
    data = unescape(re.search(r'data-chart="([^"]*)"', two.text)[1])
    assert sum(item["visits"] for item in reader.get(data).json()["series"]) == 1
    download = unescape(re.search(r'href="([^"]*/breakdowns.csv[^"]*)"', two.text)[1])
    assert "en,\n" not in reader.get(download).text
    assert "language,de,2,1" in reader.get(download).text
    ask = {"page": "/pricing", "language": "de", "from": "2026-09-01"}
    found = site.get("/api/campaigns/page/stats", params=ask).json()
    assert found["totals"]["views"] == 2, "the API has the same figures under the same names"
    assert "of /pricing" not in reader.get("/campaigns/page?language=de").text
    assert lead(reader.get("/campaigns/page?page=/none"))["Views in these visits"] == "00 of /none"
    text = reader.get("/campaigns/page?entry_page=/&exit_page=/pricing").text
    assert re.findall(r"<li>([^<]*) <bdi>", text) == ["Visits that began on", "Visits that ended on"]


def test_site_page_hostile_names_in_filters_are_harmless(visited, reader, visit, clock, stats):
    visit(f"{DAY}T13:00Z", "eve", f"/{HOSTILE}")
    stats("page")
    answer = reader.get("/campaigns/page")
    (query,) = [query for name, query in row_links(answer).items() if name == f"/{HOSTILE}"][:1]
    chosen = reader.get(f"/campaigns/page?{query}")
    assert_harmless(chosen)
    assert figures(chosen)["totals.visits"] == "1"
    assert "<script>alert" not in chosen.text
    for name in ("\udcff", "\x00", "x" * 160, "%00", "\u2019"):
        assert_harmless(reader.get("/campaigns/page", params={"country": name.encode("utf-8", "replace")}))


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("country=", "The filter Country must not be empty"),
        (f"page={'x' * 161}", "The filter Page must have at most 160 characters"),
        ("from=yesterday&page=/", "The first day must be a date"),
    ],
)
def test_site_page_filter_that_cannot_be_used_says_why(visited, reader, query, says):
    answer = reader.get(f"/campaigns/page?{query}")
    assert answer.status_code == 422
    assert says in answer.text
    assert figures(answer)["totals.visits"] == "2", "the page stays usable"


def test_site_page_mode_count_has_no_filters(page, visit, stats, clock, reader):
    page(mode="count")
    visit(f"{DAY}T09:00Z", "ada", "/pricing")
    clock.at(f"{DAY}T12:00Z")
    stats("page")
    answer = reader.get("/campaigns/page")
    assert "/pricing" in answer.text
    assert row_links(answer) == {}
    assert chart(answer)[1:] == (["views", "visits"], {}, []), "there is nothing to choose"
    refused = reader.get("/campaigns/page?page=/pricing")
    assert refused.status_code == 409
    assert "does not tell visitors apart" in refused.text


def test_site_page_bots_are_one_line(visited, reader, site, clock, stats):
    bot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    site.get("/p/page.gif", params={"u": "https://e.org/"}, headers={"User-Agent": bot})
    clock.at(f"{DAY}T12:30Z")
    stats("page")
    text = re.sub(r"<[^>]*>", "", reader.get("/campaigns/page").text)
    assert re.search(r"Bots.*: 1 view \(25\.0% of all\) by machines", text)


@pytest.mark.parametrize("shown", ["from=2026-09-01", "range=all&chart=visits"])
def test_site_page_note_saved_keeps_range_and_filters(visited, reader, send, shown):
    query = row_links(reader.get(f"/campaigns/page?{shown}"))["German"]
    saved = send(f"/campaigns/page?{query}", NOTES, text="Moved")
    assert saved.headers["location"] == f"/campaigns/page?{query}&done=noted#notes"
    after = reader.get(saved.headers["location"])
    assert figures(after)["totals.visits"] == ("2" if shown.startswith("range=all") else "1")
    refused = send(f"/campaigns/page?{query}", NOTES, text=" ")
    assert refused.status_code == 422
    assert_harmless(refused)
    assert figures(refused) == figures(after)


def test_site_page_note_saved_drops_foreign_parameters(visited, reader, send):
    hostile = f"language=de&next=//evil.example&done=removed&page={quote(HOSTILE)}"
    saved = send("/campaigns/page", NOTES, text="Moved", range=hostile)
    assert saved.headers["location"] == (
        f"/campaigns/page?language=de&page={quote(HOSTILE, safe='')}&done=noted#notes"
    )
    assert_harmless(reader.get(saved.headers["location"]))
    assert send("/campaigns/page", NOTES, text="Kept out", range=f"page={'x' * 161}").status_code == 422
    assert "Kept out" not in reader.get("/campaigns/page").text


def test_site_page_visitor_days_have_one_name_and_are_visitors_on_one_day(page, visit, clock, stats, reader):
    page(identity="cookieless")
    for day in ("2026-09-19", DAY):
        visit(f"{day}T09:00Z", "", "/")
    clock.at(f"{DAY}T12:00Z")
    stats("page")
    two_days = assert_harmless(reader.get(f"/campaigns/page?from=2026-09-19&until={DAY}")).text
    assert "Visitor-days are the visitors of each day" in two_days
    assert two_days.count("Visitor-days") >= 3
    assert "Unique visitors" not in two_days
    one_day = assert_harmless(reader.get(f"/campaigns/page?from={DAY}&until={DAY}")).text
    assert "Unique visitors per day" in one_day
    assert "isitor-days" not in one_day


@pytest.mark.parametrize("kind", ["mail", "page"])
def test_campaign_page_without_a_request_leads_to_its_setup(kind, mail, page, opened, viewed, stats, reader):
    {"mail": mail, "page": page}[kind]()
    path = f"/campaigns/{kind}?from={DAY}&until={DAY}"
    shown = assert_harmless(reader.get(path))
    assert "Nothing was ever counted here. Set up the pixel" in shown.text
    assert f"/campaigns/{kind}" in [link["href"] for link in shown.all("a")]
    {"mail": opened, "page": viewed}[kind](f"{DAY}T09:00Z", "ada")
    stats(kind)
    assert "Nothing was ever counted" not in reader.get(path).text
