"""Tags of campaigns: their form, their spellings, and campaigns found by a tag."""

from __future__ import annotations

import json

import msgspec
import pytest

from pixel_server.campaigns import campaign as campaigns
from pixel_server.campaigns import storage, tags
from tests.api.answers import bad_fields

MAIL = {"id": "mail", "name": "Mail", "kind": "email"}


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ([], ()),
        ([" News ", "news", "NEWS"], ("News",)),
        (["spring", "news", "Frühling"], ("spring", "news", "Frühling")),
        (["Fru\u0308hling", "FRÜHLING"], ("Frühling",)),
        (["t" * 40, "<b>", "\u202e", "{{ 1 }}"], ("t" * 40, "<b>", "\u202e", "{{ 1 }}")),
        (["same"] * 50, ("same",)),
    ],
)
def test_normalise_keeps_the_first_spelling_of_each_tag(given, stored):
    assert tags.normalise(given) == stored
    assert tags.normalise(stored) == stored


@pytest.mark.parametrize(
    "given",
    [[""], ["  "], ["t" * 41], ["a,b"], ["a\nb"], ["a\x00"], ["\ud800"], [f"t{n}" for n in range(11)]],
)
def test_normalise_bad_tags_raise(given):
    with pytest.raises(ValueError, match="must be"):
        tags.normalise(given)


@pytest.mark.parametrize("value", ["news", None, {"news": 1}, [1], [None], [["news"]], ["t" * 41], [""]])
def test_api_bad_tags_are_422(web, value):
    assert bad_fields(web.post("/api/campaigns", json={**MAIL, "tags": value})) == ["tags"]
    web.post("/api/campaigns", json=MAIL)
    assert bad_fields(web.patch("/api/campaigns/mail", json={"tags": value})) == ["tags"]
    assert web.get("/api/campaigns/mail").json()["tags"] == []


def test_api_tags_are_created_changed_and_removed(web):
    assert web.post("/api/campaigns", json={**MAIL, "tags": [" News", "spring"]}).json()["tags"] == [
        "News",
        "spring",
    ]
    assert web.patch("/api/campaigns/mail", json={"name": "Other"}).json()["tags"] == ["News", "spring"]
    assert web.patch("/api/campaigns/mail", json={"tags": ["autumn"]}).json()["tags"] == ["autumn"]
    assert web.patch("/api/campaigns/mail", json={"tags": []}).json()["tags"] == []


def test_api_list_with_tag_pages_have_each_tagged_campaign_once(web, monkeypatch):
    monkeypatch.setattr(storage, "_PAGE_SIZE", 3)
    for n in range(12):
        own = ["Even"] if n % 2 == 0 else ["odd", "some"]
        web.post("/api/campaigns", json={"id": f"c{n:02}", "name": "C", "kind": "web", "tags": own})
    found, query = [], {"tag": "EVEN", "limit": 4}
    for length in (4, 2):
        page = web.get("/api/campaigns", params=query).json()
        assert len(page["items"]) == length
        found += [item["id"] for item in page["items"]]
        query = {**query, "after": page["next"]}
    assert (found, page["next"]) == ([f"c{n:02}" for n in range(0, 12, 2)], None)
    assert web.get("/api/campaigns", params={"tag": "some", "limit": 6}).json()["next"] is None
    assert web.get("/api/campaigns", params={"tag": "none"}).json() == {"items": [], "next": None}


@pytest.mark.parametrize("tag", ["", " ", "a,b", "\x00", "t" * 41])
def test_api_list_bad_tag_is_422(web, tag):
    assert bad_fields(web.get("/api/campaigns", params={"tag": tag})) == ["tag"]
    assert bad_fields(web.get("/api/overview", params={"tag": tag})) == ["tag"]


def test_record_without_tags_of_an_earlier_version_is_read():
    stored = msgspec.to_builtins(campaigns.new_campaign("mail", "Mail", "email"))
    del stored["tags"]
    assert campaigns.decode(json.dumps(stored), "mail").tags == ()
