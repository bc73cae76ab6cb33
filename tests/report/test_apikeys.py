"""API keys: who may do what, and what is kept of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from pixel_server import jobs, keys, store
from pixel_server.app import create_app
from pixel_server.report import calls

ANOTHER = "another-key-of-the-operator"


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def make(web, *scopes):
    answer = web.post("/api/keys", json={"name": "A reader", "scopes": list(scopes)})
    assert answer.status_code == 201
    return answer.json()


def test_a_key_is_shown_once_and_kept_hashed(web, client):
    made = make(web, "read")
    assert (made["name"], made["scopes"], made["last_used"]) == ("A reader", ["read"], None)
    listed = web.get("/api/keys").json()
    assert {item["name"] for item in listed["items"]} == {"PIXEL_API_KEY", "A reader"}
    assert all("key" not in item and "hash" not in item for item in listed["items"])
    stored = b"".join(b"".join(client.hgetall(name).values()) for name in client.keys("*:apikey:*"))
    assert made["key"].encode() not in stored


def test_its_use_is_noted(web):
    made = make(web, "read")
    assert web.get("/api/campaigns", headers=bearer(made["key"])).status_code == 200
    (found,) = [item for item in web.get("/api/keys").json()["items"] if item["id"] == made["id"]]
    assert found["last_used"] >= made["created"]


@pytest.mark.parametrize(
    "call", [call for call in calls.CALLS if call.scope], ids=lambda call: call.handler.__name__
)
@pytest.mark.parametrize("scope", ["read", "write"])
def test_a_key_may_do_what_its_scopes_say(web, call, scope):
    key = make(web, scope)["key"]
    answer = web.request(call.method, call.path.replace("{id}", "unknown"), headers=bearer(key))
    assert (answer.status_code == 403) == (call.scope != scope)


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
@pytest.mark.parametrize(
    "call", [call for call in calls.CALLS if call.scope], ids=lambda call: call.handler.__name__
)
def test_without_a_key_nothing_is_told(web, call, header):
    web.headers.pop("authorization")
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    answer = web.request(call.method, call.path.replace("{id}", "unknown"), headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["status"] == 401


def test_the_description_is_open_to_all(web):
    web.headers.pop("authorization")
    assert web.get("/api/openapi.json").json()["openapi"] == "3.1.0"


def test_a_revoked_key_is_worth_nothing(web, client):
    made = make(web, "read", "write")
    assert web.delete(f"/api/keys/{made['id']}").status_code == 204
    assert web.get("/api/campaigns", headers=bearer(made["key"])).status_code == 401
    assert web.delete(f"/api/keys/{made['id']}").status_code == 404
    assert client.exists(keys.api_key(made["id"])) == 0


@pytest.mark.parametrize("name", ["unknown", "%00", "%2e%2e", "*", "a%3Ab", "é"])
def test_an_unknown_key_is_404(web, name):
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
    ],
)
def test_bad_keys(web, sent, fields):
    answer = web.post("/api/keys", json=sent)
    assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (422, fields)
    assert len(web.get("/api/keys").json()["items"]) == 1


def test_the_key_of_the_environment_replaces_the_one_before(web, settings, secrets):
    kept = make(web, "read")["key"]
    old = web.headers["authorization"].removeprefix("Bearer ")
    for key, works in ((ANOTHER, {ANOTHER, kept}), (None, {kept}), (old, {old, kept})):
        queue = jobs.queue(store.connect(settings.redis_url))
        redis = store.connect_async(settings.redis_url)
        with TestClient(create_app(replace(settings, api_key=key), secrets, redis, queue)) as again:
            found = {
                one for one in (old, ANOTHER, kept) if again.get("/api/keys", headers=bearer(one)).is_success
            }
        assert found == works
