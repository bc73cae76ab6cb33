"""Links made over the API."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pixel_server.mail.links import img
from tests.api.answers import bad_fields, links, make_client, problem


def test_links_made_follow_order_of_recipients(web):
    rows = ["ada", {"recipient": "bob", "mode": "off"}, {"recipient": "cyd", "part": "top", "test": True}]
    made = links(web, rows).json()["links"]
    assert [link["recipient"] for link in made] == ["ada", "bob", "cyd"]
    assert made[1] == {"recipient": "bob", "url": None, "html": None, "privacy_url": None}
    for link in (made[0], made[2]):
        assert web.get(link["url"]).headers["x-pixel"] == "recorded"
        assert link["html"] == img(link["url"])


def test_links_accept_ndjson_gives_lines(web):
    links(web, ["ada"])
    sent = {"recipients": ["ada", "bob"]}
    answer = web.post("/api/campaigns/mail/links", json=sent, headers={"Accept": "application/x-ndjson"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["recipient"] for line in answer.text.splitlines()] == ["ada", "bob"]


def test_links_campaign_base_url_is_used(web):
    links(web, ["ada"])
    web.patch("/api/campaigns/mail", json={"base_url": "https://m.example/x"})
    assert links(web, ["ada"]).json()["links"][0]["url"].startswith("https://m.example/x/o/")


def test_links_most_recipients_are_accepted(web):
    assert len(links(web, [f"r{n}" for n in range(10_000)]).json()["links"]) == 10_000
    assert bad_fields(links(web, [f"r{n}" for n in range(10_001)])) == ["recipients"]


@pytest.mark.parametrize("recipient", ["a", "a" * 256, "ü" * 256, "Ada <ada@example.org>", "🙂"])
def test_links_good_recipient_gets_a_link(web, recipient):
    assert links(web, [recipient]).json()["links"][0]["recipient"] == recipient


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        *((text, ["recipient"]) for text in ("", "a" * 257, "a\0", "a\nb", "\x7f", "\x85", "a\ud800")),
        *((other, ["recipient"]) for other in (None, 1, 1.5, True, ["ada"], [])),
        ({}, ["recipient"]),
        ({"recipient": 1}, ["recipient"]),
        ({"recipient": "a", "mode": "OFF"}, ["mode"]),
        ({"recipient": "a", "mode": None}, ["mode"]),
        ({"recipient": "a", "part": "middle", "test": 1}, ["part", "test"]),
        ({"recipient": "a", "x": 1, "\ud800": 1}, ["x", "\ud800"]),
        *(
            ({"recipient": "a", "sent_at": at}, ["sent_at"])
            for at in (
                *(0, None, "", "yesterday", "2026-11-24", "2026-11-24T09:00:00", "2106-02-07T06:28:16Z"),
                *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1969-12-31T23:59:59Z"),
            )
        ),
    ],
)
def test_links_bad_rows_are_all_named_and_no_link_made(web, row, fields):
    errors = problem(links(web, ["good", row, "good", row]), 422)["errors"]
    assert [(error["row"], error["field"]) for error in errors] == [(n, f) for n in (1, 3) for f in fields]
    assert links(web, ["good"]).status_code == 200


@pytest.mark.parametrize(
    ("sent", "fields"),
    [
        ({}, ["recipients"]),
        ({"recipients": []}, ["recipients"]),
        ({"recipients": "ada", "x": 1}, ["recipients", "x"]),
    ],
)
def test_links_bad_list_is_422(web, sent, fields):
    links(web, ["ada"])
    assert sorted(bad_fields(web.post("/api/campaigns/mail/links", json=sent))) == fields


def test_links_web_campaign_is_409(page, site):
    page()
    found = problem(site.post("/api/campaigns/page/links", json={"recipients": ["ada"]}), 409)
    assert "/p/page.gif" in found["detail"]


def test_links_without_base_url_is_409(settings, secrets):
    with make_client(replace(settings, base_url=None), secrets) as web:
        assert "PIXEL_BASE_URL" in problem(links(web, ["ada"]), 409)["detail"]
