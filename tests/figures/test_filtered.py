"""Figures of a site, filtered by page, country and other dimensions."""

from __future__ import annotations

import random

import pytest

from pixel_server.counters import series, visit_sample
from pixel_server.counters.visit_sample import SampledVisit
from pixel_server.counters.web_breakdown import VisitorTraits
from pixel_server.store import keys
from tests.stack import READER

DAY = "2025-06-10"


@pytest.fixture
def visit(site, clock):
    """Returns a function that makes a visit of some pages, one a minute."""

    def make(at, who, *pages, referrer=""):
        clock.at(at)
        for number, path in enumerate(pages):
            query = {"u": f"https://e.org{path}", "v": who, "r": "" if number else referrer}
            assert site.get("/p/page.gif", params=query, headers={"User-Agent": READER}).status_code == 200
            clock.now += 60

    return make


@pytest.fixture
def visited(page, visit):
    page(identity="own")
    visit(f"{DAY}T09:00Z", "ada", "/", "/pricing", referrer="https://news.example/x")
    visit(f"{DAY}T10:00Z", "bob", "/pricing", "/pricing", "/about")
    visit(f"{DAY}T11:00Z", "cyd", "/")
    visit("2025-06-11T09:00Z", "ada", "/pricing")


def test_stats_filter_by_page_counts_visits_that_saw_it(visited, stats):
    found = stats("page", page="/pricing")
    assert {name: found["totals"][name] for name in ("views", "visits", "bounces")} == {
        **{"views": 6, "visits": 3, "bounces": 1}
    }
    assert found["totals"]["unique_visitors"] is found["totals"]["hits"] is found["time_on_page"] is None
    assert (found["bounce_share"], found["time_of_visit"]["median"]) == (0.3333, 60)
    by_day = {item["start"][:10]: (item["views"], item["visits"]) for item in found["series"][-2:]}
    assert by_day == {DAY: (5, 2), "2025-06-11": (1, 1)}
    assert found["sample"] == {
        **{"visits": 4, "of": 4, "selected": 3, "visits_error": 0, "share_error": 0.0, "days_without": 0}
    }
    by_hour = stats("page", page="/pricing", interval="hour", from_=DAY, to="2025-06-11")["series"]
    assert {item["start"][11:16]: item["views"] for item in by_hour if item["views"]} == {
        **{"09:00": 2, "10:00": 3}
    }


def test_breakdowns_filters_are_all_required(visited, stats, site):
    stats("page")  # counts the hits
    ask = "/api/campaigns/page/breakdowns"
    by = site.get(ask, params={"page": "/pricing", "referrer": "(none)"}).json()["by"]
    assert by["page"] == [
        {"name": "/pricing", "views": 3, "visits": 2},
        {"name": "/about", "views": 1, "visits": 0},
    ]
    assert by["exit_page"] == [
        {"name": "/about", "views": 3, "visits": 1},
        {"name": "/pricing", "views": 1, "visits": 1},
    ]
    by = site.get(ask, params={"exit_page": "/pricing", "referrer": "news.example", "by": "page"}).json()[
        "by"
    ]
    assert by == {
        "page": [{"name": "/", "views": 1, "visits": 1}, {"name": "/pricing", "views": 1, "visits": 0}]
    }
    nothing = site.get(ask, params={"country": "XX"}).json()
    assert nothing["by"]["page"] == []
    assert (nothing["sample"]["selected"], nothing["sample"]["share_error"]) == (0, 0.0)


def test_breakdowns_filter_that_passes_all_equals_the_counts(visited, stats, site):
    stats("page")
    filtered = site.get("/api/campaigns/page/breakdowns?device=desktop").json()
    counted = site.get("/api/campaigns/page/breakdowns").json()
    assert filtered["by"] == counted["by"]
    assert counted["sample"] is None


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("page=", "must not be empty"),
        (f"page=/{'x' * 160}", "at most 160 characters"),
        ("pages=/a", "is not known"),
        ("page=/a&page=/b", "is given twice"),
    ],
)
def test_stats_filter_that_cannot_be_used_answers_422(page, site, query, says):
    page()
    for call in ("stats", "breakdowns"):
        answer = site.get(f"/api/campaigns/page/{call}?{query}")
        assert answer.status_code == 422
        assert says in answer.text


def test_stats_filter_of_a_mail_or_shared_or_without_visits_is_refused(mail, page, site):
    mail()
    page(mode="count")
    key = site.post("/api/keys", json={"name": "guest", "scopes": ["read:page"]}).json()["key"]
    for call in ("stats", "breakdowns"):
        of_mail = site.get(f"/api/campaigns/mail/{call}?page=/")
        assert (of_mail.status_code, of_mail.json()["detail"]) == (
            409,
            "only the figures of web campaigns can be filtered",
        )
        of_count = site.get(f"/api/campaigns/page/{call}?page=/")
        assert of_count.status_code == 409
        assert "does not tell visitors apart" in of_count.json()["detail"]
        headers = {"Authorization": f"Bearer {key}"}
        shared = site.get(f"/api/campaigns/page/{call}?country=DE", headers=headers)
        assert (shared.status_code, shared.json()["detail"]) == (403, "shared figures cannot be filtered")


def test_stats_filter_estimates_from_a_sample(page, site, clock, client, stats):
    """Stores 2,000 visits, of which a quarter saw /b, and a sample of 500 of them."""
    page()
    clock.at(f"{DAY}T12:00Z")
    draw = random.Random(1)
    start = int(clock.now) // 900
    records = {
        draw.randbytes(8): SampledVisit(start, 9, {"/b" if n % 4 == 0 else "/a": 1}, 0, VisitorTraits(), ())
        for n in range(2000)
    }
    cell = [0] * len(series.COUNTS)
    cell[series.VISITS] = cell[series.VIEWS] = 2000
    client.hset(keys.months(0, "page"), "202506", series.pack({10: cell}))
    key = keys.sample(0, "page", "20250610")
    for command in visit_sample.store_commands(key, [], records, 500, 1000):
        client.execute_command(*command)
    found = stats("page", page="/b")
    facts, visits = found["sample"], found["totals"]["visits"]
    assert (facts["visits"], facts["of"], facts["selected"] * 4) == (500, 2000, visits)
    assert 50 < facts["visits_error"] < 100
    assert abs(visits - 500) <= 2 * facts["visits_error"], "4 standard errors"
    assert 0.07 < facts["share_error"] < 0.11
    assert found["estimates"]["visits"] == {"method": "sample of visits"}
    assert stats("page", page="/none")["sample"]["share_error"] is None
    client.delete(key)
    found = stats("page", page="/b")
    assert (found["sample"]["days_without"], found["totals"]["visits"]) == (1, None)
    assert found["series"][-1]["visits"] is None
    assert stats("page", page="/b", from_="2020-01-01", to="2020-01-03")["totals"]["visits"] is None
