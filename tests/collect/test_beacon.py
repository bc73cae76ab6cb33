"""Beacons of `p.js`: allowed origins, late and bad bodies, and cookies. See also corpus.py."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_server import hit
from pixel_server.collect import beacon, responses
from pixel_server.collect.page_params import PageParams
from pixel_server.store import keys
from pixel_server.times import DAY_MS
from tests.collect.test_endpoint import hits, serving
from tests.stack import until

TEXT = {b"content-type": b"text/plain"}


def read(*parts: bytes | None, headers: dict[bytes, bytes] = TEXT):
    """Returns what `read_body` makes of a body in these parts. None as a part: the client has gone."""
    messages = [
        {"type": "http.disconnect"}
        if part is None
        else {"type": "http.request", "body": part, "more_body": i + 1 < len(parts)}
        for i, part in enumerate(parts)
    ]

    async def receive():
        if messages:
            return messages.pop(0)
        return await asyncio.Event().wait()

    return asyncio.run(beacon.read_body(headers, receive))


def test_beacon_body_in_parts_is_read():
    assert read(b'{"i":', b"", b'"a"}') == PageParams(view=b"a")
    assert read(b" " * 4000, b'{"i":"a"}'.rjust(96)) == PageParams(view=b"a")
    assert read(b" " * 4000, b'{"i":"a"}'.rjust(97)) is responses.LONG_BODY
    assert read(b'{"i":', None) is None


def test_beacon_long_content_length_is_refused_unread():
    assert read(headers={**TEXT, b"content-length": b"4097"}) is responses.LONG_BODY
    assert read(headers={**TEXT, b"content-length": b"9" * 5000}) is responses.LONG_BODY
    for length in (b"\xb2", b"0" * 5000 + b"9", b"4096", b"0", b""):
        assert read(b'{"i":"a"}', headers={**TEXT, b"content-length": length}) == PageParams(view=b"a")


def test_beacon_late_body_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(beacon, "BODY_TIMEOUT_SECONDS", 0.01)

    async def receive():
        return await asyncio.Event().wait()

    assert asyncio.run(beacon.read_body(TEXT, receive)) is responses.SLOW_BODY


FIELDS = {
    "i": st.text(max_size=40) | st.integers(),
    "u": st.text(max_size=3000) | st.none(),
    "r": st.text(max_size=20),
    "v": st.text(st.characters(), max_size=20),
    "c": st.integers(-1, 2) | st.booleans(),
    "t": st.integers() | st.floats() | st.none(),
}


@given(
    st.binary(max_size=200)
    | st.fixed_dictionaries({}, optional=FIELDS).map(lambda it: json.dumps(it).encode())
)
def test_beacon_any_body_gets_an_answer(body: bytes):
    params = beacon.parse(body)
    if params is not None:
        assert 1 <= len(params.view) <= 32
        assert -1 <= params.spent_ms <= DAY_MS
        assert len(params.page.encode()) <= hit.MAX_URL + 3


def test_beacon_other_origin_is_refused_and_counted(web, client):
    fenced = {"id": "fenced", "name": "Fenced", "kind": "web", "origins": ["https://a.example"]}
    assert web.post("/api/campaigns", json=fenced).status_code == 201
    for method, origin, status in (
        ("POST", "https://a.example", 200),
        ("POST", "https://b.example", 403),
        ("POST", None, 403),
        ("OPTIONS", "https://b.example", 403),
        ("OPTIONS", "https://a.example", 200),
    ):
        named = {"Origin": origin} if origin else {}
        answer = web.request(
            method, "/p/fenced", content=b'{"i":"a"}', headers={"Content-Type": "text/plain", **named}
        )
        assert answer.status_code == status
        mine = origin or "*"
        assert answer.headers["access-control-allow-origin"] == mine
        assert answer.headers.get("access-control-allow-credentials") == (None if mine == "*" else "true")
        assert answer.headers["vary"] == "Origin"
        assert answer.headers["cache-control"].startswith("no-store")
    assert web.get("/p/fenced.gif", headers={"Cookie": "px-no=1"}).status_code == 200
    until(lambda: client.hget(keys.DROPPED, "fenced:out"))
    assert client.hgetall(keys.DROPPED) == {b"fenced:origin": b"3", b"fenced:out": b"1"}
    assert [recorded.method for recorded in hits(client)] == ["POST"]

    totals = web.get("/api/campaigns/fenced/stats").json()["totals"]
    assert (totals["refused_origin"], totals["dropped_opted_out"], totals["dropped_gpc"]) == (3, 1, 0)
    assert web.delete("/api/campaigns/fenced").status_code == 204
    assert client.hgetall(keys.DROPPED) == {}


@pytest.mark.parametrize("campaign", ["unknown", "Docs", "%20docs", "docs_1", "docs/more", "docs.gif"])
def test_beacon_campaign_that_does_not_exist_is_refused_in_plain_sight(web, campaign: str):
    headers = {"Content-Type": "text/plain", "Origin": "https://a.example"}
    answer = web.post(f"/p/{campaign}", content=b'{"i":"a"}', headers=headers)
    assert answer.status_code in (404, 405)
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert answer.headers["access-control-allow-credentials"] == "true"


def test_beacon_consent_is_the_same_as_for_an_image(web, client):
    kinds = {"count": {"gpc": "count"}, "drop": {"gpc": "drop"}, "off": {"mode": "off"}}
    for name, fields in {**kinds, "ignore": {"gpc": "ignore"}}.items():
        campaign = {"id": name, "name": name, "kind": "web", "identity": "cookie", **fields}
        assert web.post("/api/campaigns", json=campaign).status_code == 201
    says = {}
    for name in (*kinds, "ignore"):
        answer = web.post(
            f"/p/{name}",
            content=b'{"i":"a","c":1}',
            headers={"Content-Type": "text/plain", "Sec-GPC": "1"},
        )
        assert ("set-cookie" in answer.headers) == (name == "ignore")
        says[name] = answer.headers["x-pixel"]
    assert says == {
        "count": "recorded",
        "drop": "ignored; reason=gpc",
        "off": "ignored; reason=off",
        "ignore": "recorded",
    }
    [recorded] = [each for each in hits(client) if each.campaign != "ignore"]
    assert (recorded.campaign, recorded.visitor, recorded.visits, recorded.is_new) == ("count", b"", 0, False)


def test_beacon_refused_view_is_counted_once(web, client):
    for name, fields in (("open", {}), ("drop", {"gpc": "drop"})):
        campaign = {"id": name, "name": name, "kind": "web", **fields}
        assert web.post("/api/campaigns", json=campaign).status_code == 201
    for body in (b'{"i":"a"}', b'{"i":"a","t":0}', b'{"i":"a","t":900}'):
        for name, says in (("open", {"Cookie": "px-no=1"}), ("drop", {"Sec-GPC": "1"})):
            answer = web.post(f"/p/{name}", content=body, headers={"Content-Type": "text/plain", **says})
            assert answer.headers["x-pixel"].startswith("ignored; reason=")
    until(lambda: client.hlen(keys.DROPPED) == 2)
    assert client.hgetall(keys.DROPPED) == {b"open:out": b"1", b"drop": b"1"}
    assert hits(client) == []


def test_beacon_cookie_path_is_of_the_campaigns_base_url(settings, secrets, client):
    with serving(settings, secrets) as app:
        campaign = {"name": "Shop", "kind": "web", "identity": "cookie"}
        for name, base_url in (("shop", "https://stats.example.org/px"), ("plain", "https://x.example")):
            app.post("/api/campaigns", json={"id": name, "base_url": base_url, **campaign})
        assert "; Path=/px/p/; " in app.get("/p/shop.gif?c=1").headers["set-cookie"]
        assert "; Path=/p/; " in app.get("/p/plain.gif?c=1").headers["set-cookie"]
        no = app.post("/privacy", data={"do": "no", "c": "shop"}, follow_redirects=False)
        assert "; Path=/px; " in no.headers["set-cookie"]


@pytest.mark.parametrize("prefix", ["/px", "/a/b"])
def test_beacon_cookie_path_below_a_prefix_is_of_its_pixels(prefix, settings, secrets, client):
    with serving(replace(settings, base_url=f"https://pixel.test{prefix}"), secrets) as app:
        app.post("/api/campaigns", json={"id": "shop", "name": "Shop", "kind": "web", "identity": "cookie"})
        text = {"Content-Type": "text/plain"}
        for path in (f"{prefix}/p/shop", "/p/shop"):
            answer = app.post(path, content=b'{"i":"a","c":1}', headers=text)
            assert f"; Path={prefix}/p/; " in answer.headers["set-cookie"]
            assert app.get(f"{path}.gif?c=1").headers["set-cookie"].startswith("px_shop=")
            assert "set-cookie" not in app.get(f"{path}.gif").headers
