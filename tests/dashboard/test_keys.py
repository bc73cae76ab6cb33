"""The page of API keys: create, list and revoke."""

from __future__ import annotations

import re

import pytest

from pixel_server.auth import api_keys
from pixel_server.dashboard import long_list
from tests.conftest import API_KEY
from tests.dashboard.conftest import form_of
from tests.dashboard.test_campaign_forms import wrong
from tests.dashboard.test_pages import EVIL, Page, assert_harmless


def listed(site):
    return {key["id"]: key for key in site.get("/api/keys").json()["items"]}


def shown_key(answer):
    found = re.search(r"pk_[\w-]{32}", answer.text)
    return found and found[0]


def test_keys_page_create_shows_the_key_once(site, reader, send, visitor):
    before = listed(site)
    answer = send("/keys", name="a program", sees="server", scope_people="yes")
    assert answer.status_code == 200
    assert_harmless(answer)
    [made] = [key for name, key in listed(site).items() if name not in before]
    assert (made["name"], made["scopes"]) == ("a program", ["read", "people"])
    key = shown_key(answer)
    assert site.get("/api/campaigns", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    again = reader.get("/keys")
    assert made["id"] in again.text
    assert key not in again.text


def test_keys_page_metrics_scope_creates_a_key_that_reads_metrics_alone(site, send):
    key = shown_key(send("/keys", name="prometheus", sees="server", scope_read=None, scope_metrics="yes"))
    bearer = {"Authorization": f"Bearer {key}"}
    assert "pixel_build_info" in site.get("/metrics", headers=bearer).text
    assert site.get("/api/campaigns", headers=bearer).status_code == 403


def test_keys_page_campaign_scope_creates_a_partners_key(site, send, mail, page):
    mail(name="Spring news")
    page()
    # “read” is ticked, as from the start, and is left out.
    answer = send(
        "/keys", name="partner", sees="shared", campaign_mail="mail", campaigns="page\r\n\r\n mail "
    )
    [made] = [key for key in listed(site).values() if key["name"] == "partner"]
    assert made["scopes"] == ["read:mail", "read:page"]
    assert shown_key(answer)
    assert "It may do this: Shared figures of mail read:mail, Shared figures of page" in Page(answer).text
    assert "Spring news" in answer.text


def test_keys_page_chooses_no_answer_and_shows_at_most_20_campaigns_by_name(site, reader, mail):
    assert "There are no campaigns." in reader.get("/keys").text
    mail(id="c0")
    answer = reader.get("/keys")
    assert "sees" not in form_of(answer, "/keys")
    assert ("pick-c0" in answer.text, 'id="campaigns"' in answer.text) == (True, False)
    for n in range(1, 21):
        mail(id=f"c{n}")
    answer = reader.get("/keys")
    assert (answer.text.count('id="pick-'), 'id="campaigns"' in answer.text) == (20, True)


@pytest.mark.parametrize(
    ("filled", "fields"),
    [
        ({"name": "  "}, {"name"}),
        ({"name": "w" * 300}, {"name"}),
        ({"name": "a", "scope_read": None}, {"scopes"}),
        ({"name": "a", "sees": None}, {"sees"}),
        ({"name": "a", "sees": "all"}, {"sees"}),
        ({"name": "a", "campaigns": "mail"}, {"sees"}),
        ({"name": "a", "campaign_mail": "mail"}, {"sees"}),
        ({"name": "a", "sees": "shared", "scope_write": "yes", "campaigns": "mail"}, {"sees"}),
        ({"name": "a", "sees": "shared"}, {"campaigns"}),
        ({"name": "a", "sees": "shared", "campaigns": "nothing"}, {"campaigns"}),
        ({"name": "a", "sees": "shared", "campaigns": "<b>"}, {"campaigns"}),
        ({"name": api_keys.ENVIRONMENT_KEY_NAME}, {"name"}),
        ({"name": "", "sees": None}, {"name", "sees"}),
        ({"name": api_keys.ENVIRONMENT_KEY_NAME, "sees": "shared"}, {"name", "campaigns"}),
        ({"name": "w" * 300, "sees": "shared", "campaigns": "nothing"}, {"name", "campaigns"}),
    ],
)
def test_keys_page_invalid_key_is_refused(site, send, mail, filled, fields):
    mail()
    before, filled = listed(site), {"sees": "server", **filled}
    answer = send("/keys", **filled)
    assert answer.status_code == 422
    assert_harmless(answer)
    assert wrong(answer).keys() == fields
    assert not shown_key(answer)
    kept = form_of(answer, "/keys")
    expected = {**filled, "sees": None if filled["sees"] == "all" else filled["sees"]}
    assert {name: kept.get(name) for name in filled} == expected
    assert listed(site) == before


def test_keys_page_revoke_asks_first(site, reader, send, made_key):
    name, key = made_key("read")
    asked = reader.get(f"/keys/{name}/revoke")
    assert asked.status_code == 200
    assert name in listed(site)
    answer = send(f"/keys/{name}/revoke")
    assert answer.headers["location"] == "/keys?done=revoked"
    assert "The API key was revoked." in reader.get("/keys?done=revoked").text
    assert name not in listed(site)
    assert site.get("/api/campaigns", headers={"Authorization": f"Bearer {key}"}).status_code == 401
    for path in (name, "nothing", "%2e%2e", "x" * 300):
        assert reader.get(f"/keys/{path}/revoke").status_code == 404


def test_keys_page_revoke_own_key_needs_confirmation(site, reader, send, made_key):
    own = next(iter(listed(site)))
    answer = send(f"/keys/{own}/revoke")
    assert answer.status_code == 422
    assert wrong(answer).keys() == {"own"}
    assert own in listed(site)
    other, _ = made_key("read")
    assert "own" not in form_of(reader.get(f"/keys/{other}/revoke"), f"/keys/{other}/revoke")
    assert send(f"/keys/{own}/revoke", own="yes").status_code == 303
    assert reader.get("/keys").headers["location"].startswith("/sign-in")
    assert site.get("/api/keys").status_code == 401


def link_in(answer):
    found = re.search(r"http://pixel\.test/sign-in/([\w-]{32})<", answer.text)
    return found and f"/sign-in/{found[1]}"


def test_keys_page_makes_a_sign_in_link_that_works_once_and_is_audited(site, reader, send, made_key, visitor):
    name, _ = made_key("read")
    own = reader.get("/audit").text
    answer = send("/keys", f"/keys/{name}/sign-in-link")
    assert answer.status_code == 200
    page = assert_harmless(answer)
    assert "It works once, within 10 minutes." in page.text
    link = link_in(answer)
    assert link_in(reader.get("/keys")) is None
    newest = site.get("/api/audit").json()["items"][0]
    assert (newest["what"], newest["about"]) == ("sign_in_link.made", {"key": name})
    assert newest["who"].startswith("key ")
    assert newest["who"] != f"key {name}"
    assert ">sign-in link created<" in reader.get("/audit").text
    assert ">sign-in link created<" not in own
    visitor.cookies.clear()
    assert visitor.get(link).status_code == 303
    assert "another" in visitor.get("/keys").text
    assert 'action="/keys' not in visitor.get("/keys").text
    visitor.cookies.clear()
    assert visitor.get(link).status_code == 403


def test_sign_in_link_of_a_key_needs_its_scopes_and_a_page_to_see(site, sign_in, made_key, mail, settings):
    mail()
    metrics, shared, whole = made_key("metrics")[0], made_key("read:mail")[0], made_key("people")[0]
    own, key = made_key("read", "write")
    bearer = {"Authorization": f"Bearer {key}"}

    def make(key_id, headers=bearer):
        return site.post(f"/api/keys/{key_id}/sign-in-link", headers=headers).status_code

    statuses = {metrics: 409, shared: 201, whole: 403, own: 201, "0" * 12: 404, "x": 404}
    assert {key_id: make(key_id) for key_id in statuses} == statuses
    assert make(own, {"Authorization": f"Bearer {made_key('read')[1]}"}) == 403
    answer = site.post(f"/api/keys/{own}/sign-in-link").json()
    assert (answer["url"].startswith("http://pixel.test/sign-in/"), answer["seconds"]) == (True, 600)
    visitor = sign_in(key)
    page = visitor.get("/keys")
    offered = set(re.findall(r'action="/keys/(\w+)/sign-in-link"', page.text))
    assert {shared, own} <= offered
    assert not {metrics, whole} & offered
    token = form_of(page, "/sign-out")["csrf"]
    assert visitor.post(f"/keys/{whole}/sign-in-link", data={"csrf": token}).status_code == 403
    for csrf in ("", "wrong"):
        assert visitor.post(f"/keys/{own}/sign-in-link", data={"csrf": csrf}).status_code == 403
    object.__setattr__(settings, "base_url", None)
    assert make(own) == 409


def test_keys_page_read_scope_sees_only_the_list(site, sign_in, made_key):
    name, key = made_key("read")
    visitor = sign_in(key)
    answer = visitor.get("/keys")
    assert name in answer.text
    assert "/revoke" not in answer.text
    assert not [each for each in Page(answer).all("form") if each["action"] == "/keys"]
    assert API_KEY not in answer.text
    token = form_of(answer, "/sign-out")["csrf"]
    assert visitor.post("/keys", data={"csrf": token, "name": "x", "scope_write": "yes"}).status_code == 403
    assert visitor.get(f"/keys/{name}/revoke").status_code == 403
    assert visitor.post(f"/keys/{name}/revoke", data={"csrf": token, "own": "yes"}).status_code == 403
    assert len(listed(site)) == 2


def test_keys_page_form_without_csrf_token_is_refused(site, send, made_key):
    name, _ = made_key("read")
    for token in (None, "wrong"):
        assert send("/keys", csrf=token, name="x").status_code == 403
        assert send(f"/keys/{name}/revoke", csrf=token).status_code == 403
    assert len(listed(site)) == 2


@pytest.mark.parametrize("text", EVIL)
def test_keys_page_hostile_names_are_harmless(reader, site, send, text):
    assert_harmless(send("/keys", name=text, sees="server"))
    [made] = [key["id"] for key in listed(site).values() if key["name"] == text]
    assert_harmless(reader.get("/keys"))
    assert_harmless(reader.get(f"/keys/{made}/revoke"))
    assert_harmless(send("/keys", f"/keys/{made}/sign-in-link"))
    for more in ({"campaigns": text}, {f"campaign_{text}": text}):
        assert_harmless(send("/keys", name=text * 99, sees="shared", **more))


def test_keys_page_many_keys_are_cut_until_all_are_asked_for(site, reader):
    for n in range(long_list.MAX_ROWS + 2):
        assert site.post("/api/keys", json={"name": f"key {n}", "scopes": ["read"]}).status_code == 201
    total = len(site.get("/api/keys").json()["items"])
    first = reader.get("/keys").text
    assert first.count("Revoke</a>") == long_list.MAX_ROWS
    assert f"The newest 40 of {total}" in first
    assert 'href="/keys?all=1"' in first
    every = reader.get("/keys?all=1").text
    assert every.count("Revoke</a>") == total
    assert "Show all" not in every
