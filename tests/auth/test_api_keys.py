"""API keys: the calls that each scope allows, and what the store holds of a key."""

from __future__ import annotations

from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from pixel_server.api import routes
from pixel_server.app import create_app
from pixel_server.auth import throttle
from pixel_server.store import jobs, keys
from pixel_server.store.client import connect, connect_async

ANOTHER = "another-key-of-the-operator"


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def create_key(web, *scopes):
    response = web.post("/api/keys", json={"name": "A reader", "scopes": list(scopes)})
    assert response.status_code == 201
    return response.json()


def test_create_key_is_shown_once_and_stored_as_hash(web, client):
    created = create_key(web, "read")
    assert (created["name"], created["scopes"], created["last_used"]) == ("A reader", ["read"], None)
    listed = web.get("/api/keys").json()
    assert {item["name"] for item in listed["items"]} == {"PIXEL_API_KEY", "A reader"}
    assert all("key" not in item and "hash" not in item for item in listed["items"])
    stored = b"".join(b"".join(client.hgetall(name).values()) for name in client.keys("*:apikey:*"))
    assert created["key"].encode() not in stored


def test_find_used_key_has_last_used(web):
    created = create_key(web, "read")
    assert web.get("/api/campaigns", headers=bearer(created["key"])).status_code == 200
    (record,) = [item for item in web.get("/api/keys").json()["items"] if item["id"] == created["id"]]
    assert record["last_used"] >= created["created"]


@pytest.mark.parametrize("scope", ["read", "write"])
def test_scopes_key_may_make_the_calls_of_its_scopes(web, scope):
    key = create_key(web, scope)["key"]
    for call in routes.CALLS:
        if call.scope:
            response = web.request(call.method, call.path.replace("{id}", "unknown"), headers=bearer(key))
            assert (response.status_code == 403) == (call.scope != scope), call


def test_scopes_shared_key_reads_its_campaigns_only(web):
    for name in ("docs", "blog", "shop"):
        web.post("/api/campaigns", json={"id": name, "name": name, "kind": "web"})
    created = create_key(web, "read:docs", "read:blog", "read:docs")
    assert created["scopes"] == ["read:blog", "read:docs"]
    for call in [call for call in routes.CALLS if call.scope]:
        for name, own in (("docs", True), ("blog", True), ("shop", False), ("unknown", False)):
            path = call.path.replace("{id}", name)
            response = web.request(call.method, path, headers=bearer(created["key"]))
            assert response.status_code == (200 if own and call.allows_shared_key else 403), path
            assert response.is_success or "of its own campaigns" in response.json()["detail"]
    for path in ("%64ocs", "docs%2f..%2fshop", "shop%20read:docs", "Docs", "*"):
        assert web.get(f"/api/campaigns/{path}/stats", headers=bearer(created["key"])).status_code in (
            (200,) if path == "%64ocs" else (403, 404)
        )


def test_create_key_with_more_scopes_than_the_caller_is_403(web):
    with_write = {"Authorization": f"Bearer {create_key(web, 'write')['key']}"}
    for scopes in (["people"], ["write", "read"], ["read:docs"]):
        web.post("/api/campaigns", json={"id": "docs", "name": "Docs", "kind": "web"})
        response = web.post("/api/keys", json={"name": "more", "scopes": scopes}, headers=with_write)
        assert response.status_code == 403
        assert response.json()["errors"][0]["field"] == "scopes"
    same = web.post("/api/keys", json={"name": "same", "scopes": ["write"]}, headers=with_write)
    assert same.status_code == 201


def test_scopes_write_or_people_do_not_read(web):
    web.post("/api/campaigns", json={"id": "docs", "name": "docs", "kind": "web"})
    for scope in ("write", "people"):
        key = create_key(web, scope)["key"]
        response = web.get("/api/campaigns/docs/stats", headers=bearer(key))
        assert (response.status_code, response.json()["detail"]) == (403, "this API key has no scope 'read'")


def test_scopes_read_shows_shared_campaigns_in_full(web):
    web.post("/api/campaigns", json={"id": "docs", "name": "docs", "kind": "web"})
    created = create_key(web, "read:docs", "read")
    assert created["scopes"] == ["read", "read:docs"]
    assert "verdicts" in web.get("/api/campaigns/docs/stats", headers=bearer(created["key"])).json()
    assert web.get("/api/campaigns", headers=bearer(created["key"])).status_code == 200


def test_scopes_shared_key_of_a_deleted_campaign_is_404(web):
    web.post("/api/campaigns", json={"id": "docs", "name": "docs", "kind": "web"})
    key = create_key(web, "read:docs")["key"]
    web.delete("/api/campaigns/docs")
    assert web.get("/api/campaigns/docs/stats", headers=bearer(key)).status_code == 404


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer  ",
        "Bearer wrong-key-wrong-key",
        "Basic YTpi",
        "Bearer \xff\xfe",
        "Bearer " + "x" * 5000,
    ],
)
def test_call_without_a_known_key_is_401(web, monkeypatch, header):
    monkeypatch.setattr(throttle, "FREE_FAILURES", len(routes.CALLS))  # without a delay
    web.headers.pop("authorization")
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    for call in routes.CALLS:
        if call.scope:
            response = web.request(call.method, call.path.replace("{id}", "unknown"), headers=headers)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer"), call
            assert response.json()["status"] == 401


def test_openapi_document_needs_no_key(web):
    web.headers.pop("authorization")
    assert web.get("/api/openapi.json").json()["openapi"] == "3.1.0"


def test_revoke_key_no_longer_works(web, client):
    created = create_key(web, "read", "write")
    assert web.delete(f"/api/keys/{created['id']}").status_code == 204
    assert web.get("/api/campaigns", headers=bearer(created["key"])).status_code == 401
    assert web.delete(f"/api/keys/{created['id']}").status_code == 404
    assert client.exists(keys.api_key(created["id"])) == 0


@pytest.mark.parametrize("name", ["unknown", "%00", "%2e%2e", "*", "a%3Ab", "é"])
def test_revoke_unknown_key_is_404(web, name):
    assert web.delete(f"/api/keys/{name}").status_code == 404


@pytest.mark.parametrize(
    ("sent", "fields"),
    [
        ({}, ["name", "scopes"]),
        ({"name": "", "scopes": []}, ["name", "scopes"]),
        ({"name": "k", "scopes": ["admin"]}, ["scopes"]),
        ({"name": "k", "scopes": "read"}, ["scopes"]),
        ({"name": "k", "scopes": [["read"]]}, ["scopes"]),
        ({"name": "k", "scopes": {"read": 1}}, ["scopes"]),
        ({"name": "k", "scopes": ["read"], "key": "mine"}, ["key"]),
        ({"name": "k", "scopes": ["read", "read:unknown"]}, ["scopes"]),
        ({"name": "k", "scopes": ["read:"]}, ["scopes"]),
        ({"name": "k", "scopes": ["read:*"]}, ["scopes"]),
        ({"name": "k", "scopes": ["read:a b"]}, ["scopes"]),
        ({"name": "k", "scopes": ["read:a\n"]}, ["scopes"]),
        ({"name": "k", "scopes": ["write:docs"]}, ["scopes"]),
        ({"name": "k", "scopes": ["read"] * 101}, ["scopes"]),
    ],
)
def test_create_bad_field_is_422(web, sent, fields):
    response = web.post("/api/keys", json=sent)
    assert (response.status_code, [error["field"] for error in response.json()["errors"]]) == (422, fields)
    assert len(web.get("/api/keys").json()["items"]) == 1


def test_store_environment_key_replaces_the_previous_key(web, settings, secrets):
    kept = create_key(web, "read")["key"]
    old = web.headers["authorization"].removeprefix("Bearer ")
    for key, works in ((ANOTHER, {ANOTHER, kept}), (None, {kept}), (old, {old, kept})):
        queue = jobs.queue(connect(settings.redis_url))
        redis = connect_async(settings.redis_url)
        with TestClient(create_app(replace(settings, api_key=key), secrets, redis, queue)) as again:
            accepted = {
                known
                for known in (old, ANOTHER, kept)
                if again.get("/api/keys", headers=bearer(known)).is_success
            }
        assert accepted == works
