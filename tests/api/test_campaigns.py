"""Campaigns over the API: created, listed, changed, deleted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pixel_server.campaigns import deletion, storage
from pixel_server.settings import RESERVED_PATHS
from pixel_server.store import checkpoint, keys
from pixel_server.store.readers import read
from tests.api.answers import AT, bad_fields, links, make_client, names_of, problem
from tests.conftest import API_KEY
from workers import maintenance


def test_campaigns_created_are_read_and_changed(web):
    sent = {"id": "spring", "name": "Spring sale", "kind": "email", "sent": 4, "time_zone": "Europe/Berlin"}
    made = web.post("/api/campaigns", json=sent)
    assert (made.status_code, made.headers["location"]) == (201, "campaigns/spring")
    shown = web.get(made.url.join(made.headers["location"]))
    assert shown.json() == made.json()
    assert made.json().items() >= {**sent, "base_url": None, "made_by": "api"}.items()
    assert made.headers["cache-control"] == "no-store"

    changed = web.patch("/api/campaigns/spring", json={"sent": None, "base_url": "https://m.example/x/"})
    assert changed.json() == {**made.json(), "sent": None, "base_url": "https://m.example/x"}
    assert web.get("/api/campaigns/spring").json() == changed.json()


def test_campaigns_list_in_pages_has_each_once(web):
    names = [f"c{n:02}" for n in range(25)]
    for name in reversed(names):
        web.post("/api/campaigns", json={"id": name, "name": name, "kind": "web"})
    found, query = [], {"limit": 10}
    for length in (10, 10, 5):
        page = web.get("/api/campaigns", params=query).json()
        assert len(page["items"]) == length
        found += [item["id"] for item in page["items"]]
        query = {"limit": 10, "after": page["next"]}
    assert (found, page["next"]) == (names, None)
    assert web.get("/api/campaigns", params={"limit": 25}).json()["next"] is None


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ({"limit": "0"}, ["limit"]),
        ({"limit": "1001"}, ["limit"]),
        ({"limit": "1e400"}, ["limit"]),
        ({"limit": "٣"}, ["limit"]),
        ({"limit": "9" * 5000}, ["limit"]),
        ({"limit": "-1", "after": "../x"}, ["limit", "after"]),
        ({"after": ""}, ["after"]),
    ],
)
def test_campaigns_list_bad_page_is_422(web, query, fields):
    assert bad_fields(web.get("/api/campaigns", params=query)) == fields


@pytest.mark.parametrize(
    ("call", "path"),
    [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/stats"), ("POST", "/links")],
)
@pytest.mark.parametrize("name", ["unknown", "NOT-A-SLUG", "%00", "%2e%2e", "%F0%9F%92%A9", "a" * 64])
def test_stats_unknown_campaign_is_404_not_zeros(web, call, path, name):
    sent = {"json": {"recipients": ["ada"]}} if call in ("PATCH", "POST") else {}
    problem(web.request(call, f"/api/campaigns/{name}{path}", **sent), 404)


def test_campaigns_change_after_first_hit_keeps_time_zone(mail, opened, stats, site):
    mail()
    zone = {"time_zone": "Asia/Tokyo"}
    assert site.patch("/api/campaigns/mail", json=zone).json()["time_zone"] == "Asia/Tokyo"
    opened(AT)
    stats("mail")
    assert site.patch("/api/campaigns/mail", json=zone).status_code == 200
    problem(site.patch("/api/campaigns/mail", json={"name": "New", "time_zone": "UTC"}), 409)
    assert site.get("/api/campaigns/mail").json()["name"] == "mail"


def test_campaigns_good_token_creates_its_campaign(opened, stats, site):
    opened(AT, campaign="not-made-yet")
    assert stats("not-made-yet")["totals"]["unique_opens"] == 1
    made = site.get("/api/campaigns/not-made-yet").json()
    assert (made["kind"], made["name"], made["made_by"]) == ("email", "not-made-yet", "hit")
    assert problem(site.post("/api/campaigns", json={"id": "not-made-yet", "name": "x", "kind": "web"}), 409)


def test_campaigns_created_without_zone_has_the_servers(settings, secrets, client, clock):
    settings = replace(settings, time_zone="Asia/Tokyo")
    with make_client(settings, secrets) as web:
        made = web.post("/api/campaigns", json={"id": "one", "name": "One", "kind": "web"}).json()
        assert made["time_zone"] == "Asia/Tokyo"
        own = web.post(
            "/api/campaigns", json={"id": "two", "name": "Two", "kind": "web", "time_zone": "UTC"}
        ).json()
        assert own["time_zone"] == "UTC"
        assert web.post(
            "/sign-in", data={"key": API_KEY}, headers={"Sec-Fetch-Site": "same-origin"}
        ).is_success
        assert 'value="Asia/Tokyo"' in web.get("/new").text
    by_hit = read(client, lambda pipe: storage.seal(pipe, {"three": 0}, clock.now, settings))
    assert by_hit["three"].time_zone == "Asia/Tokyo"


@pytest.fixture
def hits_of_both(mail, page, opened, viewed):
    """Makes two campaigns with hits in all shards, at hours that are on another day in UTC."""
    mail(time_zone="America/Los_Angeles")
    page(time_zone="Asia/Tokyo")
    for at in ("2025-06-01T02:30Z", "2025-06-20T20:30Z"):
        for who in ("ada", "bob", "cyd", "dan", "eve"):
            opened(at, who)
            viewed(at, who)


def test_campaigns_deleted_leaves_only_a_tombstone(hits_of_both, opened, viewed, count, clock, site, client):
    assert count(clock.now) == 20
    for name, hit in (("mail", opened), ("page", viewed)):
        assert names_of(client, name)
        hit(AT)  # in the stream, not counted
        assert site.delete(f"/api/campaigns/{name}").status_code == 204
        assert names_of(client, name) == []
        hit(AT, says="ignored; reason=gone")
        assert count(clock.now) == 1
        assert names_of(client, name) == []
        problem(site.get(f"/api/campaigns/{name}/stats"), 404)
        problem(site.delete(f"/api/campaigns/{name}"), 404)
        problem(site.post("/api/campaigns", json={"id": name, "name": "x", "kind": "email"}), 409)
    assert site.get("/api/campaigns").json()["items"] == []
    assert client.smembers(keys.GONE) == {b"mail", b"page"}
    assert site.get("/readyz").json()["drops"] == {"gone": 2}


def test_campaigns_deleted_during_roll_up_stays_deleted(
    hits_of_both, count, clock, site, client, monkeypatch
):
    commit = checkpoint.commit

    def late(*arguments):
        site.delete("/api/campaigns/mail")
        return commit(*arguments)

    monkeypatch.setattr(checkpoint, "commit", late)
    count(clock.now)
    assert names_of(client, "mail") == []
    monkeypatch.setattr(checkpoint, "commit", commit)
    count(clock.now)
    assert names_of(client, "mail") == []
    assert site.get("/api/campaigns/page/stats").json()["totals"]["hits"] == 10


def test_campaigns_deletion_cut_short_is_finished(
    hits_of_both, opened, count, clock, site, client, settings, secrets, monkeypatch
):
    count(clock.now)
    with monkeypatch.context() as crash:

        async def crashes(*_):
            raise ConnectionError

        crash.setattr(deletion, "_remove_keys", crashes)
        problem(site.delete("/api/campaigns/mail"), 503)
    problem(site.get("/api/campaigns/mail"), 404)
    assert names_of(client, "mail")
    monkeypatch.setattr(maintenance, "context", lambda: (client, settings, secrets))
    maintenance.run()
    assert names_of(client, "mail") == []
    assert client.scard(keys.DELETING) == 0
    assert site.get("/api/campaigns/page/stats").json()["totals"]["hits"] == 10


def test_campaigns_deletion_failed_pixel_still_counts(mail, opened, site, monkeypatch):
    mail()

    async def refused(*_):
        raise ConnectionError

    monkeypatch.setattr(deletion, "delete", refused)
    problem(site.delete("/api/campaigns/mail"), 503)
    opened(AT)


def test_campaigns_base_url_like_own_path_is_422(web):
    found = {route.path.split("/")[1] for route in web.app.routes} - {""}
    assert {name for name in found if name.isprintable() and "{" not in name} == RESERVED_PATHS


def test_campaigns_change_unknown_field_is_422(web):
    links(web, ["ada"])
    sent = {"id": "x", "kind": "web", "created": "", "made_by": "hit", "name": ""}
    assert sorted(bad_fields(web.patch("/api/campaigns/mail", json=sent))) == sorted(sent)
