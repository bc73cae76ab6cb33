"""The browser's privacy page, which is `/privacy` without a token: it opts out and allows again."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from pixel_server import opt_out_cookie
from pixel_server.app import create_app
from pixel_server.privacy.browser_page import BrowserView, render
from pixel_server.privacy.texts import TEXTS
from pixel_server.store import jobs, keys
from pixel_server.store.client import connect, connect_async
from tests.privacy.test_recipient_page import HOSTILE, Page

OWN = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "document", "Origin": "null"}
FRAMED = {**OWN, "Sec-Fetch-Dest": "iframe"}
SAYS_NO = {"Cookie": "a=1; px-no=1"}
SITE = "https://www.example.org"
SHOWN = BrowserView(False, None, False, "", None, None, {"buckets": 35, "days": 1, "dead_letters": 7})


@pytest.fixture
def press(site):
    """Returns a function that presses a button of the page, and returns the redirect."""

    def press(wish, headers=OWN, path="/privacy", **more):
        return site.post(path, data={"do": wish, **more}, headers=headers, follow_redirects=False)

    return press


def policy(response):
    [ancestors] = re.findall(r"frame-ancestors ([^;]*);", response.headers["content-security-policy"])
    return ancestors


@pytest.mark.parametrize("query", ["", "?t=", "?said=no", "?said=yes", "?do=no", "?c=", "?c=nobody"])
def test_browser_page_get_shows_the_cookie_and_changes_nothing(site, client, query):
    before = set(client.scan_iter()) | {keys.HOSTS.encode()}
    for method in ("GET", "HEAD"):
        for cookies, button in (({}, "no"), (SAYS_NO, "yes"), ({"Cookie": "px-no=0; xpx-no=1"}, "no")):
            response = site.request(method, f"/privacy{query}", headers=cookies)
            assert response.status_code == 200
            assert "set-cookie" not in response.headers
            assert response.headers["cache-control"] == "no-store"
            assert policy(response) == "'none'"
            if method == "GET":
                assert [button["value"] for button in Page(response.content).all("button")] == [button]
    assert set(client.scan_iter()) <= before


def test_browser_page_cookies_in_two_headers_are_joined(site):
    response = site.get("/privacy", headers=[("Cookie", "a=1"), ("Cookie", "px-no=1")])
    assert 'value="yes"' in response.text


@pytest.mark.parametrize(
    ("headers", "part"),
    [(OWN, ""), ({}, ""), (FRAMED, "; Partitioned"), ({"Sec-Fetch-Dest": "frame"}, "; Partitioned")],
)
def test_browser_page_post_sets_and_clears_the_same_cookie(press, headers, part):
    kept = "HttpOnly; Secure; SameSite=None" + part
    no, yes = press("no", headers), press("yes", headers)
    assert (
        no.headers["set-cookie"]
        == f"px-no=1; Path=/; Max-Age={opt_out_cookie.LIFETIME_DAYS * 86_400}; {kept}"
    )
    assert yes.headers["set-cookie"] == f"px-no=1; Path=/; Max-Age=0; {kept}"
    assert (no.status_code, no.headers["location"]) == (303, "privacy?said=no")
    assert (yes.status_code, yes.headers["location"]) == (303, "privacy?said=yes")


@pytest.mark.parametrize("wish", ["", "stop", "erase", "NO", "no\r\nSet-Cookie: x=1"])
def test_browser_page_unknown_action_sets_nothing(press, wish):
    response = press(wish)
    assert (response.status_code, response.headers["location"]) == (303, "privacy")
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "https://["},
    ],
)
def test_browser_page_form_of_another_site_is_refused(press, headers):
    response = press("no", {**headers, "Sec-Fetch-Dest": "iframe"})
    assert response.status_code == 403
    assert "set-cookie" not in response.headers


def test_browser_page_lost_cookie_is_reported(site):
    texts = TEXTS["en"].browser
    shown_notes = {
        (said, bool(cookies)): [
            note for note in (texts.cookie_refused, texts.still_opted_out) if note in page_text
        ]
        for said in ("no", "yes")
        for cookies in ({}, SAYS_NO)
        for page_text in [site.get(f"/privacy?said={said}", headers=cookies).text]
    }
    assert shown_notes == {
        ("no", False): [texts.cookie_refused],
        ("no", True): [],
        ("yes", False): [],
        ("yes", True): [texts.still_opted_out],
    }


@pytest.mark.parametrize("headers", [{}, FRAMED])
def test_browser_page_shows_the_scope_of_the_answer(site, headers):
    texts = TEXTS["en"].browser
    shown = site.get("/privacy", headers=headers).text
    assert (texts.scope_framed in shown, texts.scope_alone in shown) == (
        (True, False) if headers else (False, True)
    )


@pytest.mark.parametrize(
    ("base_url", "path"),
    [
        (None, "/"),
        ("https://pixel.test", "/"),
        ("https://pixel.test/px", "/px"),
        ("https://pixel.test/a/b", "/a/b"),
        ("https://pixel.test/a;b", "/"),
        ("https://pixel.test/a,b", "/"),
    ],
)
def test_browser_page_cookie_path_covers_the_whole_server(settings, secrets, base_url, path):
    settings = replace(settings, base_url=base_url, redis_url="unix:///nowhere/valkey.sock")
    queue = jobs.queue(connect(settings.redis_url))
    app = create_app(settings, secrets, connect_async(settings.redis_url), queue)
    prefix = "" if path == "/" else path
    for at in {"", prefix}:
        response = TestClient(app).post(f"{at}/privacy", data={"do": "no"}, follow_redirects=False)
        assert f"; Path={path}; " in response.headers["set-cookie"]
        assert response.headers["location"] == "privacy?said=no"


def test_browser_page_origins_of_the_campaign_may_frame_it(site, page, press):
    page(origins=[SITE, "http://localhost:8080"])
    for response in (site.get("/privacy?c=page"), press("no", FRAMED, c="page")):
        assert policy(response) == f"{SITE} http://localhost:8080"
    assert press("no", FRAMED, c="page").headers["location"] == "privacy?c=page&said=no"
    assert Page(site.get("/privacy?c=page").content).all("input") == [
        {"type": "hidden", "name": "c", "value": "page"}
    ]
    assert policy(site.get("/privacy")) == "'none'"
    site.patch("/api/campaigns/page", json={"origins": []})
    assert policy(site.get("/privacy?c=page")) == "'none'"


@pytest.mark.parametrize(
    "name",
    [
        "nobody",
        "mail",
        "PAGE",
        HOSTILE.replace("\ud800", ""),
        "page; script-src *",
        "page\r\nX: 1",
        "é",
        "p" * 3000,
    ],
)
def test_browser_page_unknown_campaign_leaves_no_trace(site, page, mail, press, name):
    page(origins=[SITE])
    mail()
    response = site.get("/privacy", params={"c": name})
    assert policy(response) == "'none'"
    assert Page(response.content).all("input") == []
    posted = press("no", c=name)
    assert posted.headers["location"] == "privacy?said=no"
    assert policy(posted) == "'none'"


def test_browser_page_deleted_campaign_may_not_frame_it(site, page):
    page(origins=[SITE])
    site.delete("/api/campaigns/page")
    assert policy(site.get("/privacy?c=page")) == "'none'"


@pytest.mark.parametrize("identity", ["cookieless", "cookie", "own"])
def test_browser_page_shows_how_visitors_are_recognised(site, page, identity):
    page(identity=identity)
    texts = TEXTS["en"].browser
    items = Page(site.get("/privacy?c=page").content).texts["li"]
    identities = [name for name in texts.visitor.__struct_fields__ if getattr(texts.visitor, name) in items]
    assert identities == (["cookieless", "cookie"] if identity == "cookie" else [identity])
    assert texts.visitor.any in Page(site.get("/privacy").content).texts["li"]


def test_browser_page_shows_retention_and_operator(site, page, settings, secrets):
    page(keep={"days": 80, "buckets": 1})
    shown = Page(site.get("/privacy?c=page").content)
    assert shown.texts["dd"] == ["1 day", "80 days", "80 days", "7 days"], "visits go with their day"
    assert "The site on which the page was opened" in shown.text
    settings = replace(settings, operator="https://acme.example")
    queue = jobs.queue(connect(settings.redis_url))
    app = create_app(settings, secrets, connect_async(settings.redis_url), queue)
    shown = Page(TestClient(app).get("/privacy").content)
    assert shown.all("a") == [{"href": "https://acme.example", "rel": "noopener noreferrer"}]


@pytest.mark.parametrize("query", ["", "?c=page"])
def test_browser_page_redis_away_works(settings, secrets, query):
    settings = replace(settings, redis_url="unix:///nowhere/valkey.sock")
    queue = jobs.queue(connect(settings.redis_url))
    app = create_app(settings, secrets, connect_async(settings.redis_url), queue)
    web = TestClient(app)
    shown = web.get(f"/privacy{query}")
    assert shown.status_code == 200
    assert policy(shown) == "'none'"
    assert Page(shown.content).texts["dd"][0] == f"{settings.keep_buckets:,} days"
    posted = web.post("/privacy", data={"do": "no", "c": "page"}, headers=OWN, follow_redirects=False)
    assert (posted.status_code, posted.headers["location"]) == (303, "privacy?said=no")
    assert posted.headers["set-cookie"].startswith("px-no=1; Path=/; Max-Age=34560000;")


def test_browser_page_redis_lost_keeps_the_frame_rule(site, page, monkeypatch):
    page(origins=[SITE], keep={"days": 90})

    async def away(*_):
        raise ConnectionError

    monkeypatch.setattr("pixel_server.campaigns.storage.get", away)
    shown = site.get("/privacy?c=page")
    assert policy(shown) == SITE
    assert Page(shown.content).texts["dd"] == ["36,500 days", "36,500 days", "90 days", "7 days"]


def test_browser_page_too_long_form_sets_nothing(site):
    response = site.post("/privacy", content=b"do=no&c=" + b"a" * 5000)
    assert response.status_code == 413
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("lang", TEXTS)
@pytest.mark.parametrize("identity", [None, "cookieless", "cookie", "own"])
@pytest.mark.parametrize("framed", [True, False])
@pytest.mark.parametrize(("out", "answered"), [(False, None), (True, None), (False, True), (True, False)])
def test_browser_page_each_view_is_complete(out, answered, framed, identity, lang):
    shown = Page(
        render(
            SHOWN._replace(has_opted_out=out, form_opted_out=answered, is_framed=framed, identity=identity),
            lang,
        )
    )
    texts = TEXTS[lang].browser
    assert shown.all("html") == [{"lang": lang}]
    assert shown.texts["h1"] == shown.texts["title"] == [texts.title_opted_out if out else texts.title]
    assert shown.all("form") == [{"method": "post", "action": "privacy"}]
    assert len(shown.all("button")) == 1
    assert len(shown.texts["h2"]) == 4
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in shown.tags}
    assert ("strong" in shown.texts) == (answered is not None)
    assert "{" not in shown.text


def test_browser_page_hostile_values_stay_text():
    harmless, shown = (
        Page(render(SHOWN._replace(campaign=text, operator=text), "en")) for text in ("x", HOSTILE)
    )
    assert [tag for tag, _ in shown.tags] == [tag for tag, _ in harmless.tags]
