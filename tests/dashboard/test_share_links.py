"""The page of share links: create, show once, list, revoke, and the scopes for that."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from pixel_server.app import create_app
from pixel_server.auth import share_links
from pixel_server.store import jobs
from pixel_server.store.client import connect, connect_async
from tests.conftest import API_KEY
from tests.dashboard.test_pages import EVIL, Page, assert_harmless

PATH = "/campaigns/mail/shares"
FRAMES = "https://www.example.org\r\n\r\n http://localhost:8000 \r\n"


def csrf(reader, path=PATH):
    return Page(reader.get(path)).all("input")[0]["value"]


@pytest.fixture
def send(mail, clock):
    """Returns a function that sends the form. Days end two hours earlier in Berlin than in UTC."""
    clock.at("2026-09-20T15:00Z")
    mail(time_zone="Europe/Berlin")

    def send(reader, status=200, **fields):
        form = {"csrf": csrf(reader), "name": "A partner", "expires_at": "", "frames": "", **fields}
        answer = reader.post(PATH, data=form)
        assert answer.status_code == status, answer.text
        return answer

    return send


def shown(answer):
    """Returns the text of each field that can be copied."""
    found = re.findall(r'<textarea id="(link|frame)"[^>]*>\n(.*?)</textarea>', answer.text, re.S)
    return {name: html.unescape(text) for name, text in found}


def test_share_links_create_shows_the_link_once(send, reader, site, visitor):
    answer = send(reader, expires_at="2026-09-30", frames=FRAMES)
    assert_harmless(answer)
    copied = shown(answer)
    link, name = copied["link"], html.escape(site.get("/api/campaigns/mail").json()["name"])
    assert link.startswith("http://pixel.test/s/")
    assert f'<iframe src="{link}" title="{name}"' in copied["frame"]
    assert "A partner" not in copied["frame"], "who looks at that page does not see it"
    [kept] = site.get(f"/api{PATH}").json()["items"]
    assert kept["expires_at"] == "2026-09-30T22:00:00Z", "the end of the day where the campaign is"
    assert kept["frames"] == ["https://www.example.org", "http://localhost:8000"]
    assert kept["made_by"].startswith("key ")
    again = reader.get(PATH)
    assert link not in again.text
    page = assert_harmless(again)
    assert "A partner" in page.text
    assert "1 Oct 2026, 00:00 CEST" in page.text
    assert "never" in page.text
    assert visitor.get(link).status_code == 200
    assert "just now" in reader.get(PATH).text


def test_share_links_without_origins_show_no_iframe(send, reader):
    assert list(shown(send(reader))) == ["link"]


def test_share_links_revoke_ends_the_link(send, reader, site, visitor):
    link = shown(send(reader))["link"]
    send(reader, name="Another")
    page = Page(reader.get(PATH))
    paths = {link["aria-label"]: link["href"] for link in page.all("a") if link["href"].endswith("/revoke")}
    assert paths.keys() == {"Revoke A partner", "Revoke Another"}
    path = paths["Revoke A partner"]
    asked = reader.get(path)
    assert "Revoke this share link?" in assert_harmless(asked).text
    assert "A partner" in asked.text
    assert visitor.get(link).status_code == 200
    assert reader.post(path).status_code == 403
    done = reader.post(path, data={"csrf": csrf(reader)})
    assert (done.status_code, done.headers["location"]) == (303, f"{PATH}?done=unshared")
    assert "The share link was revoked." in reader.get(done.headers["location"]).text
    assert visitor.get(link).status_code == 404
    assert [item["name"] for item in site.get(f"/api{PATH}").json()["items"]] == ["Another"]
    assert reader.post(path, data={"csrf": csrf(reader)}).status_code == 404
    told = [line["what"] for line in site.get("/api/audit").json()["items"]]
    assert told[:3] == ["share.revoked", "share.made", "share.made"]


def test_share_links_expired_link_stays_listed(send, reader, clock):
    send(reader, expires_at="2026-09-20")
    assert "<strong>expired</strong>" not in reader.get(PATH).text
    clock.at("2026-09-20T22:00Z")
    assert "<strong>expired</strong>" in reader.get(PATH).text


@pytest.mark.parametrize(
    ("fields", "name", "message"),
    [
        ({"name": " "}, "name", "1 to 200 characters"),
        ({"name": "x" * 201}, "name", "1 to 200 characters"),
        ({"name": "a\x00b"}, "name", "control characters"),
        ({"expires_at": "2026-09-19"}, "expires_at", "in the future"),
        ({"expires_at": "tomorrow"}, "expires_at", "a date and time"),
        ({"expires_at": "9999-12-31"}, "expires_at", "between 1970-01-01 and 2106-02-07"),
        ({"frames": "www.example.org"}, "frames", "origins"),
        ({"frames": "https://a.example/page"}, "frames", "origins"),
        ({"frames": "https://a.example; script-src *"}, "frames", "origins"),
        ({"frames": "\n".join(["https://a.example"] * 101)}, "frames", "origins"),
    ],
)
def test_share_links_invalid_link_is_refused(send, reader, site, fields, name, message):
    answer = send(reader, 422, **fields)
    page = assert_harmless(answer)
    [field] = [attrs for tag, attrs in page.found if attrs.get("id") == name]
    assert field["aria-invalid"] == "true"
    assert f"wrong-{name}" in field["aria-describedby"]
    wrong = re.search(rf'id="wrong-{name}">(.*?)</p>', answer.text)
    assert message in wrong[1]
    assert 'role="alert"' in answer.text
    if name != "name":
        assert "A partner" in [each.get("value") for each in page.all("input")], "as it was filled in"
    assert site.get(f"/api{PATH}").json()["items"] == []


def test_share_links_too_many_are_refused(send, reader, monkeypatch):
    monkeypatch.setattr(share_links, "MAX_SHARES", 1)
    send(reader)
    assert "revoke one first" in send(reader, 409).text


@pytest.mark.parametrize("evil", EVIL)
def test_share_links_hostile_names_are_harmless(send, reader, site, evil):
    assert site.patch("/api/campaigns/mail", json={"name": evil}).status_code == 200
    answer = send(reader, name=evil, frames="https://www.example.org")
    page = assert_harmless(answer)
    assert evil in page.text
    assert "1337" not in page.text
    assert html.escape(evil) in shown(answer)["frame"]
    assert evil in assert_harmless(reader.get(PATH)).text
    [kept] = site.get(f"/api{PATH}").json()["items"]
    assert evil in assert_harmless(reader.get(f"{PATH}/{kept['id']}/revoke")).text


def test_share_links_read_scope_cannot_create(send, reader, site, sign_in):
    send(reader)
    [kept] = site.get(f"/api{PATH}").json()["items"]
    key = site.post("/api/keys", json={"name": "Reader", "scopes": ["read"]}).json()["key"]
    reader = sign_in(key)
    answer = reader.get(PATH)
    page = assert_harmless(answer)
    assert "A partner" in page.text
    assert [form["action"] for form in page.all("form")] == ["/sign-out"]
    fields = {"csrf": csrf(reader), "name": "Mine"}
    assert reader.post(PATH, data=fields).status_code == 403
    assert reader.get(f"{PATH}/{kept['id']}/revoke").status_code == 403
    assert reader.post(f"{PATH}/{kept['id']}/revoke", data=fields).status_code == 403
    assert len(site.get(f"/api{PATH}").json()["items"]) == 1
    shared = site.post("/api/keys", json={"name": "Partner", "scopes": ["read:mail"]}).json()["key"]
    assert sign_in(shared).get(PATH).status_code == 403


def test_share_links_unknown_campaign_or_link_answers_404(send, reader):
    form = {"csrf": csrf(reader), "name": "x"}
    assert reader.get("/campaigns/none/shares").status_code == 404
    assert reader.post("/campaigns/none/shares", data=form).status_code == 404
    for share in ("0" * 12, "x", "%00"):
        assert reader.get(f"{PATH}/{share}/revoke").status_code == 404
        assert reader.post(f"{PATH}/{share}/revoke", data=form).status_code == 404
    assert reader.post(PATH, data={"name": "x"}).status_code == 403


def test_share_links_without_base_url_cannot_be_created(settings, secrets, send):
    here = replace(settings, base_url=None)
    app = create_app(here, secrets, connect_async(here.redis_url), jobs.queue(connect(here.redis_url)))
    with TestClient(app, base_url="http://pixel.test", follow_redirects=False) as reader:
        reader.post("/sign-in", data={"key": API_KEY})
        assert "set PIXEL_BASE_URL" in reader.get(PATH).text
        send(reader, 409)
