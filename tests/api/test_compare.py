"""`GET /api/compare` in a range."""

from __future__ import annotations

import pytest

from tests.api.answers import bad_fields


@pytest.fixture
def two_mailings(site, mail, opened, clock, count):
    for id_, zone in (("may", "Asia/Kathmandu"), ("june", "UTC")):
        mail(id=id_, sent=30, time_zone=zone, sent_at="2025-06-10T08:00:00Z")
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


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, None),
        ({"sent": 29}, "too_few_mails"),
        ({"sent": 2000, "bounced": 1980}, "too_few_mails"),
        ({"sent_at": None}, "sent_at_not_set"),
        ({"sent_at": "2095-06-21T08:00:00Z"}, "not_sent_yet"),
        ({"sent": None}, "no_open_rate"),
    ],
)
def test_compare_mailing_without_enough_facts_gets_no_verdict(two_mailings, fields, reason):
    assert two_mailings.patch("/api/campaigns/june", json=fields).status_code == 200
    for ids in ("may,june", "june,may"):
        items = two_mailings.get(f"/api/compare?ids={ids}").json()["items"]
        reasons = {item["campaign"]: item["not_compared"] for item in items}
        assert reasons == {"may": None, "june": reason}
        assert (items[1]["to_first"] is None) == (reason is not None)


def test_compare_mailing_with_few_visible_recipients_gets_no_verdict(two_mailings, opened, clock, count):
    two_mailings.headers["User-Agent"] = "Mozilla/5.0"  # Apple's mail program hides who reads
    opened("2025-06-20T10:00Z", who="hid", campaign="june")
    clock.at("2025-06-20T11:00Z")
    count(clock.now)
    items = two_mailings.get("/api/compare?ids=may,june").json()["items"]
    assert [item["not_compared"] for item in items] == [None, "too_few_visible"]
    assert items[1]["to_first"] is None
    items = two_mailings.get("/api/compare?ids=may,june&from=2025-06-10").json()["items"]
    assert items[1]["not_compared"] == "hidden_in_range"


def test_compare_bad_range_is_422(two_mailings):
    bad = two_mailings.get("/api/compare?ids=may,june&from=yesterday")
    assert bad_fields(bad) == ["from"]
    assert bad_fields(two_mailings.get("/api/compare?ids=may,june&from=2025-06-12&to=2025-06-10")) == ["from"]


def test_compare_second_page_still_compares_with_the_first(two_mailings):
    page = two_mailings.get("/api/compare?ids=may,june&limit=1&after=1").json()
    assert [item["campaign"] for item in page["items"]] == ["june"]
    assert page["items"][0]["to_first"] is not None
