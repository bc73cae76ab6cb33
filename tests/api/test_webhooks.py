"""Calls on webhooks: what they show and change, who may, and what is refused."""

from __future__ import annotations

import pytest

from pixel_server.store import keys
from pixel_server.store.client import connect
from pixel_server.webhooks import deliveries, storage
from pixel_server.webhooks.deliveries import Delivery
from tests.api.answers import bad_fields, problem

URL = "https://hooks.example.org/opens"


@pytest.fixture
def make(site):
    """Returns a function that makes a webhook, and returns the answer's content."""

    def make(**given):
        answer = site.post("/api/webhooks", json={"url": URL, "events": ["open.first"], **given})
        assert answer.status_code == 201, answer.text
        return answer.json()

    return make


@pytest.fixture
def as_writer(site):
    """Returns the headers of a key that lacks the scope `people`."""
    answer = site.post("/api/keys", json={"name": "writer", "scopes": ["read", "write"]})
    return {"Authorization": f"Bearer {answer.json()['key']}"}


def test_webhooks_create_show_change_and_delete(site, mail, make):
    mail()
    made = make(name="CRM", campaigns=["mail"], events_per_request=50)
    assert made["secret"].startswith("whsec_")
    path = f"/api/webhooks/{made['id']}"
    shown = site.get(path).json()
    assert "secret" not in shown
    assert shown["secrets"] == [{"hint": made["secret"][-4:], "until": None}]
    assert (shown["name"], shown["campaigns"], shown["events_per_request"]) == ("CRM", ["mail"], 50)
    assert shown["state"]["last_success"] is None
    assert site.get("/api/webhooks").json() == {"items": [shown], "next": None}
    changed = site.patch(path, json={"events": ["open.each", "health"], "campaigns": []}).json()
    assert (changed["events"], changed["campaigns"]) == (["open.each", "health"], [])
    assert site.patch(path, json={"is_enabled": False}).json()["is_enabled"] is False
    assert site.delete(path).status_code == 204
    for method, rest in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/queue"), ("POST", "/test")):
        problem(site.request(method, path + rest, json={} if method == "PATCH" else None), 404)
    whats = [line["what"] for line in site.get("/api/audit").json()["items"]]
    assert {"webhook.made", "webhook.changed", "webhook.deleted"} <= set(whats)


def test_webhooks_pages_follow_one_another(site, make):
    made = [make()["id"] for _ in range(3)]
    first = site.get("/api/webhooks?limit=2").json()
    second = site.get(f"/api/webhooks?limit=2&after={first['next']}").json()
    assert sorted(item["id"] for item in first["items"] + second["items"]) == sorted(made)
    assert second["next"] is None


def test_webhooks_new_secret_signs_beside_the_old_one(site, make):
    made = make(secret="whsec_" + "A" * 32)
    path = f"/api/webhooks/{made['id']}/secret"
    new = site.post(path, json={}).json()
    assert new["secret"] != made["secret"]
    assert [secret["until"] is None for secret in new["secrets"]] == [True, False]
    last = site.post(path, json={"overlap_seconds": 0}).json()
    assert [secret["hint"] for secret in last["secrets"]] == [last["secret"][-4:]]
    assert bad_fields(site.post(path, json={"secret": "whsec_short"})) == ["secret"]
    assert bad_fields(site.post(path, json={"overlap_seconds": -1})) == ["overlap_seconds"]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"url": "http://hooks.example.org/"}, "url"),
        ({"url": "https://user:secret@hooks.example.org/"}, "url"),
        ({"url": "https://hooks.example.org/\n"}, "url"),
        ({"url": "https://%do);5/"}, "url"),
        ({"url": ""}, "url"),
        ({"url": 5}, "url"),
        ({"url": "https://hooks.example.org/" + "a" * 2000}, "url"),
        ({"events": []}, "events"),
        ({"events": "open.first"}, "events"),
        ({"events": ["open.first", "open.first"]}, "events"),
        ({"events": ["test"]}, "events"),
        ({"campaigns": ["nobody-made-this"]}, "campaigns"),
        ({"campaigns": ["No Slug"]}, "campaigns"),
        ({"campaigns": [f"c{n}" for n in range(101)]}, "campaigns"),
        ({"name": "a\nb"}, "name"),
        ({"name": "a\x8fb"}, "name"),
        ({"events_per_request": 0}, "events_per_request"),
        ({"events_per_request": 101}, "events_per_request"),
        ({"secret": "hunter2"}, "secret"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_webhooks_bad_field_is_named_and_nothing_is_made(site, given, field):
    answer = site.post("/api/webhooks", json={"url": URL, "events": ["health"], **given})
    assert bad_fields(answer) == [field]
    assert site.get("/api/webhooks").json()["items"] == []


def test_webhooks_too_many_are_refused(site, make):
    for _ in range(storage.MAX_ENDPOINTS):
        make()
    problem(site.post("/api/webhooks", json={"url": URL, "events": ["health"]}), 409)


def test_webhooks_events_on_recipients_need_people(site, make, as_writer):
    for event in ("open.first", "open.each", "withdrawal"):
        answer = site.post("/api/webhooks", json={"url": URL, "events": [event]}, headers=as_writer)
        assert bad_fields(answer) == ["events"]
    own = site.post("/api/webhooks", json={"url": URL, "events": ["health"]}, headers=as_writer).json()
    path = f"/api/webhooks/{own['id']}"
    assert bad_fields(site.patch(path, json={"events": ["open.first"]}, headers=as_writer)) == ["events"]
    personal = make()
    elsewhere = {"url": "https://elsewhere.example.org/"}
    problem(site.patch(f"/api/webhooks/{personal['id']}", json=elsewhere, headers=as_writer), 403)
    assert site.get(f"/api/webhooks/{personal['id']}").json()["url"] == URL


def test_webhooks_test_event_waits_and_is_set_aside_and_sent_again(site, make, settings):
    made = make(events=["health"])
    path = f"/api/webhooks/{made['id']}"
    event_id = site.post(f"{path}/test").json()["webhook_id"]
    [waiting] = site.get(f"{path}/queue").json()["items"]
    assert (waiting["webhook_id"], waiting["tries"], waiting["events"]) == (event_id, 0, [event_id])
    client = connect(settings.redis_url)
    client.zrem(keys.hook_due(made["id"]), event_id)
    client.zadd(keys.hook_aside(made["id"]), {event_id: 1})
    assert site.get(f"{path}/queue").json()["items"] == []
    [aside] = site.get(f"{path}/queue?aside=true").json()["items"]
    assert (aside["webhook_id"], aside["due"]) == (event_id, None)
    assert site.get(path).json()["aside"] == 1
    assert site.post(f"{path}/again", json={"webhook_ids": ["evt_unknown"]}).json() == {"sent_again": 0}
    assert site.post(f"{path}/again", json={}).json() == {"sent_again": 1}
    assert site.get(path).json()["waiting"] == 1
    site.patch(path, json={"is_enabled": False})
    problem(site.post(f"{path}/test"), 409)
    problem(site.post(f"{path}/again", json={}), 409)


def test_webhooks_queue_and_deliveries_are_paged(site, make, settings):
    made = make(events=["health"])
    path = f"/api/webhooks/{made['id']}"
    sent = [site.post(f"{path}/test").json()["webhook_id"] for _ in range(3)]
    first = site.get(f"{path}/queue?limit=2").json()
    second = site.get(f"{path}/queue?limit=2&after={first['next']}").json()
    found = [item["webhook_id"] for item in first["items"] + second["items"]]
    assert (sorted(found), second["next"]) == (sorted(sent), None)
    client = connect(settings.redis_url)
    for attempt in (1, 2, 3):
        line = Delivery(0, sent[0], "health", 1, attempt, 500, 12, "<b>no</b>", "retry")
        words = deliveries.words(line)
        client.xadd(keys.hook_log(made["id"]), dict(zip(words[::2], words[1::2], strict=True)))
    newest = site.get(f"{path}/deliveries?limit=2").json()
    oldest = site.get(f"{path}/deliveries?limit=2&after={newest['next']}").json()
    assert [item["attempt"] for item in newest["items"] + oldest["items"]] == [3, 2, 1]
    assert newest["items"][0]["answer"] == "<b>no</b>"
    for query in ("aside=yes", "limit=0", "after=x"):
        problem(site.get(f"{path}/queue?{query}"), 422)


def test_webhooks_record_of_a_newer_version_is_left_alone(site, settings):
    connect(settings.redis_url).hset(keys.WEBHOOKS, "0123456789", b'{"format":99}')
    for method, rest in (("GET", ""), ("POST", "/test"), ("GET", "/deliveries")):
        assert (
            "update this server"
            in problem(site.request(method, f"/api/webhooks/0123456789{rest}"), 409)["detail"]
        )
    problem(site.patch("/api/webhooks/0123456789", json={"name": "x"}), 409)
    assert site.get("/api/webhooks").json()["items"] == []


@pytest.mark.parametrize(
    "bad", [{"webhook_ids": []}, {"webhook_ids": ["a b"]}, {"webhook_ids": ["a"] * 1001}]
)
def test_webhooks_bad_ids_are_refused(site, make, bad):
    made = make()
    assert bad_fields(site.post(f"/api/webhooks/{made['id']}/again", json=bad)) == ["webhook_ids"]
