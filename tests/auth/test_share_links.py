"""Share links: made, found by their token, expired, revoked, deleted with their campaign."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from pixel_server.app import create_app
from pixel_server.auth import share_links
from pixel_server.store import jobs, keys
from pixel_server.store.client import connect, connect_async
from tests.conftest import API_KEY


@pytest.fixture
def share(site):
    def make(name="A partner", status=201, campaign="mail", **fields):
        response = site.post(f"/api/campaigns/{campaign}/shares", json={"name": name, **fields})
        assert response.status_code == status, response.text
        return response.json()

    return make


@pytest.fixture
def find(settings, clock):
    """Returns a function that finds the share of a link at the clock's time."""

    def find(url):
        async def run():
            store = connect_async(settings.redis_url)
            try:
                return await share_links.find(store, url.rpartition("/")[2], clock.now)
            finally:
                await store.aclose()

        return asyncio.run(run())

    return find


def listed(site, campaign="mail"):
    return site.get(f"/api/campaigns/{campaign}/shares").json()["items"]


def audit_lines(site):
    return [line["what"] for line in site.get("/api/audit").json()["items"]]


def test_make_link_is_shown_once_and_stored_as_hash(mail, share, site, client, find, clock):
    mail()
    clock.at("2026-03-01T10:00Z")
    created = share(frames=["https://www.example.org"], expires_at="2026-04-01T00:00:00Z")
    url = created.pop("url")
    assert url.startswith("http://pixel.test/s/")
    token = url.rpartition("/")[2]
    assert len(token) == 32
    assert created.pop("made_by") == f"key {site.get('/api/keys').json()['items'][0]['id']}"
    assert created == {
        "id": created["id"],
        "campaign": "mail",
        "name": "A partner",
        "created": "2026-03-01T10:00:00Z",
        "expires_at": "2026-04-01T00:00:00Z",
        "frames": ["https://www.example.org"],
        "last_used": None,
    }
    assert [item["id"] for item in listed(site)] == [created["id"]]
    for key in client.keys("px:*"):
        assert token.encode() not in client.dump(key)
    found_share = find(url)
    assert (found_share.id, found_share.campaign, found_share.frames) == (
        created["id"],
        "mail",
        ("https://www.example.org",),
    )
    assert audit_lines(site)[0] == "share.made"


def test_find_used_link_has_the_hour_of_its_use(mail, share, site, find, clock):
    mail()
    url = share()["url"]
    clock.at("2026-10-01T10:59:59Z")
    find(url)
    assert listed(site)[0]["last_used"] == "2026-10-01T10:00:00Z"
    clock.at("2026-10-01T11:00:01Z")
    assert find(url).last_used is not None
    assert listed(site)[0]["last_used"] == "2026-10-01T11:00:00Z"


def test_find_expired_link_is_none(mail, share, site, find, clock):
    mail()
    clock.at("2026-03-01T10:00Z")
    url = share(expires_at="2026-03-02T00:00:00Z")["url"]
    always = share()["url"]
    clock.at("2026-03-01T23:59:59Z")
    assert find(url)
    clock.at("2026-03-02T00:00:00Z")
    assert find(url) is None
    assert find(always)
    assert len(listed(site)) == 2


def test_revoke_link_no_longer_opens(mail, page, share, site, client, find):
    mail()
    page()
    created, other = share(), share("Another")
    path = f"shares/{created['id']}"
    assert site.delete(f"/api/campaigns/page/{path}").status_code == 404  # another campaign's
    assert find(created["url"])
    assert site.delete(f"/api/campaigns/mail/{path}").status_code == 204
    assert site.delete(f"/api/campaigns/mail/{path}").status_code == 404
    assert find(created["url"]) is None
    assert find(other["url"]).name == "Another"
    assert audit_lines(site)[0] == "share.revoked"
    assert client.exists(keys.share(created["id"])) == 0


def test_share_links_deleted_campaign_removes_them(mail, page, share, site, client, find):
    mail()
    page()
    urls = [share()["url"], share()["url"]]
    kept = share(campaign="page")
    site.delete("/api/campaigns/mail")
    assert [find(url) for url in urls] == [None, None]
    assert find(kept["url"])
    key_names = {name.decode() for name in client.keys("*:share*")}
    assert key_names == {keys.share(kept["id"]), keys.shares("page")}
    share(status=404)


def test_make_too_many_links_is_409(mail, share, site, client):
    mail()
    share()
    client.sadd(keys.shares("mail"), *(f"{n:012x}" for n in range(share_links.MAX_SHARES - 1)))
    before = audit_lines(site).count("share.made")
    assert "100 share links" in share(status=409)["detail"]
    assert audit_lines(site).count("share.made") == before


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"frames": ["https://www.example.org/page"]}, "frames"),
        ({"frames": ["javascript:alert(1)"]}, "frames"),
        ({"frames": "https://www.example.org"}, "frames"),
        ({"token": "my-own"}, "token"),
    ],
)
def test_make_bad_field_is_422(mail, share, site, fields, field):
    mail()
    assert [error["field"] for error in share(status=422, **fields)["errors"]] == [field]
    assert listed(site) == []


def test_make_without_base_url_is_409(settings, secrets, clock):
    queue = jobs.queue(connect(settings.redis_url))
    bare = replace(settings, base_url=None)
    app = create_app(bare, secrets, connect_async(settings.redis_url), queue, clock)
    with TestClient(app, headers={"Authorization": f"Bearer {API_KEY}"}) as site:
        for name, base_url in (("mail", None), ("own", "https://mail.example.org/x")):
            fields = {"id": name, "name": name, "kind": "email", "base_url": base_url}
            assert site.post("/api/campaigns", json=fields).is_success
        response = site.post("/api/campaigns/mail/shares", json={"name": "x"})
        assert (response.status_code, listed(site)) == (409, [])
        response = site.post("/api/campaigns/own/shares", json={"name": "x"})
        assert response.json()["url"].startswith("https://mail.example.org/x/s/")


@pytest.mark.parametrize("token", ["", "x", "%00", "\ud800", "x" * 5000, "*", "\U0001f600"])
def test_find_unknown_token_is_none(mail, share, find, token):
    mail()
    share()
    assert find(token) is None


def test_find_other_token_with_the_same_id_is_none(mail, share, find, client):
    mail()
    created = share()
    client.hset(keys.share(created["id"]), "hash", "0" * 32)
    assert find(created["url"]) is None
