"""The overview: the figures of `stats` for many campaigns, matched, sorted and paged."""

from __future__ import annotations

import asyncio

import pytest
import redis

from pixel_server.campaigns import change_log, storage
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.figures import campaign_order
from pixel_server.mail.links import Minter
from pixel_server.store import keys
from pixel_server.store.client import connect_async
from pixel_server.tokens import Mode
from tests.stack import until


@pytest.fixture
def read_overview(site, clock, count):
    """Counts all hits, then reads the overview."""

    def read_overview(status=200, **query):
        count(clock.now)
        answer = site.get("/api/overview", params=query)
        assert answer.status_code == status, answer.text
        return answer.json()

    return read_overview


@pytest.fixture(autouse=True)
def always_new(monkeypatch):
    """Makes each request read the order anew."""
    monkeypatch.setattr(campaign_order, "MAX_AGE_SECONDS", -1.0)


@pytest.fixture
def keep_order(monkeypatch):
    """Keeps the order that was read. Takes FRESH_SECONDS and MAX_AGE_SECONDS."""

    def keep(fresh=1000.0, old=1000.0):
        monkeypatch.setattr(campaign_order, "FRESH_SECONDS", fresh)
        monkeypatch.setattr(campaign_order, "MAX_AGE_SECONDS", old)

    keep()
    return keep


def ids(found):
    return [item["campaign"] for item in found["items"]]


def test_overview_figures_agree_with_stats(
    site, mail, page, opened, viewed, read_overview, stats, clock, secrets
):
    clock.at("2025-06-01T00:00Z")
    mail(sent=4)
    mail(id="linked")
    mail(id="plain", mode="count", sent=9)
    mail(id="over", sent=1)
    page()
    page(id="unused")
    page(id="cookieless", identity="cookieless")
    rows = {"recipients": ["ada", "bob"], "sent": True}
    assert site.post("/api/campaigns/linked/links", json=rows).is_success
    for campaign in ("mail", "linked", "over", "plain"):
        opened("2025-06-03T09:00Z", "ada", campaign)
        opened("2025-06-10T10:00Z", "bob", campaign)
        opened("2025-06-10T10:00Z", "bob", campaign)
    site.get(Minter("http://pixel.test", secrets).url("mail", "eve", mode=Mode.COUNT, now=clock.now))
    machine = Minter("http://pixel.test", secrets).url("mail", "mal", now=clock.now)
    site.get(machine, headers={"User-Agent": "curl/8.0"})
    viewed("2025-06-10T11:00Z")
    viewed("2025-06-10T11:00Z", campaign="cookieless")
    found = read_overview()
    assert (found["total"], found["next"], len(found["items"])) == (7, None, 7)
    for item in found["items"]:
        one = stats(item["campaign"])
        unique = "unique_opens_person" if item["kind"] == "email" else "unique_visitors"
        counted = "opens" if item["kind"] == "email" else "views"
        assert item[unique] == one["totals"][unique]
        assert item["days"] == [day[counted] for day in one["series"]][-14:]
        for name in ("sent", "open_rate", "over", "last_hit"):
            assert item[name] == one[name], name
    shown = {item["campaign"]: item for item in found["items"]}
    assert (shown["mail"]["unique_opens_person"], shown["mail"]["open_rate"]["low"]) == (2, 0.5)
    assert (shown["plain"]["unique_opens_person"], shown["plain"]["open_rate"]) == (None, None)
    assert (shown["over"]["open_rate"], shown["over"]["over"]) == (None, True)
    assert shown["linked"]["sent"] == 2
    assert shown["mail"]["days"][-8:] == [1, 0, 0, 0, 0, 0, 0, 4]
    assert stats("mail")["totals"]["unique_opens"] == 3, "the machine is none of the two"
    assert (shown["page"]["unique_visitors"], shown["unused"]["last_hit"]) == (1, None)


def test_overview_closed_campaign_keeps_figures(mail, opened, read_overview, stats, sweep, clock):
    mail(sent=4, keep={"recipients": 10})
    opened("2025-06-01T09:00Z")
    read_overview()
    clock.at("2025-06-12T09:00Z")
    sweep()
    opened("2025-06-12T10:00Z", "bob")
    (item,) = read_overview()["items"]
    one = stats("mail")
    assert one["closed_at"] is not None
    assert (item["unique_opens_person"], item["open_rate"]) == (
        one["totals"]["unique_opens_person"],
        one["open_rate"],
    )
    assert (item["days"][-1], item["last_hit"]) == (1, "2025-06-12T10:00:00.000Z")


def test_overview_days_are_local_and_null_once_removed(mail, opened, read_overview, clock):
    mail(time_zone="Asia/Tokyo", keep={"days": 3})
    opened("2025-06-08T12:00Z")
    opened("2025-06-09T15:00Z")  # the tenth in Tokyo
    opened("2025-06-10T14:59Z")
    (item,) = read_overview()["items"]
    assert item["days"] == [None] * 10 + [0, 1, 0, 2]


def test_overview_query_matches_ids_and_names(mail, read_overview):
    mail(id="spring", name="Frühling & More")
    mail(id="summer", name="Sommer")
    mail(id="spring-2", name="x")
    assert sorted(ids(read_overview(q="SPRING"))) == ["spring", "spring-2"]
    assert ids(read_overview(q=" früh")) == ids(read_overview(q="FRÜH")) == ["spring"]
    assert ids(read_overview(q="mmer")) == ["summer"]
    for query in ("*", ".", "%", "\\", "spring\nFr", "\x00", "\u202e", "\U0001f600" * 200):
        assert read_overview(q=query) | {"as_of": 0, "ordered_as_of": 0} == {
            **{"items": [], "next": None, "total": 0, "as_of": 0, "ordered_as_of": 0, "tags": []},
            "estimates": {"unique_visitors": {"method": "HyperLogLog", "standard_error": 0.0081}},
        }


def test_overview_sorts_are_in_order(mail, page, opened, viewed, read_overview, clock):
    for day, name, sent in (("01", "b", 10), ("02", "a", 2), ("03", "c", None), ("04", "d", 5)):
        clock.at(f"2025-06-{day}T00:00Z")
        mail(id=f"mail-{name}", name=f"{name.upper()} mail", sent=sent)
    page(id="page", name="a page")
    for who in "xyz":
        opened("2025-06-05T00:00Z", who, "mail-b")
    opened("2025-06-07T00:00Z", "x", "mail-a")
    opened("2025-06-06T00:00Z", "x", "mail-c")
    viewed("2025-06-08T00:00Z")
    asked = {
        "name": ["mail-a", "page", "mail-b", "mail-c", "mail-d"],
        "last_hit": ["mail-b", "mail-c", "mail-a", "page", "mail-d"],
        "-last_hit": ["page", "mail-a", "mail-c", "mail-b", "mail-d"],
        "rate": ["mail-d", "mail-b", "mail-a"],
        "-rate": ["mail-a", "mail-b", "mail-d"],
        "-uniques": ["mail-b", "page", "mail-c", "mail-a", "mail-d"],
    }
    for sort, wanted in asked.items():
        assert ids(read_overview(sort=sort))[: len(wanted)] == wanted, sort
    assert ids(read_overview()) == asked["-last_hit"]


def test_overview_kind_and_tag_choose_campaigns(mail, page, read_overview):
    mail(tags=["News", "spring"])
    mail(id="other", tags=["news"])
    page(tags=["spring"])
    page(id="plain")
    assert sorted(ids(read_overview(kind="email"))) == ["mail", "other"]
    assert sorted(ids(read_overview(kind="web"))) == ["page", "plain"]
    assert sorted(ids(read_overview(tag="NEWS"))) == ["mail", "other"]
    found = read_overview(tag="spring", kind="web")
    assert (ids(found), found["total"]) == (["page"], 1)
    assert [(each["tag"].lower(), each["campaigns"]) for each in found["tags"]] == [
        ("news", 2),
        ("spring", 2),
    ]
    assert found["items"][0]["tags"] == ["spring"]
    read_overview(422, kind="push")


def test_overview_changed_tags_are_seen_at_once(mail, read_overview, site, keep_order):
    mail()
    assert ids(read_overview(tag="news")) == []
    site.patch("/api/campaigns/mail", json={"tags": ["News"]})
    assert ids(read_overview(tag="news")) == ["mail"]


def test_overview_new_sorts_are_in_order(mail, page, viewed, read_overview, clock):
    clock.at("2025-06-01T00:00Z")
    mail(id="late", sent=3, sent_at="2025-06-09T08:00:00Z")
    mail(id="early", sent=9, sent_at="2025-05-09T08:00:00Z")
    mail(id="unset")
    page(id="busy")
    page(id="quiet")
    for minute in range(3):
        viewed(f"2025-06-10T09:0{minute}Z", campaign="busy")
    viewed("2025-06-10T10:00Z", campaign="quiet")
    assert ids(read_overview(sort="-sent_at", kind="email")) == ["late", "early", "unset"]
    assert ids(read_overview(sort="-sent", kind="email")) == ["early", "late", "unset"]
    found = read_overview(sort="-views", kind="web")
    assert [(item["campaign"], item["views"]) for item in found["items"]] == [("busy", 3), ("quiet", 1)]
    assert "views" not in read_overview(kind="email")["items"][0]


def test_natural_key_sorts_by_numbers_and_ignores_locale():
    names = ["Mail 10", "mail 2", "mail", "Mail 02b", "2 mails", "10 mails", "äpfel", "apfel", "zebra", ""]
    found = sorted(names, key=lambda name: campaign_order.natural_key(name.casefold()))
    assert found == [
        "",
        "2 mails",
        "10 mails",
        "apfel",
        "äpfel",
        "mail",
        "mail 2",
        "Mail 02b",
        "Mail 10",
        "zebra",
    ]
    campaign_order.natural_key("9" * 200 + "\u2460" * 200)


def test_overview_pages_have_each_campaign_once(read_overview, settings):
    async def make():
        made = connect_async(settings.redis_url)
        for n in range(120):
            await storage.create(made, new_campaign(f"c{n:03}", f"Campaign {n:03}", "web"))
        await made.aclose()

    asyncio.run(make())
    ends = ({}, {"after": "50"}, {"after": "100"}, {"after": "150"})
    pages = [read_overview(sort="-name", **more) for more in ends]
    assert [name for found in pages for name in ids(found)] == [f"c{n:03}" for n in range(119, -1, -1)]
    assert [found["next"] for found in pages] == ["50", "100", None, None]
    assert {found["total"] for found in pages} == {120}


def test_overview_no_campaigns_is_an_empty_page(read_overview):
    assert read_overview()["items"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"sort": "clicks"}, "sort"),
        ({"sort": "--name"}, "sort"),
        ({"sort": ""}, "sort"),
        ({"after": "-1"}, "after"),
        ({"after": "x"}, "after"),
        ({"after": "9" * 50}, "after"),
        ({"limit": "0"}, "limit"),
        ({"page": "2"}, "page"),
        ({"q": "x" * 201}, "q"),
    ],
)
def test_overview_bad_parameters_are_422(read_overview, query, field):
    assert [error["field"] for error in read_overview(422, **query)["errors"]] == [field]


def test_overview_figures_are_new_and_order_has_an_age(mail, opened, read_overview, keep_order):
    mail(sent=2)
    mail(id="other")
    opened("2025-06-10T09:00Z")
    first = read_overview()
    assert ids(first) == ["mail", "other"]
    opened("2025-06-10T09:00:02Z", "bob")
    opened("2025-06-10T09:00:03Z", "bob", "other")
    later = read_overview()
    assert ids(later) == ["mail", "other"]
    assert [item["unique_opens_person"] for item in later["items"]] == [2, 1]
    assert later["ordered_as_of"] == first["ordered_as_of"] == "2025-06-10T09:00:00.000Z"
    keep_order(fresh=-1.0)
    assert ids(read_overview()) == ["mail", "other"], (
        "no one waits for a new order while the old one is not too old"
    )
    until(lambda: ids(read_overview()) == ["other", "mail"])
    opened("2025-06-10T09:00:05Z", "bob", "mail")
    keep_order(old=-1.0)
    assert ids(read_overview()) == ["mail", "other"]


def test_overview_old_order_is_read_after_failed_renewal(
    mail, opened, read_overview, keep_order, monkeypatch
):
    mail()
    opened("2025-06-10T09:00Z")
    mail(id="other")
    assert ids(read_overview()) == ["mail", "other"]
    opened("2025-06-10T09:00:03Z", "bob", "other")
    keep_order(fresh=-1.0)
    with monkeypatch.context() as broken:
        broken.setattr(campaign_order, "_read_entries", failing := Failing())
        for _ in range(3):
            assert ids(read_overview()) == ["mail", "other"]
        until(lambda: failing.calls >= 2)
    keep_order(old=-1.0)
    assert ids(read_overview()) == ["other", "mail"]


class Failing:
    """Fails as if Redis went away during the read."""

    calls = 0

    async def __call__(self, *_):
        self.calls += 1
        raise redis.ConnectionError


def test_overview_changed_campaign_is_seen_at_once(mail, opened, read_overview, site, keep_order):
    mail()
    assert ids(read_overview()) == ["mail"]
    mail(id="new")
    assert sorted(ids(read_overview())) == ["mail", "new"]
    site.patch("/api/campaigns/new", json={"name": "Renamed"})
    assert ids(read_overview(q="renamed")) == ["new"]
    mail(id="third")
    opened("2025-06-10T09:00Z", "ada", "third")
    opened("2025-06-10T09:00:01Z", "ada", "new")
    for one in ("new", "third"):
        site.patch(f"/api/campaigns/{one}", json={"name": "Again"})
    for sort in campaign_order.SORTS:
        for way in (sort, f"-{sort}"):
            keep_order()
            changed = ids(read_overview(sort=way))
            keep_order(old=-1.0)
            assert changed == ids(read_overview(sort=way)), way
    keep_order()
    read_overview()
    site.delete("/api/campaigns/mail")
    assert ids(read_overview()) == ["new", "third"]


def test_overview_many_changes_are_seen(mail, read_overview, keep_order, monkeypatch):
    monkeypatch.setattr(change_log, "MAX_CHANGES", 3)
    read_overview()
    for n in range(5):
        mail(id=f"c{n}")
    assert sorted(ids(read_overview())) == [f"c{n}" for n in range(5)]


def test_overview_campaign_deleted_meanwhile_is_left_out(mail, read_overview, client, keep_order):
    mail()
    mail(id="new")
    read_overview()
    client.delete(keys.campaign("mail"))
    assert ids(read_overview()) == ["new"]


def test_overview_as_of_is_before_uncounted_hits(mail, opened, read_overview, site, clock):
    mail()
    first = read_overview()["as_of"]
    opened("2025-06-10T09:00Z")
    waiting = site.get("/api/overview").json()["as_of"]
    assert first < waiting < read_overview()["as_of"]


def test_overview_many_campaigns_are_read_in_batches(read_overview, client, settings, monkeypatch):
    """Also if a whole batch is deleted while it is read."""
    monkeypatch.setattr(campaign_order, "BATCH", 3)

    async def make():
        made = connect_async(settings.redis_url)
        for n in range(10):
            await storage.create(made, new_campaign(f"c{n}", f"Campaign {n}", "email"))
        await made.aclose()

    asyncio.run(make())
    assert ids(read_overview(sort="name")) == [f"c{n}" for n in range(10)]
    client.delete(*(keys.campaign(f"c{n}") for n in (3, 4, 5, 9)))
    assert ids(read_overview(sort="name")) == ["c0", "c1", "c2", "c6", "c7", "c8"]
