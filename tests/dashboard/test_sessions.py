"""Signing in with a key or a link, signing out, and sessions that are refused."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from pixel_server.app import create_app
from pixel_server.auth import sessions, sign_in_links, throttle
from pixel_server.scopes import SCOPES
from pixel_server.secret import Secrets
from pixel_server.store import jobs, keys
from pixel_server.store.client import connect, connect_async
from tests.conftest import API_KEY

COOKIE = sessions.COOKIE
TOKEN = re.compile(r'name="csrf" value="([\w-]+)"')


@pytest.fixture
def link(site, settings):
    """Returns a function that creates a one-time token."""

    def make(key=None):
        async def run():
            client = connect_async(settings.redis_url)
            try:
                return await sign_in_links.make(client, key)
            finally:
                await client.aclose()

        return asyncio.run(run())

    return make


def assert_signed_out(visitor, path="/"):
    answer = visitor.get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in")


def csrf(visitor):
    found = TOKEN.search(visitor.get("/").text)
    assert found is not None
    return found[1]


def test_pages_redis_away_say_what_does_not_work(settings, secrets):
    settings = replace(settings, redis_url="unix:///nowhere/valkey.sock")
    queue = jobs.queue(connect(settings.redis_url))
    app = create_app(settings, secrets, connect_async(settings.redis_url), queue)
    browser = TestClient(app, headers={"Accept": "text/html"}, cookies={COOKIE: "v1.x"})
    sign_in = browser.post("/sign-in", data={"key": "pk_x"})
    assert (sign_in.status_code, "<h1>Nobody can sign in at the moment</h1>" in sign_in.text) == (503, True)
    link = browser.get("/sign-in/x")
    assert (link.status_code, "Nobody can sign in" in link.text) == (503, True)


def test_sign_in_with_key_opens_pages_until_sign_out(visitor, sign_in):
    assert_signed_out(visitor)
    sign_in()
    page = visitor.get("/")
    assert page.status_code == 200
    assert "Campaigns" in page.text
    assert page.headers["cache-control"] == "no-store"
    assert "unsafe" not in page.headers["content-security-policy"]
    out = visitor.post("/sign-out", data={"csrf": csrf(visitor)})
    assert (out.status_code, out.headers["location"]) == (303, "/sign-in")
    assert_signed_out(visitor)


def test_sign_out_ends_copies_of_the_cookie(visitor, sign_in, client):
    sign_in()
    copy = visitor.cookies[COOKIE]
    sign_in()
    other = visitor.cookies[COOKIE]
    assert other != copy, "signed in twice at the same time"
    visitor.cookies = {COOKIE: copy}
    assert visitor.post("/sign-out", data={"csrf": csrf(visitor)}).status_code == 303
    visitor.cookies = {COOKIE: copy}
    assert_signed_out(visitor)
    visitor.cookies = {COOKIE: other}
    assert visitor.get("/").status_code == 200
    (held,) = client.keys("px:*:signedout:*")
    assert 0 < client.ttl(held) <= sessions.LIFETIME_SECONDS
    assert copy.encode() not in held


def test_sign_in_cookie_has_safe_attributes(visitor):
    answer = visitor.post("/sign-in", data={"key": API_KEY})
    parts = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}
    assert parts >= {"httponly", "samesite=lax", "path=/", f"max-age={sessions.LIFETIME_SECONDS}"}
    assert "secure" not in parts
    assert API_KEY not in answer.headers["set-cookie"]


def test_sign_in_redirects_to_the_requested_page(visitor, mail):
    mail()
    sent = visitor.get("/campaigns/mail?from=2026-09-01").headers["location"]
    form = visitor.get(sent).text
    wanted = re.search(r'name="next" value="([^"]*)"', form)
    assert wanted is not None
    answer = visitor.post("/sign-in", data={"key": API_KEY, "next": wanted[1]})
    assert answer.headers["location"] == "/campaigns/mail?from=2026-09-01"


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "https://evil.example", "/\\evil.example", "\\\\evil", "a\nb", "javascript:1"],
)
def test_sign_in_foreign_target_is_ignored(visitor, target):
    answer = visitor.post("/sign-in", data={"key": API_KEY, "next": target})
    assert answer.headers["location"] == "/"


@pytest.mark.parametrize("key", ["", "  ", "nothing", "pk_" + "x" * 32, "\ufffd\x00", API_KEY + "x"])
def test_sign_in_unknown_key_is_refused(visitor, key):
    answer = visitor.post("/sign-in", data={"key": key})
    assert answer.status_code in (403, 422)
    assert 'role="alert"' in answer.text
    assert COOKIE not in answer.cookies


def test_session_forged_cookie_is_refused(visitor, sign_in, secrets, clock):
    good = sign_in().cookies[COOKIE]
    other = Secrets.derive(("a key of another server",), "and its secret")
    flipped = good[:-2] + ("A" if good[-2] != "A" else "B") + good[-1]
    spelt = good[:8] + "!!!!" + good[8:]  # base64 as Python reads it: the same bytes
    key = sessions.api_key_id(secrets, good, clock.now)
    forged = [
        flipped,
        spelt,
        good[:-4],
        good + "AAAA",
        sessions.issue_cookie(other, key, clock.now),
        "",
        "%",
        "a" * 41,
    ]
    for cookie in forged:
        assert sessions.api_key_id(secrets, cookie, clock.now) is None, cookie
        visitor.cookies.clear()
        visitor.cookies.set(COOKIE, cookie)
        assert_signed_out(visitor)
    visitor.cookies.clear()
    visitor.cookies.set(COOKIE, good)
    assert visitor.get("/").status_code == 200


def test_session_expires(sign_in, clock):
    visitor = sign_in()
    value = visitor.cookies[COOKIE]
    clock.now += sessions.LIFETIME_SECONDS - 1
    visitor.cookies.clear()
    visitor.cookies.set(COOKIE, value)
    assert visitor.get("/").status_code == 200
    clock.now += 1
    assert_signed_out(visitor)


def test_session_of_a_revoked_key_ends_at_once(site, sign_in, made_key, mail):
    mail()
    name, key = made_key("read")
    visitor = sign_in(key)
    assert visitor.get("/campaigns/mail").status_code == 200
    assert site.delete(f"/api/keys/{name}").status_code == 204
    assert_signed_out(visitor, "/campaigns/mail")
    answer = visitor.get("/campaigns/mail/stats.json")
    assert answer.status_code == 401


def test_sign_in_key_without_read_is_refused(visitor, made_key):
    answer = visitor.post("/sign-in", data={"key": made_key("write", "people")[1]})
    assert answer.status_code == 403
    assert "lacks the permission “See all figures” (read)" in answer.text
    assert COOKIE not in answer.cookies


@pytest.fixture
def held(monkeypatch):
    """Returns the seconds for which answers were delayed, in order. The test does not wait for them."""
    found = []

    async def hold(seconds):
        found.append(seconds)

    monkeypatch.setattr(throttle, "delay", hold)
    return found


def test_throttle_slows_wrong_keys_only(visitor, link, clock, client, held):
    """All requests have the same address, as behind a proxy that is not configured."""
    token = link()
    before = set(client.scan_iter()) | {keys.HOSTS.encode()}  # the first heartbeat may come during this test
    for _ in range(throttle.FREE_FAILURES + 20):
        assert visitor.post("/sign-in", data={"key": "wrong"}).status_code == 403
    assert visitor.get("/sign-in/some-token").status_code == 403
    assert held[:3] == [0.25, 0.5, 0.75]
    assert held[-1] == throttle.MAX_DELAY_SECONDS
    assert len(held) == 21
    assert set(client.scan_iter()) <= before
    assert visitor.post("/sign-in", data={"key": API_KEY}).status_code == 303
    assert visitor.get(f"/sign-in/{token}").status_code == 303
    assert len(held) == 21
    clock.now += throttle.FORGET_SECONDS
    assert visitor.post("/sign-in", data={"key": "wrong"}).status_code == 403
    assert len(held) == 21


def test_throttle_applies_to_the_api(site, held):
    def ask(key):
        return site.get("/api/campaigns", headers={"Authorization": f"Bearer {key}"}).status_code

    assert [ask("wrong") for _ in range(throttle.FREE_FAILURES + 2)] == [401] * (throttle.FREE_FAILURES + 2)
    assert held == [0.25, 0.5]
    assert ask(API_KEY) == 200
    assert site.get("/api/campaigns", headers={"Authorization": ""}).status_code == 401
    assert len(held) == 2


def test_throttle_too_many_held_answers_at_once(site, visitor, monkeypatch, held):
    monkeypatch.setattr(throttle, "MAX_DELAYED", 0)
    for _ in range(throttle.FREE_FAILURES):
        visitor.post("/sign-in", data={"key": "wrong"})
    refused = visitor.post("/sign-in", data={"key": "wrong"})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
    for _ in range(throttle.FREE_FAILURES + 1):
        refused = site.get("/api/campaigns", headers={"Authorization": "Bearer wrong"})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
    assert site.get("/api/campaigns").status_code == 200
    assert visitor.post("/sign-in", data={"key": API_KEY}).status_code == 303
    assert held == []


def test_throttle_memory_is_bounded():
    found = throttle.Throttle()
    for n in range(throttle.MAX_ADDRESSES + 50):
        found.count_failure(n.to_bytes(4, "big"), 0.0)
    assert len(found._failures) == throttle.MAX_ADDRESSES
    for n in range(throttle.FREE_FAILURES):
        assert found.count_failure(bytes.fromhex("20010db8000000aa") + n.to_bytes(8, "big"), 0.0) == 0
    assert found.count_failure(bytes.fromhex("20010db8000000aa") + bytes(8), 0.0) > 0
    assert found.count_failure(bytes.fromhex("20010db8000000ab") + bytes(8), 1.0) == 0


# Links that sign in once


def test_sign_in_link_works_once(visitor, link, client):
    token = link()
    assert not any(token.encode() in key for key in client.scan_iter())
    assert visitor.head(f"/sign-in/{token}").status_code == 200  # a preview does not use it up
    answer = visitor.get(f"/sign-in/{token}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert visitor.get("/").status_code == 200
    visitor.cookies.clear()
    again = visitor.get(f"/sign-in/{token}")
    assert again.status_code == 403
    assert "already used" in again.text
    assert_signed_out(visitor)


def test_sign_in_link_expires_after_ten_minutes(link, client):
    link()
    [key] = client.scan_iter("px:{all}:signin:*")
    assert 590 <= client.ttl(key) <= 600


def test_sign_in_link_of_a_key_without_read_is_refused(visitor, made_key, link):
    name, _ = made_key("write")
    answer = visitor.get(f"/sign-in/{link(name)}")
    assert answer.status_code == 403
    assert "it cannot see any page" in answer.text
    assert_signed_out(visitor)


def test_sign_in_link_of_a_revoked_key_is_refused(site, visitor, made_key, link):
    name, _ = made_key("read")
    token = link(name)
    site.delete(f"/api/keys/{name}")
    assert visitor.get(f"/sign-in/{token}").status_code == 403
    assert_signed_out(visitor)


def test_sign_in_link_needs_a_key_with_all_scopes(site, settings, client, link):
    for key in client.smembers(keys.API_KEYS):
        client.delete(keys.api_key(key.decode()))
    with pytest.raises(sign_in_links.NoApiKey):
        link()


# Forms of others


def test_form_without_csrf_token_is_refused(sign_in):
    visitor = sign_in()
    for fields in ({}, {"csrf": "wrong"}, {"csrf": "\udcff".encode("utf-8", "replace").decode()}):
        assert visitor.post("/sign-out", data=fields).status_code == 403
    assert visitor.get("/").status_code == 200


def test_form_with_another_sessions_csrf_token_is_refused(visitor, sign_in, clock):
    first = csrf(sign_in())
    visitor.cookies.clear()
    clock.now += 1
    second = csrf(sign_in())
    assert first != second
    assert visitor.post("/sign-out", data={"csrf": first}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
    ],
)
def test_form_from_another_web_site_is_refused(visitor, sign_in, headers):
    refused = visitor.post("/sign-in", data={"key": API_KEY}, headers=headers)
    assert refused.status_code == 403
    assert COOKIE not in refused.cookies
    sign_in()
    token = csrf(visitor)
    assert visitor.post("/sign-out", data={"csrf": token}, headers=headers).status_code == 403
    assert visitor.post("/sign-out", data={"csrf": token}).status_code == 303


def test_form_too_long_answers_413(visitor, sign_in):
    assert visitor.post("/sign-in", data={"key": "k" * 5000}).status_code == 413
    sign_in()
    assert visitor.post("/sign-out", data={"csrf": "k" * 70_000}).status_code == 413
    assert visitor.post("/sign-out", content="a=b&" * 1000).status_code == 413


# What a key may see


def test_read_scope_sees_no_single_people(sign_in, made_key, mail):
    mail(mode="identified")
    visitor = sign_in(made_key("read")[1])
    assert "/recipients" not in visitor.get("/campaigns/mail").text
    for path in ("recipients", "recipients.csv", "recipients.ndjson"):
        assert visitor.get(f"/campaigns/mail/{path}").status_code == 403


def test_session_cookie_does_not_open_the_api(reader):
    assert reader.get("/api/campaigns").status_code == 401


def test_key_of_one_campaign_sees_its_shared_figures(site, sign_in, made_key, mail, page):
    mail(name="The spring mail")
    page(name="Our own site")
    visitor = sign_in(made_key("read:mail")[1])
    listed = visitor.get("/").text
    assert "The spring mail" in listed
    assert "Our own site" not in listed
    shown = visitor.get("/campaigns/mail")
    assert shown.status_code == 200
    assert "nothing to show yet" in shown.text
    assert "People or machines?" not in shown.text
    for path in (
        "page",
        "nothing",
        "page/stats.json",
        "mail/figures.json",
        "mail/series.csv",
        "mail/breakdowns.csv",
        "mail/recipients",
    ):
        assert visitor.get(f"/campaigns/{path}").status_code == 403
    site.delete("/api/campaigns/mail")
    assert "no longer exist" in visitor.get("/").text


def test_pages_have_only_known_scopes():
    assert set(SCOPES) == {"read", "write", "people"}


def test_sign_in_page_link_first_then_key_and_commands_folded(visitor):
    text = visitor.get("/sign-in").text
    commands = '<details class="operating"><summary>I run this server</summary>'
    assert (
        text.index("Open the sign-in link")
        < text.index('name="key"')
        < text.index(commands)
        < text.index("pixel-server sign-in")
    )
    assert '<details class="operating" open>' in visitor.get("/sign-in/used").text
