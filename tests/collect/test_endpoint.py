"""The pixel endpoint: each answer has the image, and the outcome of the hit in X-Pixel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import redis
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from pixel_server import hit
from pixel_server.app import create_app
from pixel_server.campaigns.cache import CampaignCache
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.collect.admission import Admission
from pixel_server.collect.endpoint import PixelEndpoint
from pixel_server.collect.group import AnswerCallback
from pixel_server.collect.image import GIF
from pixel_server.consent import Consent
from pixel_server.hit import Hit
from pixel_server.mail.links import Minter
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import jobs, keys
from pixel_server.store.client import connect, connect_async
from tests.conftest import API_KEY

HEADERS = {
    "content-type": "image/gif",
    "content-length": str(len(GIF)),
    "cache-control": "no-store, no-cache, must-revalidate, max-age=0, private",
    "pragma": "no-cache",
    "expires": "0",
    "access-control-allow-origin": "*",
    "cross-origin-resource-policy": "cross-origin",
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex",
}
ALLOW = {"allow": "GET, HEAD, OPTIONS"}
PREFLIGHT = {
    **ALLOW,
    "access-control-allow-methods": "GET, HEAD, OPTIONS",
    "access-control-max-age": "86400",
}
CLOCK_ERROR_MS = 20
"""Milliseconds by which the server's clock, taken from Redis, may differ from this process's."""
METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"]


@contextmanager
def serving(settings: Settings, secrets: Secrets, peer: str = "203.0.113.9") -> Iterator[TestClient]:
    """Returns a client of the app with other settings and another peer address."""
    queue = jobs.queue(connect(settings.redis_url))
    app = create_app(settings, secrets, connect_async(settings.redis_url), queue)
    with TestClient(
        app,
        base_url="http://pixel.test",
        headers={"Authorization": f"Bearer {API_KEY}"},
        client=(peer, 4711),
    ) as client:
        client.post("/api/campaigns", json={"id": "site", "name": "Site", "kind": "web"})
        yield client


@pytest.fixture
def site(web: TestClient) -> TestClient:
    """Returns a client of an app with a live and a deleted campaign of each kind."""
    for name, kind in (("site", "web"), ("mail", "email"), ("gone", "web"), ("gone-mail", "email")):
        fields = {"identity": "own"} if kind == "web" else {}
        answer = web.post("/api/campaigns", json={"id": name, "name": name, "kind": kind, **fields})
        assert answer.status_code == 201
    for name in ("gone", "gone-mail"):
        assert web.delete(f"/api/campaigns/{name}").status_code == 204
    return web


@pytest.fixture(scope="session")
def minter(secrets: Secrets) -> Minter:
    return Minter("http://pixel.test", secrets)


def entries(client: redis.Redis) -> list[bytes]:
    """Returns the bytes of every stored batch."""
    return [
        value
        for shard in range(4)
        for _, fields in client.xrange(keys.hits(shard))
        for value in fields.values()
    ]


def hits(client: redis.Redis) -> list[Hit]:
    read = [hit.decode_batch(batch) for batch in entries(client)]
    assert not any(unreadable for _, unreadable in read)
    return sorted(
        (recorded for decoded, _ in read for recorded in decoded), key=lambda recorded: recorded.time
    )


def assert_answer(answer: Any, status: int, pixel: str, **more: str) -> None:
    """Asserts status, reason, body, and exactly the expected headers."""
    assert (answer.status_code, answer.headers["x-pixel"]) == (status, pixel)
    assert dict(answer.headers.multi_items()) == {**HEADERS, "x-pixel": pixel, **more}
    assert len(answer.headers.multi_items()) == len(HEADERS) + 1 + len(more)
    assert answer.content == (b"" if answer.request.method == "HEAD" else GIF)


def urls(minter: Minter) -> dict[str, str | None]:
    old = time.time() - 401 * 86_400
    return {
        "good mail": minter.url("mail", "ada"),
        "good page": "/p/site.gif",
        "gone mail": minter.url("gone-mail", "ada"),
        "gone page": "/p/gone.gif",
        "expired": minter.url("mail", "ada", now=old),
        "bad token": "/o/bad.gif",
        "cut token": f"{minter.url('mail', 'ada')[:-8]}.gif",
        "email campaign as a page": "/p/mail.gif",
        "no campaign": "/p/none.gif",
        "nothing": "/o/",
        "no slash": "/p",
        "no gif": "/p/site",
        "below": "/p/site.gif/x",
    }


REFUSED = {
    "bad token": "token",
    "cut token": "token",
    "email campaign as a page": "campaign",
    "no campaign": "campaign",
    "nothing": "not-found",
    "no slash": "not-found",
    "no gif": "not-found",
    "below": "not-found",
}
IGNORED = {"gone mail": "gone", "gone page": "gone", "expired": "expired"}


@pytest.mark.parametrize("method", METHODS)
def test_endpoint_each_case_gets_its_answer(
    method: str, site: TestClient, minter: Minter, client: redis.Redis
):
    for name, url in urls(minter).items():
        answer = site.request(method, url)
        if name == "no gif" and method in ("POST", "OPTIONS"):
            continue  # a beacon
        if name in REFUSED:
            assert_answer(answer, 404, f"refused; reason={REFUSED[name]}")
        elif method == "OPTIONS":
            assert_answer(answer, 200, "ignored; reason=options", **PREFLIGHT)
        elif method not in ("GET", "HEAD"):
            assert_answer(answer, 405, "refused; reason=method", **ALLOW)
        elif name in IGNORED:
            assert_answer(answer, 200, f"ignored; reason={IGNORED[name]}")
        else:
            assert_answer(answer, 200, "recorded")
    expected = [(hit.EMAIL, "mail", method), (hit.WEB, "site", method)] if method in ("GET", "HEAD") else []
    assert [(recorded.kind, recorded.campaign, recorded.method) for recorded in hits(client)] == expected


def test_endpoint_answer_has_no_cache_or_cookie_headers(site: TestClient, minter: Minter):
    asked = {"If-None-Match": "*", "If-Modified-Since": "Tue, 24 Nov 2026 00:00:00 GMT", "Range": "bytes=0-1"}
    for url in urls(minter).values():
        answer = site.get(url, headers={**asked, "Cookie": "a=b"})
        assert answer.status_code in (200, 404)
        assert {"etag", "last-modified", "set-cookie", "vary"} & set(answer.headers) == set()


def test_endpoint_hit_stores_the_headers(
    site: TestClient, minter: Minter, client: redis.Redis, secrets: Secrets
):
    before = int(time.time() * 1000) - CLOCK_ERROR_MS
    sent = {
        "User-Agent": "Mail/1.0",
        "Referer": "https://mail.example/",
        "Accept-Language": "de",
        "Sec-GPC": "0",
        "DNT": "0",
        "Sec-Purpose": "prefetch",
    }
    site.get(minter.url("mail", "ada", now=1_790_000_000), headers=sent)
    site.get("/p/site.gif?u=https://x.example/&r=https://y.example/", headers=sent)
    mail, page = hits(client)
    assert before <= mail.time <= page.time <= time.time() * 1000 + CLOCK_ERROR_MS
    evidence = ("Mail/1.0", "https://mail.example/", "de", "0", "0", "sec-purpose=prefetch;")
    for stored in (mail, page):
        fields = (stored.agent, stored.referrer, stored.language, stored.gpc, stored.dnt, stored.purpose)
        assert fields == evidence
    assert (mail.recipient, mail.token_time) == (secrets.recipient_key("ada"), 1_790_000_000)
    assert (page.page, page.page_referrer) == ("https://x.example/", "https://y.example/")


def test_endpoint_repeated_header_is_one_list(site: TestClient, client: redis.Redis):
    site.get("/p/site.gif", headers=[("DNT", "1"), ("User-Agent", "A"), ("DNT", "0")])
    assert hits(client)[0].dnt == "1,0"


@pytest.mark.parametrize("spelling", ["ada-the-visitor%40x", "%61da-the-visitor@x", "ada-the-visitor@x"])
def test_endpoint_visitor_id_is_not_in_the_store(
    spelling: str, site: TestClient, client: redis.Redis, secrets: Secrets
):
    assert site.get(f"/p/site.gif?v={spelling}").headers["x-pixel"] == "recorded"
    [batch] = entries(client)
    for part in (b"ada", b"the-visitor", spelling.encode()):
        assert part not in batch
    assert hits(client)[0].visitor == secrets.visitor_key(b"own", b"site", b"ada-the-visitor@x")


def test_endpoint_text_of_any_alphabet_is_recorded(site: TestClient, client: redis.Redis):
    assert site.get("/p/site.gif?u=%C3%A9&r=%ff&v=%ff").headers["x-pixel"] == "recorded"
    [recorded] = hits(client)
    assert (recorded.page, recorded.page_referrer) == ("é", "\ufffd")


def test_endpoint_unknown_pixel_sends_no_command(site: TestClient, client: redis.Redis):
    client.config_resetstat()
    for i in range(150):
        assert site.get(f"/p/unknown-{i}.gif").status_code == 404
        assert site.get("/p/mail.gif").status_code == 404
        assert site.get("/p/gone.gif").headers["x-pixel"] == "ignored; reason=gone"
        assert site.get(f"/o/{i}.gif").status_code == 404
    calls = {name: stat["calls"] for name, stat in client.info("commandstats").items()}
    assert sum(calls.values()) < 150  # four a second look for changes made elsewhere


def test_endpoint_new_or_deleted_campaign_is_noticed_at_once(web: TestClient):
    assert web.get("/p/new.gif").status_code == 404
    web.post("/api/campaigns", json={"id": "new", "name": "New", "kind": "web"})
    assert web.get("/p/new.gif").headers["x-pixel"] == "recorded"
    web.delete("/api/campaigns/new")
    assert web.get("/p/new.gif").headers["x-pixel"] == "ignored; reason=gone"


@pytest.mark.parametrize("prefix", ["", "/px", "/a/b"])
def test_endpoint_prefix_kept_or_removed_by_a_proxy_works(
    prefix: str, settings: Settings, secrets: Secrets, client: redis.Redis
):
    base = f"http://pixel.test{prefix}"
    url = Minter(base, secrets).url("mail", "ada")
    assert url.startswith(f"{base}/o/")
    with serving(replace(settings, base_url=base), secrets) as app:
        for shown in {base, "http://pixel.test"}:
            assert_answer(app.get(url.replace(base, shown)), 200, "recorded")
            assert_answer(app.get(f"{shown}/p/site.gif?v=1"), 200, "recorded")
            assert_answer(app.get(f"{shown}/o/bad.gif"), 404, "refused; reason=token")
            assert_answer(app.get(f"{shown}/p/none.gif"), 404, "refused; reason=campaign")
            assert_answer(app.get(f"{shown}/p"), 404, "refused; reason=not-found")
    kinds = [recorded.kind for recorded in hits(client)]
    assert kinds == [hit.EMAIL, hit.WEB] * (2 if prefix else 1)


@pytest.mark.parametrize(
    ("environ", "peer", "headers", "expected"),
    [
        ({}, "203.0.113.9", {"X-Forwarded-For": "198.51.100.1"}, [203, 0, 113, 9]),
        ({}, "2001:db8::9", {}, [0x20, 0x01, 0x0D, 0xB8, *[0] * 11, 9]),
        (
            {"PIXEL_TRUSTED_PROXIES": "10.0.0.0/8"},
            "10.0.0.1",
            {"X-Forwarded-For": "203.0.113.66, 198.51.100.1, 10.0.0.2"},
            [198, 51, 100, 1],
        ),
        (
            {"PIXEL_TRUSTED_PROXIES": "10.0.0.1", "PIXEL_CLIENT_IP_HEADER": "X-Real-IP"},
            "10.0.0.1",
            {"X-Forwarded-For": "203.0.113.66", "X-Real-IP": "198.51.100.1"},
            [198, 51, 100, 1],
        ),
        ({"PIXEL_TRUSTED_PROXIES": "unix"}, "", {"X-Forwarded-For": "198.51.100.1"}, [198, 51, 100, 1]),
        ({"PIXEL_TRUSTED_PROXIES": "10.0.0.1"}, "", {"X-Forwarded-For": "198.51.100.1"}, []),
    ],
    ids=["none trusted", "IPv6", "walked", "header", "unix", "unix, not trusted"],
)
def test_endpoint_hit_stores_the_client_address(
    environ: dict[str, str],
    peer: str,
    headers: dict[str, str],
    expected: list[int],
    settings: Settings,
    secrets: Secrets,
    client: redis.Redis,
):
    own = {
        "REDIS_URL": settings.redis_url,
        "PIXEL_DATA_DIR": str(settings.data),
        "PIXEL_API_KEY": API_KEY,
    }
    chosen = Settings.from_env({**own, **environ})
    with serving(chosen, secrets, peer) as app:
        assert app.get("/p/site.gif", headers=headers).status_code == 200
    assert list(hits(client)[0].address) == expected


class Answering:
    """A recorder that has room or not, and that stores or fails."""

    def __init__(self, room: bool, stored: bool) -> None:
        self._room = room
        self._stored = stored

    def record(self, shard: int | None, data: bytes, answered: AnswerCallback) -> bool:
        if self._room:
            answered(self._stored)
        return self._room


@pytest.mark.parametrize(
    ("room", "stored", "status", "pixel"),
    [
        (True, True, 200, "recorded"),
        (True, False, 503, "failed; reason=not-stored"),
        (False, False, 503, "failed; reason=full"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_endpoint_hit_not_stored_is_answered_503(
    method: str, room: bool, stored: bool, status: int, pixel: str, secrets: Secrets
):
    campaigns = CampaignCache(None, Consent(Settings()))
    campaigns.learn(new_campaign("site", "Site", "web", identity="cookie"))
    endpoint = PixelEndpoint(
        Admission(Settings(), secrets, campaigns, Consent(Settings()), ()), Answering(room, stored)
    )
    app = TestClient(Starlette(routes=[Route("/p/{rest:path}", endpoint)]))
    assert_answer(app.request(method, "/p/site.gif"), status, pixel)
    answer = app.request(method, "/p/site.gif?c=1")
    assert (answer.status_code, answer.headers["x-pixel"]) == (status, pixel)
    assert ("set-cookie" in answer.headers) == (pixel == "recorded" and method == "GET")
