"""`GET /api/compare` in a range."""

from __future__ import annotations

import pytest

from tests.api.answers import bad_fields


@pytest.fixture
def two_mailings(site, mail, opened, clock, count):
    for id_, zone in (("may", "Asia/Kathmandu"), ("june", "UTC")):
        mail(id=id_, sent=30, time_zone=zone)
    for name in ("ada", "bob"):
        opened("2025-06-10T09:00Z", who=name, campaign="may")
    opened("2025-06-14T09:00Z", who="cleo", campaign="may")
    opened("2025-06-10T09:00Z", who="ada", campaign="june")
    clock.at("2025-06-20T09:00Z")
    count(clock.now)
    return site


def test_compare_range_has_the_figures_of_stats(two_mailings):
    query = {"from": "2025-06-10", "to": "2025-06-12"}
    items = two_mailings.get("/api/compare", params={"ids": "may,june", **query}).json()["items"]
    for item in items:
        stats = two_mailings.get(f"/api/campaigns/{item['campaign']}/stats", params=query).json()
        for name in ("from", "to", "totals", "open_rate"):
            assert item[name] == stats[name]
    assert [item["totals"]["unique_opens_person"] for item in items] == [2, 1]
    assert items[0]["from"] == "2025-06-10T00:00:00+05:45"
    assert items[1]["to_first"]["difference"] == pytest.approx(-1 / 30, abs=1e-6)
    whole = two_mailings.get("/api/compare?ids=may,june").json()["items"]
    assert (whole[0]["from"], whole[0]["totals"]["unique_opens_person"]) == (None, 3)


def test_compare_bad_range_is_422(two_mailings):
    bad = two_mailings.get("/api/compare?ids=may,june&from=yesterday")
    assert bad_fields(bad) == ["from"]
    assert bad_fields(two_mailings.get("/api/compare?ids=may,june&from=2025-06-12&to=2025-06-10")) == ["from"]


def test_compare_second_page_still_compares_with_the_first(two_mailings):
    page = two_mailings.get("/api/compare?ids=may,june&limit=1&after=1").json()
    assert [item["campaign"] for item in page["items"]] == ["june"]
    assert page["items"][0]["to_first"] is not None
