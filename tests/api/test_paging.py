"""Every list of the API: its pages, which `after` and `limit` choose in the same way."""

from __future__ import annotations

import itertools

import pytest

from pixel_server.api import audience
from pixel_server.api.openapi.document import document
from pixel_server.api.routes import CALLS
from pixel_server.store import keys
from pixel_server.store.client import connect
from pixel_server.webhooks import deliveries, endpoint
from pixel_server.webhooks.deliveries import Delivery

DOCUMENT = document(None, CALLS)
LISTS = {
    "/api/campaigns": {},
    "/api/campaigns/letter/notes": {},
    "/api/campaigns/letter/shares": {},
    "/api/campaigns/letter/recipients": {"state": "unopened"},
    "/api/recipients": {"quiet_since": "2025-06-01"},
    "/api/audience": {"of": "letter,extra-letter", "opened": "none"},
    "/api/withdrawals": {},
    "/api/audit": {},
    "/api/audit/recipients": {},
    "/api/keys": {},
    "/api/kept": {},
    "/api/deliveries/sources": {},
    "/api/webhooks": {},
    "/api/webhooks/0000000000/queue": {},
    "/api/webhooks/0000000000/deliveries": {},
    "/api/overview": {"sort": "name"},
    "/api/compare": {"ids": "letter,blog,extra"},
}
"""Each list, and the parameters that it needs. The fixture `filled` puts more than two items into each."""


def test_paging_lists_are_all_that_answer_items():
    calls = {path_of(call): call for call in CALLS if call.method == "GET"}
    lists = {path for path, call in calls.items() if "next" in fields_of(call)}
    assert lists == LISTS.keys()
    for path in lists:
        assert {"after", "limit"} <= {parameter.name for parameter in calls[path].query}, path


def path_of(call):
    """Returns the path of a call, with the id of a campaign or a webhook of the fixture `filled`."""
    return call.path.replace("{id}", "0000000000" if call.path.startswith("/api/webhooks") else "letter")


def fields_of(call):
    """Returns the fields of the JSON that a call answers."""
    response = DOCUMENT["paths"][call.path]["get"]["responses"]["200"]
    return response["content"]["application/json"]["schema"].get("properties", {})


@pytest.fixture
def filled(site, mail, page, clock, settings, monkeypatch):
    monkeypatch.setattr(audience, "PAGE_SECONDS", 60.0)  # a slow machine makes no shorter pages
    monkeypatch.setattr(endpoint, "new_id", map("{:010}".format, itertools.count()).__next__)
    clock.at("2025-06-10T09:00Z")
    mail(id="letter", mode="identified")
    mail(id="extra-letter")
    page(id="blog")
    page(id="extra")
    people = [f"reader-{number}@example.org" for number in range(7)]
    sent = {"recipients": people, "sent": True}
    links = site.post("/api/campaigns/letter/links", json=sent).json()["links"]
    for number in range(4):
        note = {"text": f"Note {number}", "at": f"2025-06-0{9 - number // 2}T08:00:00Z"}
        site.post("/api/campaigns/letter/notes", json=note)
        site.post("/api/campaigns/letter/shares", json={"name": f"Link {number}"})
        site.post("/api/keys", json={"name": f"Key {number}", "scopes": ["read"]})
        site.post("/api/deliveries/sources", json={"provider": "postmark", "name": f"Shop {number}"})
        site.post("/api/webhooks", json={"url": "https://hooks.example.org/", "events": ["health"]})
        site.post("/api/webhooks/0000000000/test")
        delivery = Delivery(0, f"evt_{number}", "test", 1, 1, 204, 12, "", "delivered")
        connect(settings.redis_url).xadd(keys.hook_log("0000000000"), as_fields(deliveries.words(delivery)))
        token = links[number]["privacy_url"].partition("t=")[2]
        site.post("/privacy", data={"t": token, "do": "stop"})
    gone = [f"gone-{number}@example.org" for number in range(5)]
    site.post("/api/withdrawals", json={"recipients": gone})
    return site


def as_fields(words):
    return dict(zip(words[::2], words[1::2], strict=True))


@pytest.mark.parametrize("limit", [1, 3])
def test_paging_pages_together_are_the_whole_list(filled, limit):
    for path, needed in LISTS.items():
        whole = names(filled.get(path, params={**needed, "limit": 1000}).json())
        assert len(whole) >= 3, path
        assert in_pages(filled, path, needed, limit) == whole, path


def in_pages(filled, path, needed, limit):
    """Returns the names of all items of a list, read in pages of `limit` items."""
    found, after = [], {}
    while True:
        answer = filled.get(path, params={**needed, "limit": limit, **after}).json()
        assert len(answer["items"]) <= limit
        found += names(answer)
        if answer["next"] is None:
            return found
        after = {"after": answer["next"]}


def names(answer):
    """Returns the parts of the items that name them."""
    named = ("id", "webhook_id", "campaign", "key", "mark", "data", "what", "at", "about")
    return [{name: item[name] for name in named if name in item} for item in answer["items"]]


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "1001"}, {"limit": "ten"}, {"limit": ""}, {"after": "no cursor"}]
)
def test_paging_bad_parameter_is_named(site, mail, page, query):
    for id_ in ("blog", "extra"):
        page(id=id_)
    mail(id="letter")
    for path, needed in LISTS.items():
        answer = site.get(path, params={**needed, **query})
        assert answer.status_code == 422, path
        assert [error["field"] for error in answer.json()["errors"]] == list(query), path


def test_paging_note_removed_meanwhile_shows_the_others(filled):
    path = "/api/campaigns/letter/notes"
    first = filled.get(path, params={"limit": 2}).json()
    for note in first["items"]:
        filled.delete(f"{path}/{note['id']}")
    rest = filled.get(path, params={"limit": 2, "after": first["next"]}).json()
    assert len(rest["items"]) == 2
    assert rest["next"] is None
