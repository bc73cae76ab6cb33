"""The pages: figures equal the stats, hostile input is harmless, and no page answers 500."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import parse_qsl

import pytest
from starlette.testclient import TestClient

from pixel_server.app import create_app
from pixel_server.auth import sessions
from pixel_server.dashboard import figure_texts, formatting, names
from pixel_server.mail.links import Minter
from pixel_server.store import jobs
from pixel_server.store.client import connect, connect_async
from tests.conftest import API_KEY
from tests.stack import READER

DAY = "2026-09-20"
SCANNER = "python-requests/2.32.3"
EVIL = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\u202egnp.exe",
    "{{ 7 * 191 }}",
    "w" * 190,
    "&amp;lt;b&gt;",
)


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, answer):
        super().__init__()
        self.found, self.text, self.open = [], "", []
        self.feed(answer.text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.found if name == tag]


def figures(answer):
    """Returns the texts of the figures in a page, by path."""
    found = re.findall(r'data-figure="([\w.]+)">([^<]*)<', answer.text)
    return dict(found)


def assert_harmless(answer):
    """Checks that a page loads only our own files, without inline scripts, styles or handlers."""
    page = Page(answer)
    for tag, attrs in page.found:
        assert tag not in ("iframe", "object", "embed", "base", "style", "img"), tag
        assert not [name for name in attrs if name.startswith("on") or name in ("style", "srcdoc")], attrs
        for name in ("href", "src", "action", "data-chart", "data-live", "data-figures"):
            assert not re.match(r"\s*(?!/|\?|#|$)", attrs.get(name) or ""), attrs
        if tag == "script":
            assert attrs["src"].startswith("/static/")
    ids = [attrs["id"] for _, attrs in page.found if "id" in attrs]
    assert len(ids) == len(set(ids)), "an id stands twice"
    known = {word for _, attrs in page.found for word in (attrs.get("aria-describedby") or "").split()}
    assert known <= set(ids)
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    return page


@pytest.fixture
def story(site, mail, page, clock, secrets, viewed, stats):
    """Counts a mail that five of ten opened, one by a scanner only, and a page with two visitors."""
    clock.at(f"{DAY}T08:00Z")
    mail(mode="identified", sent=10, sent_at=f"{DAY}T08:00:00Z", name="Spring mail")
    page(name="Our site")
    minter = Minter("http://pixel.test", secrets)
    for n, (who, agent) in enumerate(
        [
            ("ada", READER),
            ("ada", READER),
            ("bob", SCANNER),
            ("cyd", READER),
            ("dan", READER),
            ("eve", READER),
        ]
    ):
        clock.at(f"{DAY}T09:{n:02}Z")
        answer = site.get(minter.url("mail", who, now=clock.now), headers={"User-Agent": agent})
        assert answer.headers["x-pixel"] == "recorded"
    for n, who in enumerate(("ada", "ada", "bob")):
        viewed(f"{DAY}T10:{n:02}Z", who)
    clock.at(f"{DAY}T12:00Z")
    stats("mail")


def test_campaign_page_mail_figures_equal_stats(story, site, reader):
    answer = reader.get("/campaigns/mail")
    page, shown = assert_harmless(answer), figures(answer)
    found = site.get("/api/campaigns/mail/stats").json()
    assert found["totals"]["unique_opens"] == 5
    assert shown["totals.unique_opens"] == "5"
    assert shown["totals.unique_opens_person"] == "4"
    assert shown["totals.opens"] == "6"
    assert (shown["open_rate.low"], shown["open_rate.high"]) == ("40%", "50%")
    assert shown["verdicts.scanner.hits"] == "1"
    assert "Thunderbird" in page.text
    assert "Half opened within" in page.text
    assert shown == {path: figure_texts.texts_of(found)[path] for path in shown if path != "as_of"} | {
        "as_of": shown["as_of"]
    }


def test_campaign_page_web_figures_equal_stats(story, reader):
    answer = reader.get("/campaigns/page")
    assert_harmless(answer)
    shown = figures(answer)
    assert (shown["totals.views"], shown["totals.visits"], shown["totals.unique_visitors"]) == ("3", "2", "2")
    assert shown["bounce_share"] == "50.0%"


def test_campaign_page_all_time_chart_names_its_days(story, site, reader):
    site.patch("/api/campaigns/mail", json={"sent_at": None})
    caption = re.compile(r"<figcaption>.*?<span class=\"days\">the last 30 days</span></h2></figcaption>")
    assert caption.search(reader.get("/campaigns/mail").text)
    assert caption.search(reader.get("/campaigns/mail?interval=hour").text)
    series = reader.get("/campaigns/mail/stats.json").json()["series"]
    assert len(series) == 30
    ranged = reader.get(f"/campaigns/mail?from={DAY}").text
    assert "<figcaption>" in ranged
    assert "the last 30 days" not in ranged


def test_campaign_list_shows_a_table_of_each_kind(story, reader):
    answer = reader.get("/")
    page = assert_harmless(answer)
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", answer.text) == ["Mailings", "Sites"]
    main = page.text.partition("Search")[2]
    assert main.index("Spring mail") < main.index("Sites") < main.index("Our site")
    cells = dict(re.findall(r'data-label="([^"]*)">(.*?)</td>', answer.text))
    assert "20 Sep 2026" in cells["Sent on"]
    assert (cells["Sent to"], cells["By people"]) == ("10", "4")
    assert "<b>≈ 40%</b> estimated" in cells["Open rate"]
    assert "40% to 50%" in cells["Open rate"]
    assert (cells["All visitors"], cells["All views"]) == ("2", "3")
    assert len(answer.content) < 100_000
    mailings = reader.get("/?kind=email").text
    assert ">Spring mail<" in mailings
    assert ">Our site<" not in mailings


def test_campaign_list_draft_comes_last_and_is_marked(story, mail, reader):
    mail(id="draft", name="Draft", sent_at=None)
    text = reader.get("/?kind=email").text
    rows = re.findall(r'<tr( class="draft")?>\s*<th scope="row">.*?/campaigns/([a-z-]+)', text, re.DOTALL)
    assert rows == [("", "mail"), (' class="draft"', "draft")]
    assert re.search(r'<td data-label="Sent on"><span class="dim">not set</span>.*created', text)


def heads(answer):
    """Returns the column heads that sort: the direction (or "") and the address of each, by label."""
    found = re.findall(
        r'<th scope="col"[^>]*?(?: aria-sort="(\w+)")?><a href="([^"]*)">(.*?)</a>', answer.text
    )
    return {label: (direction, html.unescape(address)) for direction, address, label in found}


def test_campaign_list_column_heads_sort_and_reverse(site, reader):
    for name, sent in (("mail 2", 5), ("mail 10", 9), ("Mail 1", None)):
        made = {"id": name.lower().replace(" ", "-"), "name": name, "kind": "email", "sent": sent}
        assert site.post("/api/campaigns", json=made).status_code == 201

    def ids(answer):
        return re.findall(r'<a href="/campaigns/([a-z0-9-]+)"', answer.text)

    first = reader.get("/")
    assert heads(first)["Sent on"][0] == "descending"
    assert [label for label, (direction, _) in heads(first).items() if direction] == ["Sent on"]
    by_name = reader.get("/" + heads(first)["Name"][1])
    assert ids(by_name) == ["mail-1", "mail-2", "mail-10"]
    assert heads(by_name)["Name"][0] == "ascending"
    assert ids(reader.get("/" + heads(by_name)["Name"][1])) == ["mail-10", "mail-2", "mail-1"]
    by_sent = reader.get("/" + heads(by_name)["Sent to"][1])
    assert ids(by_sent) == ["mail-10", "mail-2", "mail-1"], "without a number last"
    assert ids(reader.get("/" + heads(by_sent)["Sent to"][1])) == ["mail-2", "mail-10", "mail-1"]


def test_campaign_list_tags_filter(mail, page, reader):
    mail(name="Spring", tags=["News", "spring"])
    mail(id="other", name="Autumn", tags=["news"])
    page(name="Site")
    answer = reader.get("/")
    chips = re.findall(
        r'<a class="tag" href="([^"]*)"><bdi>(.*?)</bdi> <span class="dim">(\d+)<', answer.text
    )
    assert {(name.lower(), number) for _, name, number in chips} == {("news", "2"), ("spring", "1")}
    tagged = reader.get("/?tag=NEWS")
    assert_harmless(tagged)
    tabs = tagged.text.partition('aria-label="Kinds of campaign">')[2].partition("</nav>")[0]
    assert re.findall(r">([^<]+)</a>", tabs) == ["All", "Mailings 2", "Sites 0"], "a tag keeps the tabs"
    for name, is_shown in (("Spring", True), ("Autumn", True), ("Site", False)):
        assert (f"<bdi>{name}</bdi>" in tagged.text) == is_shown
    both = reader.get("/?tag=spring&q=aut").text
    assert "has \u201c<bdi>aut</bdi>\u201d in its name or id and has the tag" in both
    for query in ("tag=", "tag=%00", "tag=" + "x" * 41, "tag=a,b", "kind=push", "kind=web&page=9"):
        assert_harmless(reader.get(f"/?{query}"))


def test_campaign_list_two_full_tables_stay_small_and_lead_to_all(site, reader):
    for n in range(30):
        for kind in ("email", "web"):
            made = {"id": f"{kind}-{n}", "name": "N" * 60, "kind": kind, "tags": ["t" * 40, "u" * 40]}
            assert site.post("/api/campaigns", json=made).status_code == 201
    answer = reader.get("/")
    assert len(answer.content) < 100_000
    addresses = re.findall(r'href="([^"]*)">All 30 (?:mailings|sites)<', answer.text)
    assert len(addresses) == 2
    for address in addresses:
        full = reader.get("/" + html.unescape(address)).text
        assert full.count('type="checkbox"') == 30


@pytest.mark.parametrize(
    ("query", "found"), [("spring", ["mail"]), ("SITE", ["page"]), ("a", ["mail", "page"]), ("zz", [])]
)
def test_campaign_list_search_matches_name_and_id(story, reader, query, found):
    links = {attrs["href"] for attrs in Page(reader.get("/", params={"q": query})).all("a")}
    assert {link for link in links if "campaigns/" in link} == {f"/campaigns/{name}" for name in found}


def test_campaign_list_pages_and_sorts(site, reader):
    for n in range(60):
        made = {"id": f"c{n:02}", "name": f"Campaign {59 - n:02}", "kind": "email", "sent": n}
        assert site.post("/api/campaigns", json=made).status_code == 201

    def ids(**query):
        links = [attrs["href"] for attrs in Page(reader.get("/", params=query)).all("a")]
        return [link.removeprefix("/campaigns/") for link in links if link.startswith("/campaigns/")]

    first, second = ids(sort="name"), ids(sort="name", page=2)
    assert first + second == [f"c{n:02}" for n in range(59, -1, -1)]
    assert len(first) == 50
    assert "There is no page 9" in reader.get("/?page=9").text
    for query in ("page=0", "page=-1", "page=x", "page=99999999999", "sort=nothing", "page=%b2", "q=%00%ff"):
        assert reader.get(f"/?{query}").status_code == 200


def test_campaign_page_range_shows_changes_of_sites_only(story, sign_in, viewed, stats, clock):
    viewed("2026-09-21T09:00Z", "gus")
    stats("page")
    clock.at("2026-09-22T08:00Z")
    reader = sign_in()
    answer = reader.get("/campaigns/page?from=2026-09-21&until=2026-09-21")
    shown = figures(answer)
    assert shown["totals.views"] == "1"
    changes = re.findall(r'class="change"[^>]*>([^<]*)<', answer.text)
    assert "\u221266.7%" in changes  # 1 after 3
    assert 'value="2026-09-21"' in answer.text
    assert not re.search('class="change"', reader.get("/campaigns/page").text)
    assert not re.search('class="change"', reader.get("/campaigns/mail?from=2026-09-21").text)
    data = next(attrs["data-chart"] for _, attrs in Page(answer).found if "data-chart" in attrs)
    assert [item["views"] for item in reader.get(data).json()["series"]] == [1]


@pytest.mark.parametrize("interval", ["day", "hour", "15m"])
def test_campaign_page_day_by_hours_has_the_figures_of_the_day(story, reader, interval):
    query = f"from={DAY}&until={DAY}&interval={interval}"
    assert figures(reader.get(f"/campaigns/page?{query}"))["totals.unique_visitors"] == "2"
    answer = reader.get(f"/campaigns/mail?{query}")
    assert ">Thunderbird<" in answer.text
    assert figures(answer)["open_rate.low"] == "40%"
    assert "Time to open" not in answer.text, "only of all time"
    data = reader.get(f"/campaigns/mail/stats.json?{query}").json()
    assert len(data["series"]) == {"day": 1, "hour": 24, "15m": 96}[interval]
    live = reader.get(f"/campaigns/page/figures.json?{query}").json()["figures"]
    assert live["totals.unique_visitors"] == "2"


def test_campaign_page_mode_count_shows_no_visits(story, site, reader):
    site.patch("/api/campaigns/page", json={"mode": "count"})
    page = Page(reader.get("/campaigns/page"))
    assert "Entry pages" not in page.text
    assert "Pages" in page.text


def test_campaign_page_unfinished_day_has_no_changes(story, sign_in, opened, stats):
    opened("2026-09-21T09:00Z", "gus")
    stats("mail")
    reader = sign_in()
    for query in ("from=2026-09-21&until=2026-09-21", "from=2026-09-21&until=2026-09-21&interval=hour"):
        assert "the previous period" not in Page(reader.get(f"/campaigns/mail?{query}")).text


def test_campaign_page_empty_previous_period_has_no_changes(story, reader):
    page = Page(reader.get("/campaigns/mail?from=2026-09-20&until=2026-09-25"))
    assert "Includes all requests before" in page.text
    assert "the previous period" not in page.text
    assert "points" not in page.text


@pytest.mark.parametrize(
    "query",
    [
        *(
            "from=2026-09-22&until=2026-09-21",
            "from=x",
            "from=%00",
            "from=0001-01-01",
            "from=2026-09-01T00:07Z",
        ),
        *("until=x", "until=9999-12-31", "interval=year", "tz=Nowhere"),
    ],
)
def test_campaign_page_invalid_range_answers_422(story, reader, query):
    answer = reader.get(f"/campaigns/mail?{query}")
    assert answer.status_code == 422
    page = assert_harmless(answer)
    assert "must" in page.text
    assert "All time.\nIncludes" in page.text


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("from=2026-09-22&until=2026-09-20", "The first day must not be after the last."),
        ("from=2026-01-01&interval=hour", "The range may have 40 days at most at this interval and zone."),
        ("until=x", "The last day must be a date."),
    ],
)
def test_campaign_page_invalid_range_names_the_field(story, reader, query, says):
    page = Page(reader.get(f"/campaigns/mail?{query}"))
    assert says in page.text
    given = dict(parse_qsl(query))
    dates = [one for one in page.all("input") if one.get("name") in ("from", "until")]
    assert [one["value"] for one in dates] == [given.get("from", ""), given.get("until", "")], (
        "as they were given"
    )
    assert [one.get("aria-describedby") for one in dates] == ["wrong"] * 2
    chosen = [one["value"] for one in page.all("option") if "selected" in one]
    assert given.get("interval", "day") in chosen


@pytest.mark.parametrize(
    "query", ["interval=15m", "interval=hour&from=2026-09-20", "tz=Asia/Tokyo", "from=&until="]
)
@pytest.mark.parametrize("name", ["mail", "page"])
def test_campaign_page_valid_ranges_answer_200(story, reader, name, query):
    answer = reader.get(f"/campaigns/{name}?{query}")
    assert answer.status_code == 200, answer.text
    assert_harmless(answer)
    assert len(answer.content) < 200_000


def test_campaign_json_equals_stats_of_the_api(story, site, reader):
    found = reader.get("/campaigns/mail/stats.json").json()
    asked = site.get("/api/campaigns/mail/stats").json()
    assert {**found, "as_of": ""} == {**asked, "as_of": ""}
    assert found["notes"] == []
    texts = reader.get("/campaigns/mail/figures.json").json()["figures"]
    shown = figures(reader.get("/campaigns/mail"))
    assert {path: texts[path] for path in shown if path != "as_of"} == {
        path: text for path, text in shown.items() if path != "as_of"
    }


@pytest.mark.parametrize("name", ["mail", "page"])
def test_series_csv_equals_the_chart(story, site, reader, name):
    asked = {"from": "2026-09-19", "to": "2026-09-22"}
    answer = reader.get(f"/campaigns/{name}/series.csv", params=asked)
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}-day.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    series = site.get(f"/api/campaigns/{name}/stats", params=asked).json()["series"]
    assert len(series) == 3
    assert sum(item["hits"] for item in series) > 0
    assert rows == [
        {key: "" if value is None else str(value) for key, value in item.items()} for item in series
    ]
    accept = {"Accept": "text/csv"}
    assert site.get(f"/api/campaigns/{name}/stats", params=asked, headers=accept).text == answer.text
    links = [attrs["href"] for attrs in Page(reader.get(f"/campaigns/{name}", params=asked)).all("a")]
    [link] = [link for link in links if "series.csv" in link]
    assert reader.get(link).text == answer.text
    assert reader.get(f"/campaigns/{name}/series.csv?from=no").status_code == 422


@pytest.mark.parametrize("name", ["mail", "page"])
def test_breakdowns_csv_equals_the_answer_of_the_api(story, site, reader, name):
    days = {"from": "2026-09-19", "to": "2026-09-22"}
    asked = {"from": "2026-09-19", "until": "2026-09-21", "interval": "hour"}
    links = [attrs["href"] for attrs in Page(reader.get(f"/campaigns/{name}", params=asked)).all("a")]
    [link] = [link for link in links if "breakdowns.csv" in link]
    answer = reader.get(link)
    accept = {"Accept": "text/csv"}
    assert answer.text == site.get(f"/api/campaigns/{name}/breakdowns", params=days, headers=accept).text
    assert len(answer.text.splitlines()) > 3
    assert reader.get(f"/campaigns/{name}/breakdowns.csv?from=no").status_code == 422


@pytest.mark.parametrize("evil", EVIL)
def test_pages_hostile_names_are_harmless(site, mail, page, clock, viewed, reader, stats, evil):
    clock.at(f"{DAY}T08:00Z")
    mail(name=evil, mode="identified", tags=[evil[:40]])
    page(name=evil)
    query = {"v": "ada", "u": f"https://a.example/{evil}?utm_source={evil}", "r": f"https://{evil}.example/"}
    assert site.get("/p/page.gif", params=query).headers["x-pixel"] == "recorded"
    lines = json.dumps({"recipient": f"a{evil}", "name": evil}) + "\n"
    kind = {"Content-Type": "application/x-ndjson"}
    assert site.put("/api/campaigns/mail/recipients", content=lines, headers=kind).status_code == 200
    stats("page")
    paths = ("/", "/campaigns/mail", "/campaigns/page", "/campaigns/mail/recipients?state=unopened")
    for path in paths:
        answer = reader.get(path)
        assert answer.status_code == 200
        found = assert_harmless(answer)
        assert evil in found.text
        assert "1337" not in found.text
    tagged = assert_harmless(reader.get("/", params={"tag": evil[:40]}))
    assert tagged.text.count(evil[:40]) > 2


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"mode": "count", "sent": 4}, "mails: 4 sent (entered)"),
        ({"mode": "last"}, "there is no rate"),
        ({"sent": 0}, "More recipients opened than mails were delivered"),
        ({"sent": 2, "bounced": 2}, "More recipients opened than mails were delivered"),
        ({"sent": 1}, "100%"),
    ],
)
def test_error_page_names_the_problem(mail, opened, clock, stats, reader, fields, says):
    mail(**fields)
    opened(f"{DAY}T09:00Z")
    stats("mail")
    page = assert_harmless(reader.get("/campaigns/mail"))
    assert says in " ".join(page.text.split())
    assert_harmless(reader.get(f"/campaigns/mail?from={DAY}&until={DAY}"))
    assert reader.get("/").status_code == 200


def test_router_error_browser_gets_page_and_program_gets_problem(reader, visitor):
    for path in (
        "/nothing",
        "/campaigns/nothing",
        "/campaigns/%00",
        "/campaigns/..%2f",
        "/static/nothing.css",
    ):
        assert reader.get(path).status_code == 404, path
    assert "<h1>" in reader.get("/nothing").text
    assert reader.get("/api/nothing").headers["content-type"] == "application/problem+json"
    plain = reader.get("/nothing", headers={"Accept": "*/*"})
    assert plain.headers["content-type"] == "application/problem+json"
    wrong = reader.post("/campaigns/mail/series.csv")
    assert wrong.status_code == 405
    assert "GET" in wrong.headers["allow"]


def test_pages_head_has_no_body(story, reader):
    for path in ("/", "/campaigns/mail", "/campaigns/mail/recipients", "/sign-in"):
        answer = reader.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["cache-control"] == "no-store"


def test_static_files_with_hash_are_cached(reader, visitor):
    for attrs in Page(reader.get("/")).all("link"):
        answer = visitor.get(attrs["href"])
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        bare = visitor.get(attrs["href"].partition("?")[0])
        assert bare.content == answer.content
        assert "immutable" not in bare.headers["cache-control"]


def made_of(settings, secrets):
    queue = jobs.queue(connect(settings.redis_url))
    return create_app(settings, secrets, connect_async(settings.redis_url), queue)


# Redis away


@pytest.fixture
def cut(monkeypatch):
    """Returns a function that makes Redis fail when this function of the server is called."""

    def away(*_args, **_kwargs):
        raise ConnectionError("Redis went away")

    def cut(where, name):
        real = getattr(where, name)

        async def wrapped(api_store, *args, **kwargs):
            monkeypatch.setattr(api_store.connection_pool, "get_connection", away)
            return await real(api_store, *args, **kwargs)

        monkeypatch.setattr(where, name, wrapped)

    return cut


@pytest.mark.parametrize(
    ("path", "module", "name"),
    [
        ("/", "overview", "read"),
        ("/campaigns/mail", "stats", "read"),
        ("/campaigns/page", "web_breakdowns", "read"),
        ("/campaigns/mail/stats.json", "stats", "read"),
        ("/campaigns/mail/figures.json", "stats", "read"),
        ("/campaigns/mail", "apikeys", "find_by_id"),
    ],
)
def test_pages_redis_lost_during_read_answer_503(story, reader, cut, path, module, name):
    import importlib

    where = importlib.import_module(
        "pixel_server.auth.api_keys" if module == "apikeys" else f"pixel_server.figures.{module}"
    )
    cut(where, name)
    answer = reader.get(path)
    assert answer.status_code == 503
    if path.endswith(".json"):
        assert answer.json()["status"] == 503
    else:
        assert "spool" in answer.text
        assert_harmless(answer)


def test_pages_redis_absent_answer_503(settings, secrets, tmp_path):
    away = replace(settings, redis_url=f"unix://{tmp_path}/nobody.sock")
    app = create_app(away, secrets, connect_async(away.redis_url), jobs.queue(connect(away.redis_url)))
    with TestClient(app, base_url="http://pixel.test", follow_redirects=False) as visitor:
        assert visitor.get("/").status_code == 303
        assert visitor.get("/sign-in").status_code == 200
        assert visitor.post("/sign-in", data={"key": API_KEY}).status_code == 503
        assert visitor.get("/sign-in/a-token").status_code == 503
        visitor.cookies.set(sessions.COOKIE, sessions.issue_cookie(secrets, "0" * 12, 9e9))
        for path in ("/", "/campaigns/mail", "/campaigns/mail/recipients", "/campaigns/mail/recipients.csv"):
            answer = visitor.get(path)
            assert answer.status_code == 503
            assert "Pixels still work" in answer.text
        url = Minter("http://pixel.test", secrets).url("mail", "ada")
        assert visitor.get(url).headers["x-pixel"] == "recorded"


# Under a path


@pytest.fixture
def below(settings, secrets):
    """Returns a client that is signed in to a server whose base URL has a path."""
    deep = replace(settings, base_url="https://pixel.test/deep/pixels")
    app = create_app(deep, secrets, connect_async(deep.redis_url), jobs.queue(connect(deep.redis_url)))
    with TestClient(app, base_url="https://pixel.test", follow_redirects=False) as made:
        made.headers["Accept"] = "text/html"
        yield made


def test_pages_base_path_is_in_all_links(below):
    assert below.get("/deep/pixels").headers["location"].endswith("/deep/pixels/")
    assert below.get("/deep/pixels/").headers["location"] == "/deep/pixels/sign-in"
    answer = below.get("/deep/pixels/campaigns/mail")
    assert answer.headers["location"] == "/deep/pixels/sign-in?next=campaigns%2Fmail"
    entered = below.post("/deep/pixels/sign-in", data={"key": API_KEY, "next": "campaigns/mail"})
    assert entered.headers["location"] == "/deep/pixels/campaigns/mail"
    cookie = entered.headers["set-cookie"].lower()
    assert "path=/deep/pixels" in cookie
    assert "secure" in cookie
    headers = {"Authorization": f"Bearer {API_KEY}"}
    made = {"id": "mail", "name": "Mail", "kind": "email"}
    assert below.post("/deep/pixels/api/campaigns", json=made, headers=headers).status_code == 201
    for path in ("", "campaigns/mail", "campaigns/mail/recipients"):
        answer = below.get(f"/deep/pixels/{path}")
        assert answer.status_code == 200
        for tag, attrs in Page(answer).found:
            for name in ("href", "src", "action", "data-chart", "data-live", "data-figures"):
                if attrs.get(name) and not attrs[name].startswith(("?", "#")):
                    assert attrs[name].startswith("/deep/pixels/"), (tag, attrs)
    assert below.get("/", headers={"Cookie": ""}).status_code == 303  # a proxy may take the path off


# How figures are written


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (formatting.number(1204), "1,204"),
        (formatting.number(None), "\u2013"),
        (formatting.share(0.1304), "13.0%"),
        (formatting.share(0), "0%"),
        (formatting.share(0.9999), "100.0%"),
        (formatting.span(0.1), "under 1 s"),
        (formatting.span(0), "0 s"),
        (formatting.span(42.4), "42 s"),
        (formatting.span(59.6), "1 min"),
        (formatting.span(82), "1 min 20 s"),
        (formatting.span(594), "9 min 55 s"),
        (formatting.span(598), "10 min"),
        (formatting.span(2138), "36 min"),
        (formatting.span(3599), "1 h"),
        (formatting.span(7800), "2 h 10 min"),
        (formatting.span(86399), "1 d"),
        (formatting.span(7200), "2 h"),
        (formatting.span(86400 * 3 + 3600 * 4), "3 d 4 h"),
        (formatting.span(86400 * 1157), "1,157 d"),
        (formatting.span(None), "\u2013"),
        (formatting.change(12, 10), "+20.0%"),
        (formatting.change(9, 10), "\u221210.0%"),
        (formatting.change(10, 10), "\u00b10%"),
        (formatting.change(10, 0), ""),
        (formatting.change(None, 10), ""),
        (formatting.points(0.4, 0.25), "+15.0 points"),
        (formatting.whole_points(-0.344), "34 points"),
        (formatting.whole_points(0.011), "1 point"),
        (formatting.whole_points(0.004), "less than 1 point"),
        (formatting.between(-0.368, 0.218), "\u221237 to +22"),
        (formatting.between(-0.004, 0.004), "0 to 0"),
        (formatting.instant("2026-11-26T10:54:15.3Z", "Europe/Berlin"), "26 Nov 2026, 11:54 CET"),
        (formatting.instant("2026-11-26T10:54:15.3Z", "America/Sao_Paulo"), "26 Nov 2026, 07:54 UTC-03"),
        (formatting.instant("2026-11-26T10:54:15.3Z"), "26 Nov 2026, 10:54 UTC"),
        (formatting.log_time("2026-11-26T10:54:15.3Z"), "26 Nov 2026, 10:54:15 UTC"),
        (formatting.ago(100, 100 + 3600 * 25), "1 d ago"),
        (names.display_name("DE", "country"), "Germany"),
        (names.display_name("XX", "country"), "XX"),
        (names.display_name("(unknown)", "country"), "Unknown"),
        (names.display_name("de", "language"), "German"),
        (names.display_name("desktop", "device"), "Desktop"),
        (names.display_name("(none)", "referrer"), "No referrer"),
        (names.display_name("DE", "page"), "DE"),
        (formatting.ago(None, 100), "never"),
    ],
)
def test_formatting_values_become_text(made, text):
    assert made == text
