"""Requests and answers that the tests of several calls share."""

from __future__ import annotations

import json

from starlette.testclient import TestClient

from pixel_server.app import create_app
from pixel_server.problems import TYPE
from pixel_server.store import jobs
from pixel_server.store.client import connect, connect_async
from tests.conftest import API_KEY

JSON = {"Content-Type": "application/json"}


AT = "2025-06-10T09:00Z"


def problem(answer, status):
    """Returns the problem of an answer. Fails if the answer is not one with this status."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, TYPE), answer.text
    content = answer.json()
    assert content["status"] == status
    assert content["title"]
    return content


def bad_fields(answer):
    return [error["field"] for error in problem(answer, 422)["errors"]]


def names_of(client, campaign):
    return [name for name in client.keys("px:*") if campaign.encode() in name]


def links(web, recipients):
    if web.get("/api/campaigns/mail").status_code == 404:
        web.post("/api/campaigns", json={"id": "mail", "name": "Mail", "kind": "email"})
    sent = json.dumps({"recipients": recipients})
    return web.post("/api/campaigns/mail/links", content=sent, headers=JSON)


def make_client(settings, secrets, **more):
    queue = jobs.queue(connect(settings.redis_url))
    app = create_app(settings, secrets, connect_async(settings.redis_url), queue)
    return TestClient(app, headers={"Authorization": f"Bearer {API_KEY}"}, **more)


def new(**fields):
    return json.dumps({"id": "c", "name": "C", "kind": "email", **fields})
