"""Campaigns, links and what is wrong with the input, over HTTP."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from pixel_server.api import request_body, routes
from pixel_server.app import create_app
from pixel_server.campaigns import storage
from pixel_server.problems import TYPE
from pixel_server.settings import RESERVED_PATHS
from pixel_server.store import checkpoint, jobs, keys
from pixel_server.store.client import connect, connect_async
from tests.conftest import API_KEY
from workers import maintenance

JSON = {"Content-Type": "application/json"}
AT = "2025-06-10T09:00Z"


def problem(answer, status):
    """The problem that an answer is."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, TYPE), answer.text
    found = answer.json()
    assert found["status"] == status
    assert found["title"]
    return found


def bad_fields(answer):
    return [error["field"] for error in problem(answer, 422)["errors"]]


# Campaigns


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


@pytest.mark.parametrize("call", [call for call in routes.CALLS if call.query], ids=lambda call: call.path)
def test_routing_unknown_parameter_is_422(web, call):
    web.post("/api/campaigns", json={"id": "spring", "name": "Spring", "kind": "web"})
    path = call.path.format(id="spring")
    assert bad_fields(web.get(path, params={"form": "2026-11-01"})) == ["form"]
    [first, *_] = call.query
    twice = problem(web.get(f"{path}?{first}=a&{first}=b"), 422)["errors"]
    assert twice == [{"field": first, "message": "is there twice"}]


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
    with _app(settings, secrets) as web:
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
    by_hit = storage.seal(client, {"three": 0}, clock.now, settings)
    assert by_hit["three"].time_zone == "Asia/Tokyo"


# Deletion


def names_of(client, campaign):
    return [name for name in client.keys("px:*") if campaign.encode() in name]


@pytest.fixture
def hits_of_both(mail, page, opened, viewed):
    """Two campaigns, hits in all shards, and at hours that are of another day in UTC."""
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
        hit(AT)  # lies in the stream, uncounted
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

        crash.setattr(storage, "_purge", crashes)
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

    monkeypatch.setattr(storage, "delete", refused)
    problem(site.delete("/api/campaigns/mail"), 503)
    opened(AT)


# Links


def links(web, recipients):
    if web.get("/api/campaigns/mail").status_code == 404:
        web.post("/api/campaigns", json={"id": "mail", "name": "Mail", "kind": "email"})
    sent = json.dumps({"recipients": recipients})
    return web.post("/api/campaigns/mail/links", content=sent, headers=JSON)


def test_links_made_follow_order_of_recipients(web):
    rows = ["ada", {"recipient": "bob", "mode": "off"}, {"recipient": "cyd", "part": "top", "test": True}]
    made = links(web, rows).json()["links"]
    assert [link["recipient"] for link in made] == ["ada", "bob", "cyd"]
    assert made[1] == {"recipient": "bob", "url": None, "html": None, "privacy_url": None}
    for link in (made[0], made[2]):
        assert web.get(link["url"]).headers["x-pixel"] == "recorded"
        assert link["html"] == f'<img src="{link["url"]}" width="1" height="1" alt="" border="0">'


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
    with _app(replace(settings, base_url=None), secrets) as web:
        assert "PIXEL_BASE_URL" in problem(links(web, ["ada"]), 409)["detail"]


def _app(settings, secrets, **more):
    queue = jobs.queue(connect(settings.redis_url))
    app = create_app(settings, secrets, connect_async(settings.redis_url), queue)
    return TestClient(app, headers={"Authorization": f"Bearer {API_KEY}"}, **more)


def test_campaigns_base_url_like_own_path_is_422(web):
    found = {route.path.split("/")[1] for route in web.app.routes} - {""}
    assert {name for name in found if name.isprintable() and "{" not in name} == RESERVED_PATHS


@pytest.mark.parametrize("prefix", ["", "/under/here"])
def test_routing_prefix_serves_everything(settings, secrets, prefix):
    settings = replace(settings, base_url="http://pixel.test/under/here")
    with _app(settings, secrets, base_url=f"http://pixel.test{prefix}") as web:
        made = web.post("/api/campaigns", json={"id": "mail", "name": "Mail", "kind": "email"})
        assert web.get(made.url.join(made.headers["location"])).json()["id"] == "mail"
        link = links(web, ["ada"]).json()["links"][0]["url"]
        assert link.startswith("http://pixel.test/under/here/o/")
        assert web.get(link).headers["x-pixel"] == "recorded"


# Bad input


def new(**fields):
    return json.dumps({"id": "c", "name": "C", "kind": "email", **fields})


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (400, b""),
        (400, b"{"),
        (400, b'{"id": "c"} {}'),
        (400, b"[" * 200_000),
        (400, b'{"a":' * 200_000),
        (400, b'{"id": "\xff"}'),
        (400, b'\xef\xbb\xbf{"id": "c"}'),
        (400, new().encode("utf-16")),
        (400, b'{"id": "c", "name": "C", "kind": "email", "\\u0069d": "d"}'),
        (400, b'{"id": "c", "sent": {"a": 1, "a": 1}}'),
        (400, new(sent=float("nan"))),
        (400, new(sent=float("inf"))),
        (400, new(sent=10**40)),
        (400, '{"sent": ' + "9" * 100_000 + "}"),
        (413, b" " * (request_body.MAX_BODY_BYTES + 1)),
        (413, new(name="x" * request_body.MAX_BODY_BYTES)),
        *((422, json.dumps(value)) for value in (None, True, 1, 1.5, "text", [], [{}])),
    ],
)
def test_request_body_not_an_object_is_refused(web, client, status, sent):
    problem(web.post("/api/campaigns", content=sent, headers=JSON), status)
    assert names_of(client, "campaign:") == []


@pytest.mark.parametrize(
    ("fields", "bad"),
    [
        *(
            ({"id": value}, ["id"])
            for value in ("", "A", "-a", "a_b", "a/b", "a" * 64, "\u0430", "\uff41", "a\n", None, 1)
        ),
        *(
            ({"name": value}, ["name"])
            for value in ("", "  ", "x" * 201, "a\0b", "a\tb", "\ud800", None, 1, {})
        ),
        *(({"kind": value}, ["kind"]) for value in ("sms", "", "Email", None, 1, [], {})),
        *(({"sent": value}, ["sent"]) for value in (-1, 10**9 + 1, 10**20, 1e20, 1.5, True, "4", [], {})),
        *(
            ({"time_zone": value}, ["time_zone"])
            for value in (
                *("", "Mars/Base", "../../etc/passwd", "/etc/localtime", "localtime", "utc+1", "UTC\0"),
                *(None, 1, "posix/UTC", "a" * 5000),
            )
        ),
        *(
            ({"base_url": value}, ["base_url"])
            for value in (
                *("", "ftp://x", "//x", "http://", "http://x?", "http://x#", "http://u@x", "http://x:99999"),
                *("http://x:0", "http://[", "http://x/\n", "http://ü", "javascript:alert(1)", 'http://x/"'),
                *("http://" + "x" * 500, 1),
            )
        ),
        ({"x": 1, "id": "", "sent": -1}, ["id", "sent", "x"]),
    ],
)
def test_request_body_bad_fields_are_named_and_nothing_stored(web, client, fields, bad):
    answer = web.post("/api/campaigns", content=new(**fields), headers=JSON)
    assert sorted(bad_fields(answer)) == bad
    assert names_of(client, "campaign:") == []


def test_request_body_missing_fields_are_named(web):
    assert bad_fields(web.post("/api/campaigns", json={})) == ["id", "kind", "name"]


@pytest.mark.parametrize("number", ["4", "4.0", "4e0", "40E-1"])
def test_request_body_integer_written_as_float_is_accepted(web, number):
    sent = new().replace("}", f', "sent": {number}}}')
    assert web.post("/api/campaigns", content=sent, headers=JSON).json()["sent"] == 4


def test_request_body_infinite_number_is_refused(web):
    sent = new().replace("}", ', "sent": 1e400}')
    assert bad_fields(web.post("/api/campaigns", content=sent, headers=JSON)) == ["sent"]


def test_request_body_largest_is_accepted(web):
    sent = new().encode()
    padded = sent + b" " * (request_body.MAX_BODY_BYTES - len(sent))
    assert web.post("/api/campaigns", content=padded, headers=JSON).status_code == 201


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx"]
)
def test_request_body_other_type_is_415(web, kind):
    headers = {"Content-Type": kind} if kind else {}
    problem(web.post("/api/campaigns", content=new(), headers=headers), 415)


def test_campaigns_change_unknown_field_is_422(web):
    links(web, ["ada"])
    sent = {"id": "x", "kind": "web", "created": "", "made_by": "hit", "name": ""}
    assert sorted(bad_fields(web.patch("/api/campaigns/mail", json=sent))) == sorted(sent)


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


# Redis away


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
