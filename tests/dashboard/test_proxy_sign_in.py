"""Pages of a user whom a proxy signed in: what they show, and the checks that still hold."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import ip_network

import pytest
from starlette.testclient import TestClient

from pixel_server.auth import sessions
from pixel_server.settings import Settings
from pixel_server.sign_in_scopes import parse
from tests.conftest import API_KEY

PROXY = "198.51.100.9"
"""Address of the fixture `visitor`."""
TOKEN = re.compile(r'name="csrf" value="([\w-]+)"')
ANNA, BEN = {"Remote-User": "anna"}, {"Remote-User": "ben"}


SCOPES = "anna=read,write,people; eva=read,write; ben=read; carl=read:mail; dora=write; group:staff=read"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(
        settings,
        trusted_proxies=(ip_network(PROXY),),
        sign_in_header="Remote-User",
        sign_in_groups_header="Remote-Groups",
        sign_in_scopes=parse(SCOPES),
        sign_out_url="https://auth.example.org/logout?rd=a&b",
    )


def csrf(page) -> str:
    found = TOKEN.search(page.text)
    assert found is not None
    return found[1]


def key_form(visitor: TestClient, user: dict[str, str]) -> str:
    """Returns the token of the form that creates API keys."""
    return csrf(visitor.get("/keys", headers=user))


def test_user_sees_pages_without_a_cookie(visitor: TestClient):
    page = visitor.get("/", headers=ANNA)
    assert page.status_code == 200
    assert "Signed in by the proxy as this user" in page.text
    assert "<bdi>anna</bdi>" in page.text
    assert 'href="https://auth.example.org/logout?rd=a&amp;b"' in page.text
    assert "set-cookie" not in page.headers
    assert visitor.get("/").status_code == 303


def test_user_changes_from_request_to_request(visitor: TestClient):
    assert visitor.get("/new", headers=ANNA).status_code == 200
    refused = visitor.get("/new", headers=BEN)
    assert refused.status_code == 403
    assert (
        "You need the permission “Create and change” (write) to create a campaign, "
        "and the user “ben” does not have it." in refused.text
    )
    assert visitor.get("/", headers={"Remote-User": "x", "Remote-Groups": "a, staff"}).status_code == 200


@pytest.mark.parametrize("user", ["stranger", "dora", "Anna"])
def test_user_who_cannot_see_any_page_gets_a_page_that_says_so(visitor: TestClient, user: str):
    for path in ("/", "/keys", "/new"):
        refused = visitor.get(path, headers={"Remote-User": user})
        assert refused.status_code == 403
        assert f"You are signed in as “{user}”, and this user cannot see any page" in refused.text
        assert "PIXEL_SIGN_IN_SCOPES" in refused.text
        assert "auth.example.org/logout" in refused.text
    answer = visitor.get("/campaigns/mail/stats.json", headers={"Remote-User": user})
    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")


def test_user_of_one_campaign_sees_its_shared_figures(visitor: TestClient, mail, page):
    mail(name="The spring mail")
    page(name="Our own site")
    carl = {"Remote-User": "carl"}
    listed = visitor.get("/", headers=carl).text
    assert "The spring mail" in listed
    assert "Our own site" not in listed
    assert visitor.get("/campaigns/mail", headers=carl).status_code == 200
    assert visitor.get("/campaigns/page", headers=carl).status_code == 403
    assert visitor.get("/campaigns/mail/recipients", headers=carl).status_code == 403


def test_forged_header_signs_nobody_in(site: TestClient):
    """`site` has another address than the proxy."""
    for path in ("/", "/keys", "/campaigns/x/stats.json"):
        answer = site.get(
            path, headers={**ANNA, "X-Forwarded-For": PROXY, "Authorization": ""}, follow_redirects=False
        )
        assert answer.status_code == (401 if path.endswith(".json") else 303)
    assert site.post("/keys", headers=ANNA, follow_redirects=False).headers["location"] == "/sign-in"


def test_header_does_not_open_the_api(visitor: TestClient):
    assert visitor.get("/api/campaigns", headers=ANNA).status_code == 401
    assert visitor.post("/api/keys", headers=ANNA, json={"name": "x", "scopes": ["read"]}).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        [("Remote-User", "anna"), ("Remote-User", "anna")],
        [("Remote-User", "anna"), ("Remote-Groups", "a"), ("Remote-Groups", "b")],
        [("Remote-User", "ben, anna")],
        [("Remote-User", b"an\x01na")],
        [("Remote-User", b"x" * 5000)],
    ],
)
def test_unusable_header_is_refused_also_with_a_session(visitor: TestClient, headers):
    visitor.post("/sign-in", data={"key": API_KEY})
    assert visitor.cookies[sessions.COOKIE]
    refused = visitor.get("/", headers=headers)
    assert refused.status_code == 403
    assert "signs nobody in" in refused.text
    assert visitor.get("/sign-in", headers=headers).status_code == 403


# An earlier session


def test_header_wins_over_a_session_and_ends_it_in_this_browser(visitor: TestClient):
    visitor.post("/sign-in", data={"key": API_KEY})
    assert visitor.get("/new").status_code == 200
    refused = visitor.get("/new", headers=BEN)
    assert refused.status_code == 403
    assert sessions.COOKIE not in visitor.cookies
    assert visitor.get("/new").status_code == 303


def test_empty_header_leaves_the_session(visitor: TestClient):
    visitor.post("/sign-in", data={"key": API_KEY})
    assert visitor.get("/new", headers={"Remote-User": ""}).status_code == 200


def test_sign_in_pages_send_a_user_to_the_campaigns(visitor: TestClient):
    for answer in (
        visitor.get("/sign-in", headers=BEN),
        visitor.post("/sign-in", headers=BEN, data={"key": API_KEY}),
        visitor.get("/sign-in/a-token", headers=BEN),
    ):
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert "set-cookie" not in answer.headers


def test_sign_out_is_left_to_the_proxy(visitor: TestClient):
    token = key_form(visitor, ANNA)
    answer = visitor.post("/sign-out", headers=ANNA, data={"csrf": token})
    assert answer.status_code == 409
    assert "only the proxy can sign you out" in answer.text
    assert visitor.post("/sign-out", headers=ANNA).status_code == 403


# Forms


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://pixel.test:81"},
    ],
)
def test_form_from_another_web_site_is_refused(visitor: TestClient, site: TestClient, headers):
    fields = {"csrf": key_form(visitor, ANNA), "name": "made", "sees": "server", "scope_read": "yes"}
    assert visitor.post("/keys", headers={**ANNA, **headers}, data=fields).status_code == 403
    assert "made" not in site.get("/api/keys").text
    assert (
        visitor.post("/keys", headers={**ANNA, "Origin": "http://pixel.test"}, data=fields).status_code == 200
    )
    assert "made" in site.get("/api/keys").text


def test_form_needs_the_token_of_this_user(visitor: TestClient):
    of_another_user = key_form(visitor, {"Remote-User": "eva"})
    visitor.post("/sign-in", data={"key": API_KEY})
    of_a_session = csrf(visitor.get("/"))
    for token in ("", "anna", of_another_user, of_a_session):
        fields = {"csrf": token, "name": "made", "sees": "server", "scope_read": "yes"}
        refused = visitor.post("/keys", headers=ANNA, data=fields)
        assert refused.status_code == 403
        assert "belongs to an earlier session" in refused.text


def test_audit_log_names_the_user(visitor: TestClient, site: TestClient):
    fields = {"csrf": key_form(visitor, ANNA), "name": "made", "sees": "server", "scope_read": "yes"}
    assert visitor.post("/keys", headers=ANNA, data=fields).status_code == 200
    newest = site.get("/api/audit").json()["items"][0]
    assert (newest["who"], newest["what"]) == ("anna, by the proxy", "key.made")
    assert "<bdi>anna, by the proxy</bdi>" in visitor.get("/audit", headers=ANNA).text


def test_user_cannot_create_a_key_with_more_scopes(visitor: TestClient):
    writer = {"Remote-User": "eva"}
    fields = {"csrf": key_form(visitor, writer), "name": "made", "sees": "server", "scope_people": "yes"}
    refused = visitor.post("/keys", headers=writer, data=fields)
    assert refused.status_code == 403
    assert "must not contain people" in refused.text


def test_name_is_escaped(visitor: TestClient):
    page = visitor.get("/", headers={"Remote-User": "<b>x</b>", "Remote-Groups": "staff"})
    assert "<bdi>&lt;b&gt;x&lt;/b&gt;</bdi>" in page.text
