"""Routes of the API: parameters, wrong addresses, a prefix, a Redis that is away or full."""

from __future__ import annotations

from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from pixel_server.api import routes
from pixel_server.app import create_app
from pixel_server.store import jobs
from pixel_server.store.client import connect, connect_async
from tests.api.answers import bad_fields, links, make_client, problem


@pytest.mark.parametrize("call", [call for call in routes.CALLS if call.query], ids=lambda call: call.path)
def test_routing_unknown_parameter_is_422(web, call):
    web.post("/api/campaigns", json={"id": "spring", "name": "Spring", "kind": "web"})
    path = call.path.format(id="spring")
    assert bad_fields(web.request(call.method, path, params={"form": "2026-11-01"})) == ["form"]
    first = call.query[0].name
    twice = problem(web.request(call.method, f"{path}?{first}=a&{first}=b"), 422)["errors"]
    assert twice == [{"field": first, "message": "is given twice"}]


@pytest.mark.parametrize("prefix", ["", "/under/here"])
def test_routing_prefix_serves_everything(settings, secrets, prefix):
    settings = replace(settings, base_url="http://pixel.test/under/here")
    with make_client(settings, secrets, base_url=f"http://pixel.test{prefix}") as web:
        made = web.post("/api/campaigns", json={"id": "mail", "name": "Mail", "kind": "email"})
        assert web.get(made.url.join(made.headers["location"])).json()["id"] == "mail"
        link = links(web, ["ada"]).json()["links"][0]["url"]
        assert link.startswith("http://pixel.test/under/here/o/")
        assert web.get(link).headers["x-pixel"] == "recorded"


@pytest.mark.parametrize(
    ("call", "path", "status"),
    [
        ("GET", "/api", 404),
        ("GET", "/api/", 404),
        ("GET", "/api/campaigns/", 404),
        ("GET", "/nothing", 404),
        ("PUT", "/api/campaigns", 405),
        ("DELETE", "/api/campaigns/c/stats", 405),
        ("GET", "/api/campaigns/c/links", 405),
    ],
)
def test_routing_wrong_path_or_method_is_a_problem(web, call, path, status):
    answer = web.request(call, path)
    problem(answer, status)
    assert ("allow" in answer.headers) == (status == 405)


CALLS = [(call.method, call.path.replace("{id}", "c")) for call in routes.CALLS if call.scope]


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_routing_redis_away_is_503(settings, secrets, method, path):
    settings = replace(settings, redis_url="unix:///nowhere/valkey.sock")
    queue = jobs.queue(connect(settings.redis_url))
    app = create_app(settings, secrets, connect_async(settings.redis_url), queue)
    answer = TestClient(app).request(method, path, headers={"Authorization": "Bearer any"})
    problem(answer, 503)
    assert int(answer.headers["retry-after"]) > 0


def test_routing_redis_full_still_reads(web, client):
    made = {"id": "c", "name": "C", "kind": "email"}
    key = web.post("/api/keys", json={"name": "k", "scopes": ["read", "write"]}).json()["key"]
    assert web.post("/api/campaigns", json=made).status_code == 201
    client.config_set("maxmemory", 1)
    try:
        headers = {"Authorization": f"Bearer {key}"}
        assert web.get("/api/campaigns/c/stats", headers=headers).json()["totals"]["hits"] == 0
        problem(web.post("/api/campaigns", json={**made, "id": "d"}, headers=headers), 503)
    finally:
        client.config_set("maxmemory", 0)
    problem(web.get("/api/campaigns/d"), 404)
