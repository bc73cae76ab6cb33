"""`p.js` and the image alone in a real browser, on pages of the server's own site and of another site."""

from __future__ import annotations

import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha384
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pixel_server import hit
from pixel_server.collect.script import SOURCE
from pixel_server.counters import web_names
from pixel_server.hit import Hit
from pixel_server.store import keys
from tests.collect.corpus import FENCED, SHOP, SITE
from tests.journeys.test_bad_requests import PROGRAMS, Server
from tests.stack import until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

COPY = "/assets/bundle.js"
COPIES = (COPY, "/p.js")
"""Paths at which the site serves a copy of `p.js`."""
WATCH = """<script>
  errors = [];
  window.onerror = function (message) { errors.push(String(message)); };
  window.addEventListener("unhandledrejection", function (event) { errors.push(String(event.reason)); });
</script>"""
HIDE = """hidden => {
  Object.defineProperty(Document.prototype, "hidden", { get: () => hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""

PRERENDER = (
    "Object.defineProperty(Document.prototype, 'prerendering', { get: () => true, configurable: true })"
)
END_PRERENDER = PRERENDER.replace("true,", "false,")


class _Site(ThreadingHTTPServer):
    """Serves the same page at every path, on 127.0.0.1 and localhost, which are two sites for a browser."""

    body = ""
    csp = ""

    def at(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.server_address[1]}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: _Site

    def do_GET(self) -> None:
        is_copy = self.path.partition("?")[0] in COPIES
        body = (
            SOURCE if is_copy else f"<!doctype html><title>A page</title>{WATCH}{self.server.body}".encode()
        )
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript" if is_copy else "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if self.server.csp:
            self.send_header("Content-Security-Policy", self.server.csp)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's own name
        pass


@pytest.fixture
def site() -> Iterator[_Site]:
    with _Site(("127.0.0.1", 0), _Handler) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield site
        site.shutdown()


@pytest.fixture(scope="module")
def shared_server(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Returns a server without workers, so that hits stay in the streams. All tests of this file share it."""
    server = Server(PROGRAMS["serve"], valkey_url, tmp_path_factory.mktemp("server"))
    yield server
    server.stop()
    server.store.close()


@pytest.fixture
def server(shared_server: Server) -> Server:
    """Returns the shared server, without the hits and drops of earlier tests."""
    for key in (keys.DROPPED, *(keys.hits(shard) for shard in range(4))):
        shared_server.store.delete(key)
    return shared_server


class Reader:
    """A browser on one site. sent: the methods of its requests, except those of pages that are being left."""

    def __init__(self, browser: Browser, server: Server, site: _Site) -> None:
        self.server, self.site = server, site
        self.context: BrowserContext = browser.new_context()
        self.page: Page = self.context.new_page()
        self.sent: list[str] = []
        self.warnings: list[str] = []
        """What `p.js` has written to the console."""
        self.page.on(
            "console", lambda line: self.warnings.append(line.text) if line.text.startswith("p.js") else 0
        )
        start = f"http://127.0.0.1:{server.port}/p/"
        self.context.on(
            "request",
            lambda request: self.sent.append(request.method) if request.url.startswith(start) else 0,
        )

    def hits(self, count: int) -> list[Hit]:
        """Waits for this number of hits, and returns them in the order in which they were sent.

        The report of a page comes before the view of the next page, even if its connection was slower.
        """
        hits: list[Hit] = []

        def are_stored() -> bool:
            self.page.wait_for_timeout(20)  # lets Playwright handle events
            hits[:] = self.stored_hits()
            return len(hits) >= count

        until(are_stored)
        assert len(hits) == count
        view_times = {record.view: record.time for record in hits if record.view and record.spent_ms < 0}
        return sorted(hits, key=lambda record: (view_times.get(record.view, record.time), record.time))

    def stored_hits(self) -> list[Hit]:
        """Returns the hits of this test's site. Late hits of the sites of earlier tests are left out."""
        port = f":{self.site.server_address[1]}/"
        return [
            record
            for shard in range(4)
            for _, fields in self.server.store.xrange(keys.hits(shard))
            for batch in fields.values()
            for record in hit.decode_batch(batch)[0]
            if port in record.referrer or port in record.page
        ]

    def settle(self) -> None:
        """Waits for one more request of the page, so that all requests before it have been sent.

        The browser does not tell when a request of `fetch` with `keepalive` has ended.
        """
        self.page.evaluate(
            """() => new Promise(done => {
              const image = new Image();
              image.onload = image.onerror = () => done();
              image.src = "/settle.png?" + Math.random();
            })"""
        )

    def errors(self) -> list[str]:
        messages: list[str] = self.page.evaluate("errors")
        return messages

    def cookies(self) -> list[dict[str, Any]]:
        return [dict(cookie) for cookie in self.context.cookies() if cookie["name"].startswith("px_")]

    def wait_for_cookies(self) -> list[dict[str, Any]]:
        """Waits for a cookie, and returns all cookies. A hit is stored before its answer arrives."""

        def stored() -> list[dict[str, Any]]:
            self.page.wait_for_timeout(20)
            return self.cookies()

        return list(until(stored))


@pytest.fixture
def reader(browser: Browser, server: Server, site: _Site) -> Iterator[Reader]:
    reader = Reader(browser, server, site)
    yield reader
    reader.context.close()


def script(server: Server, campaign: str = SITE, more: str = "") -> str:
    source = f"http://127.0.0.1:{server.port}/p.js"
    return f'<script defer src="{source}" data-campaign="{campaign}" {more}></script>'


def test_script_view_then_reports_its_time(reader: Reader, server: Server, site: _Site):
    site.body = script(server, more='data-visitor="ada"') + '<a href="/second?x=1#y">on</a>'
    reader.page.goto(site.at("/first?a=b#c"))
    [view] = reader.hits(1)
    assert (view.method, view.page, view.page_referrer) == ("POST", site.at("/first?a=b"), "")
    assert (len(view.view), view.spent_ms, len(view.visitor)) == (8, -1, 8)

    reader.page.click("a")
    view, report, second = reader.hits(3)
    assert (report.view, report.visitor) == (view.view, view.visitor)
    assert report.spent_ms >= 0
    assert (second.page, second.page_referrer) == (site.at("/second?x=1"), site.at("/first?a=b"))
    assert second.view != view.view
    assert reader.errors() == []


def test_script_time_counts_only_while_visible(reader: Reader, server: Server, site: _Site):
    site.body = script(server)
    reader.page.goto(site.at("/"))
    reader.hits(1)
    for hidden in (True, True, False, False, True):
        reader.page.evaluate(HIDE, hidden)
    view, first, second = reader.hits(3)
    assert view.view == first.view == second.view
    assert 0 <= first.spent_ms <= second.spent_ms
    reader.page.evaluate("performance.now = () => 1e7")
    reader.page.evaluate(HIDE, False)
    reader.page.evaluate("performance.now = () => 1e7 + 5000")
    reader.page.evaluate(HIDE, True)
    assert reader.hits(4)[-1].spent_ms == second.spent_ms + 5000


def test_script_single_page_app_navigation_is_a_view(reader: Reader, server: Server, site: _Site):
    site.body = script(server)
    reader.page.goto(site.at("/a"))
    reader.hits(1)
    reader.page.evaluate("history.replaceState(1, '')")
    reader.page.evaluate("history.pushState(2, '', '#part')")
    reader.page.evaluate("history.pushState(3, '', '/b?x=1')")
    reader.hits(3)
    reader.page.evaluate("history.replaceState(4, '', '/c?x=2')")
    reader.hits(5)
    reader.page.evaluate("history.back()")
    found = reader.hits(7)
    views = [one for one in found if one.spent_ms < 0]
    a, b, c = site.at("/a"), site.at("/b?x=1"), site.at("/c?x=2")
    assert [(one.page, one.page_referrer) for one in views] == [(a, ""), (b, a), (c, b), (a, c)]
    reports = [one.view for one in found if one.spent_ms >= 0]
    assert reports == [one.view for one in views[:3]]
    assert len({one.view for one in views}) == 4
    assert reader.page.evaluate("history.state") == 2
    assert reader.errors() == []


def test_script_change_of_query_is_no_new_view(reader: Reader, server: Server, site: _Site):
    site.body = script(server) + "<script>onload = () => history.replaceState(1, '', '/a')</script>"
    reader.page.goto(site.at("/a?utm_source=news&x=1"))
    reader.settle()
    for call in (
        "history.replaceState(2, '', '/a?page=2')",
        "history.pushState(3, '', '?page=3')",
        "history.pushState(4, '', '?page=3#part')",
        "history.pushState(5, '', '/a')",
        "new Promise(done => { onpopstate = done; history.go(-2); })",
        "location.hash = 'other'",
    ):
        reader.page.evaluate(f"() => {{ {'return' if 'Promise' in call else ''} {call}; }}")
    reader.page.evaluate(HIDE, True)
    view, report = reader.hits(2)
    assert (view.page, view.spent_ms) == (site.at("/a?utm_source=news&x=1"), -1)
    assert report.view == view.view
    assert reader.errors() == []


def test_script_prerendered_page_keeps_its_first_address(reader: Reader, server: Server, site: _Site):
    site.body = script(server)
    reader.page.add_init_script(PRERENDER)
    reader.page.goto(site.at("/a?utm_source=news"))
    reader.page.evaluate("history.replaceState(1, '', '/a')")
    reader.page.evaluate(END_PRERENDER)
    reader.page.evaluate("document.dispatchEvent(new Event('prerenderingchange'))")
    assert reader.hits(1)[0].page == site.at("/a?utm_source=news")


WIDE = "é\N{GRINNING FACE}\x01\\"


def test_script_long_values_are_cut(reader: Reader, server: Server, site: _Site):
    site.body = script(server, more=f'data-visitor="{WIDE * 500}"')
    reader.page.goto(site.at("/" + "é" * 600))
    [first] = reader.hits(1)
    whole = site.at("/" + "%C3%A9" * 600)
    assert first.page == whole[: len(first.page)]
    assert len(first.page) == 1998  # and two quotes

    reader.page.goto(site.at("/b?" + "\\" * 4000), referer=whole)
    *_, second = reader.hits(3)
    assert second.page == site.at("/b?" + "\\" * second.page.count("\\"))
    assert 1996 <= len(second.page) + second.page.count("\\") <= 1998  # JSON has two for each
    assert second.page_referrer == whole[:998]
    assert second.visitor == first.visitor != b""


def test_script_cuts_between_characters(reader: Reader, server: Server, site: _Site):
    site.body = script(server, more='data-visitor=""')
    reader.page.goto(site.at("/a"))
    [view] = reader.hits(1)
    assert view.visitor == b""
    visitors = []
    for before in range(8):
        reader.page.evaluate(
            "text => { document.querySelector('script[src]').dataset.visitor = text }",
            "x" * before + "\N{GRINNING FACE}" * (394 + before),
        )
        for hidden in (True, False):
            reader.page.evaluate(HIDE, hidden)
        visitors.append(reader.hits(2 + before)[-1].visitor)
    assert len({*visitors, b""}) == 9


def test_script_prerendered_page_is_viewed_when_visible(reader: Reader, server: Server, site: _Site):
    site.body = script(server)
    reader.page.add_init_script(PRERENDER)
    reader.page.goto(site.at("/a"))
    reader.page.evaluate("history.pushState(1, '', '/b')")
    reader.page.evaluate(HIDE, False)
    reader.page.evaluate(HIDE, True)
    assert reader.sent == []
    reader.page.evaluate(END_PRERENDER)
    reader.page.evaluate("document.dispatchEvent(new Event('prerenderingchange'))")
    assert reader.sent == []
    reader.page.evaluate(HIDE, False)
    reader.page.evaluate("document.dispatchEvent(new Event('prerenderingchange'))")
    [view] = reader.hits(1)
    assert (view.page, view.page_referrer) == (site.at("/b"), "")


def test_script_page_from_back_forward_cache_is_viewed_again(reader: Reader, server: Server, site: _Site):
    site.body = script(server)
    reader.page.goto(site.at("/a"))
    reader.page.evaluate(HIDE, True)
    reader.page.evaluate(HIDE, False)
    reader.page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: false }))")
    reader.hits(2)
    reader.page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    first, _, second = reader.hits(3)
    assert first.page == second.page
    assert first.view != second.view


def test_script_consent_sets_the_cookie_at_once(reader: Reader, server: Server, site: _Site):
    site.body = script(server, SHOP)
    reader.page.goto(site.at("/a"))
    [before] = reader.hits(1)
    assert (before.visitor, before.visits, reader.cookies()) == (b"", 0, [])
    reader.page.evaluate("pixel.consent()")
    _, yes = reader.hits(2)
    assert (yes.view, yes.is_new, yes.visits) == (before.view, True, 1)
    assert yes.spent_ms >= 0
    [cookie] = reader.wait_for_cookies()
    assert (cookie["name"], cookie["path"], cookie["sameSite"]) == ("px_shop", "/p/", "Lax")
    assert cookie["httpOnly"]
    assert cookie["secure"]
    assert reader.page.evaluate("document.cookie") == ""

    site.body = script(server, SHOP, "data-consent")
    reader.page.goto(site.at("/b"))
    *_, left, after = reader.hits(4)
    assert left.visitor == after.visitor == yes.visitor
    assert (after.is_new, after.visits) == (False, 1)
    assert reader.errors() == []


def test_script_stop_ends_all_requests(reader: Reader, server: Server, site: _Site):
    site.body = script(server, SHOP, "data-consent='yes'")
    reader.page.goto(site.at("/a"))
    reader.hits(1)
    reader.page.evaluate("pixel.stop()")
    reader.page.evaluate("history.pushState(1, '', '/b')")
    reader.page.evaluate(HIDE, True)
    reader.page.evaluate(HIDE, False)
    reader.hits(1)
    reader.page.evaluate("pixel.consent()")
    assert reader.hits(2)[1].page == site.at("/b")


def test_script_data_consent_accepts_only_yes(reader: Reader, server: Server, site: _Site):
    others = ("false", "0", "denied", "true", "1", "yes, no", "undefined")
    for count, says in enumerate((*others, "", "yes", "YES")):
        site.body = script(server, SHOP, f'data-consent="{says}"')
        reader.page.goto(site.at(f"/{count}"))
        view = reader.hits(1 + 2 * count)[-1]
        assert (view.page, view.is_new) == (site.at(f"/{count}"), says not in others)
        cookies = reader.cookies() if says in others else reader.wait_for_cookies()
        assert [cookie["name"] for cookie in cookies] == ["px_shop"] * (says not in others)
        reader.page.goto("about:blank")
        reader.hits(2 + 2 * count)
        reader.context.clear_cookies()


def test_script_consent_and_stop_apply_to_all_campaigns_of_the_page(
    reader: Reader, server: Server, site: _Site
):
    site.body = "".join(script(server, campaign) for campaign in (SHOP, SITE, FENCED))
    server.api("PATCH", f"/{FENCED}", {"origins": []})
    reader.page.goto(site.at("/a"))
    views = reader.hits(3)
    assert {one.campaign for one in views} == {SHOP, SITE, FENCED}
    reader.page.evaluate("pixel.consent()")
    reader.hits(6)
    assert [cookie["name"] for cookie in reader.wait_for_cookies()] == ["px_shop"]
    reader.page.evaluate("pixel.stop()")
    for hidden in (True, False):
        reader.page.evaluate(HIDE, hidden)
    reader.page.evaluate("history.pushState(1, '', '/b')")
    reader.hits(6)
    reader.page.evaluate("pixel.consent()")
    assert {(one.campaign, one.page) for one in reader.hits(9)[6:]} == {
        (campaign, site.at("/b")) for campaign in (SHOP, SITE, FENCED)
    }
    assert reader.errors() == []


def test_script_existing_global_pixel_is_kept(reader: Reader, server: Server, site: _Site):
    mine = "called = 0; var pixel = { mine: 1, stop() { called++; }, consent() { called++; } };"
    site.body = f"<script>{mine}</script>" + script(server, SHOP) + script(server, SITE)
    reader.page.goto(site.at("/a"))
    reader.hits(2)
    assert reader.page.evaluate("Object.keys(pixel)") == ["mine", "stop", "consent"]
    reader.page.evaluate("pixel.stop()")
    reader.page.evaluate(HIDE, True)
    reader.hits(4)
    assert reader.page.evaluate("called") == 1
    assert reader.errors() == []


@pytest.mark.parametrize(
    "says", ["data-off", 'data-off="" data-consent', 'data-consent="no"', 'data-consent="NO"']
)
def test_script_data_off_sends_nothing(reader: Reader, server: Server, site: _Site, says: str):
    site.body = script(server, SHOP, says)
    reader.page.goto(site.at("/a"))
    reader.settle()
    reader.page.evaluate(HIDE, True)
    reader.page.evaluate(HIDE, False)
    reader.page.goto(site.at("/b"))
    reader.settle()
    assert reader.sent == []
    reader.page.evaluate("pixel.consent()")
    [view] = reader.hits(1)
    assert (view.page, view.is_new, view.spent_ms) == (site.at("/b"), True, -1)


def test_script_third_party_cookie_is_partitioned(reader: Reader, server: Server, site: _Site):
    site.body = script(server, SHOP, "data-consent")
    reader.page.goto(site.at("/a", "localhost"))
    [first] = reader.hits(1)
    [cookie] = reader.wait_for_cookies()
    assert (cookie["sameSite"], cookie["secure"]) == ("None", True)
    assert cookie["partitionKey"] == "http://localhost"
    reader.page.goto(site.at("/b", "localhost"))
    *_, again = reader.hits(3)
    assert (first.is_new, again.is_new) == (True, False)
    assert first.visitor == again.visitor

    reader.page.goto(site.at("/c"))
    *_, near = reader.hits(5)
    assert near.is_new
    assert near.visitor != first.visitor
    assert [cookie.get("partitionKey") for cookie in reader.cookies() if cookie["sameSite"] == "Lax"] == [
        None
    ]
    assert reader.errors() == []


def test_script_other_origins_are_refused(reader: Reader, server: Server, site: _Site):
    server.api("PATCH", f"/{FENCED}", {"origins": [site.at("")]})
    site.body = script(server, FENCED)
    with reader.page.expect_console_message(lambda line: line.text.startswith("p.js")):
        reader.page.goto(site.at("/a", "localhost"))
    assert reader.errors() == []
    reader.page.goto(site.at("/b"))
    assert reader.hits(1)[0].page == site.at("/b")
    until(lambda: server.store.hget(keys.DROPPED, keys.dropped_field(FENCED, "origin")) == b"2")


def test_script_gpc_and_dnt_still_send_the_view(reader: Reader, server: Server, site: _Site):
    reader.context.set_extra_http_headers({"Sec-GPC": "1", "DNT": "1"})
    reader.page.add_init_script("Object.defineProperty(navigator, 'globalPrivacyControl', { value: true })")
    site.body = script(server, SHOP, "data-consent")
    reader.page.goto(site.at("/a"))
    [view] = reader.hits(1)
    assert (view.gpc, view.dnt, view.visitor, view.visits) == ("1", "1", b"", 0)
    assert reader.cookies() == []


NO_FETCH = "fetch = undefined;"
NO_BEACON = "navigator.sendBeacon = undefined;"
BLOCKED_BEACON = "navigator.sendBeacon = () => true;"
"""A block list cancels beacons, and `sendBeacon` returns true all the same."""


@pytest.mark.parametrize(
    "browser_has",
    [
        *(NO_FETCH, NO_BEACON, BLOCKED_BEACON, "delete Request.prototype.keepalive;"),
        "Request = { QueryString() {} };",
    ],
)
def test_script_fetch_or_beacon_alone_sends(reader: Reader, server: Server, site: _Site, browser_has: str):
    site.body = f"<script>{browser_has}</script>" + script(server, SHOP, "data-consent")
    reader.page.goto(site.at("/a", "localhost"))
    reader.wait_for_cookies()  # without a cookie, the report would get another visitor
    reader.page.evaluate(HIDE, True)
    view, report = reader.hits(2)
    assert (view.method, view.page, view.is_new) == ("POST", site.at("/a", "localhost"), True)
    assert report.visitor == view.visitor
    assert (reader.errors(), reader.warnings) == ([], [])


@pytest.mark.parametrize("browser_has", ["", "delete Request.prototype.keepalive;"])
def test_script_page_that_fills_the_keepalive_quota_is_counted(
    reader: Reader, server: Server, site: _Site, browser_has: str
):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        request = "{ method: 'POST', mode: 'no-cors', keepalive: true, body: 'x'.repeat(65536) }"
        site.body = f"<script>fetch('{address}', {request});{browser_has}</script>{script(server)}"
        reader.page.goto(site.at("/a"))
        assert [one.page for one in reader.hits(1)] == [site.at("/a")]
        reader.page.evaluate(HIDE, True)
        assert [one.spent_ms < 0 for one in reader.hits(2)] == [True, False]
    assert reader.warnings == []


@pytest.mark.parametrize(
    "breaks",
    [
        "navigator.sendBeacon = function () { throw Error(); };",
        "navigator.sendBeacon = function () { return false; }; fetch = function () { throw Error(); };",
        f"{NO_BEACON} fetch = function () {{ return Promise.reject(Error()); }};",
        f"{NO_BEACON} fetch = undefined;",
        "TextEncoder = undefined;",
        "JSON.stringify = function () { return 'x'.repeat(9999); };",
        "performance.now = undefined;",
        "Object.freeze(history);",
        "Object.defineProperty(window, 'pixel', { value: 1 });",
        "JSON.stringify = function () { throw Error(); };",
    ],
)
def test_script_broken_browser_apis_raise_nothing(reader: Reader, server: Server, site: _Site, breaks: str):
    site.body = f"<script>{breaks}</script>{script(server, SHOP)}"
    reader.page.goto(site.at("/a"))
    reader.settle()
    reader.page.evaluate("history.pushState(1, '', '/b')")
    for hidden in (True, False, True):
        reader.page.evaluate(HIDE, hidden)
    reader.page.evaluate("window.pixel && pixel.consent && (pixel.consent(), pixel.stop())")
    reader.settle()
    assert reader.errors() == []
    assert reader.page.evaluate("location.pathname") == "/b"


def check_silent(reader: Reader, page: str, reason: str) -> None:
    """Checks that a page sends nothing, and that one warning says so."""
    reader.warnings.clear()
    reader.page.goto(page)
    reader.settle()
    if page.startswith("http"):
        reader.page.evaluate("history.pushState(1, '', location.pathname + 'x')")
    for hidden in (True, False):
        reader.page.evaluate(HIDE, hidden)
    assert (reader.sent, reader.errors()) == ([], [])
    assert reader.warnings == [f"p.js counts nothing: {reason}"]


def test_script_that_sends_nothing_warns_once(reader: Reader, server: Server, site: _Site):
    source = f"http://127.0.0.1:{server.port}/p.js"
    inline = f"<script data-campaign={SITE}>{SOURCE.decode()}</script>"
    for body, reason in (
        (f'<script src="{source}"></script>', "no data-campaign"),
        (f'<script src="{source}" type="module"></script>', "no data-campaign"),
        (script(server, more="data-off"), "data-off or data-consent"),
        (script(server, more="data-consent=no"), "data-off or data-consent"),
        (script(server, more="data-skip=local"), "data-skip"),
        (f"<script>fetch = () => {{ throw 'blocked' }}</script>{script(server)}", "blocked"),
        (inline, "no data-api"),
        (f'<script src="{COPY}" data-campaign="{SITE}"></script>', "no data-api"),
        (f'<script src="{COPY}?{source}" data-campaign="{SITE}"></script>', "no data-api"),
    ):
        site.body = body
        check_silent(reader, site.at("/a"), reason)


def test_script_refused_warns_once(reader: Reader, server: Server, site: _Site):
    site.body = script(server, "nobody-made-it")
    with reader.page.expect_console_message(lambda line: line.text.startswith("p.js")):
        reader.page.goto(site.at("/a"))
    reader.page.evaluate(HIDE, True)
    reader.settle()
    assert len(reader.warnings) == 1


def test_script_whose_requests_another_site_answers_warns_once(reader: Reader, server: Server, site: _Site):
    """The site answers every POST with its own page, as those of one page often do."""
    address = site.at("/p.js")
    for attributes in (f'src="{address}"', f'src="{COPY}" data-api="127.0.0.1:{server.port}"'):
        reader.warnings.clear()
        site.body = f'<script {attributes} data-campaign="{SITE}"></script>'
        with reader.page.expect_console_message(lambda line: line.text.startswith("p.js")):
            reader.page.goto(site.at("/a"))
        reader.page.evaluate(HIDE, True)
        reader.settle()
        assert [line.partition(" from ")[0] for line in reader.warnings] == ["p.js counts nothing: 200"]


def test_script_sandboxed_frame_is_counted_without_a_warning(reader: Reader, server: Server, site: _Site):
    site.body = (
        "<script>if (self == top) document.write('<iframe sandbox=allow-scripts src=/in></iframe>')</script>"
        + script(server)
    )
    reader.page.goto(site.at("/out"))
    assert {one.page for one in reader.hits(2)} == {site.at("/out"), site.at("/in")}
    reader.settle()
    assert reader.warnings == []


def test_script_copy_sends_to_the_server_that_it_names(reader: Reader, server: Server, site: _Site):
    api = f'data-campaign="{SITE}" data-api="http://127.0.0.1:{server.port}/"'
    for count, body in enumerate(
        (f'<script src="{COPY}" {api}></script>', f"<script {api}>{SOURCE.decode()}</script>")
    ):
        site.body = body
        reader.page.goto(site.at(f"/{count}", "localhost"))
        assert reader.hits(1 + 2 * count)[-1].page == site.at(f"/{count}", "localhost")
    assert reader.warnings == []


def test_script_loaders_with_cors_may_load_it(reader: Reader, server: Server, site: _Site):
    """The page is of another site. A module cannot see its own tag, so it looks for one."""
    digest = b64encode(sha384(SOURCE).digest()).decode()
    source = f"http://127.0.0.1:{server.port}/p.js"
    for count, more in enumerate(
        (
            *("crossorigin", f'integrity="sha384-{digest}" crossorigin="anonymous"', 'type="module"'),
            *('crossorigin="use-credentials"', 'type="module" crossorigin="use-credentials"'),
            f'type="module"></script><script src="{source}?2" data-campaign="{SITE}" type="module"',
        )
    ):
        site.body = f'<script src="{source}" data-campaign="{SITE}" {more}></script>'
        reader.page.goto(site.at(f"/{count}", "localhost"))
        assert reader.hits(1 + 2 * count)[-1].page == site.at(f"/{count}", "localhost")
    assert (reader.errors(), reader.warnings) == ([], [])


def test_script_loader_with_a_header_of_its_own_may_load_it(reader: Reader, server: Server, site: _Site):
    reader.page.goto(site.at("/a", "localhost"))
    status = reader.page.evaluate(
        "url => fetch(url, { headers: { 'X-Loader': '1' } }).then(answer => answer.status)",
        f"http://127.0.0.1:{server.port}/p.js",
    )
    assert status == 200


def test_script_twice_counts_once(reader: Reader, server: Server, site: _Site):
    site.body = script(server) + script(server, more="async") + script(server, SHOP)
    reader.page.goto(site.at("/a"))
    reader.settle()
    assert sorted(one.campaign for one in reader.hits(2)) == [SHOP, SITE]
    # As Turbo, htmx and others go on: the address first, then a new body, whose scripts run again.
    reader.page.evaluate(
        """() => {
          history.pushState(1, '', '/b');
          for (const old of document.querySelectorAll("script[data-campaign]")) {
            const script = document.createElement("script");
            for (const { name, value } of old.attributes) script.setAttribute(name, value);
            script.dataset.visitor = "grace";
            old.replaceWith(script);
          }
        }"""
    )
    reader.settle()
    hits = reader.hits(6)
    assert sorted((one.campaign, one.page) for one in hits if one.spent_ms < 0) == [
        *((SHOP, site.at("/a")), (SHOP, site.at("/b")), (SITE, site.at("/a")), (SITE, site.at("/b")))
    ]
    reader.page.evaluate(HIDE, True)
    assert [one.visitor != b"" for one in reader.hits(8) if one.campaign == SITE] == [False] * 3 + [True]
    assert (reader.errors(), reader.warnings) == ([], [])


RUN_AGAIN = """attributes => new Promise(done => {
  history.pushState(1, "", attributes.path);
  const script = document.createElement("script"), old = document.querySelector("script[data-campaign]");
  script.src = old.src;
  script.onload = () => done();
  Object.assign(script.dataset, { campaign: old.dataset.campaign }, attributes.data);
  old.replaceWith(script);
})"""
"""Goes on to another page as Turbo does. The new page has the script with other attributes."""


@pytest.mark.parametrize("refusal", [{"consent": "no"}, {"off": ""}])
def test_script_run_again_obeys_refusal_and_consent(
    reader: Reader, server: Server, site: _Site, refusal: dict[str, str]
):
    site.body = script(server, SHOP)

    def go_on(path: str, data: dict[str, str]) -> None:
        reader.page.evaluate(RUN_AGAIN, {"path": path, "data": data})
        reader.settle()

    reader.page.goto(site.at("/a"))
    reader.hits(1)
    with reader.page.expect_console_message(lambda line: line.text.startswith("p.js")):
        go_on("/b", refusal)
    for path in ("/c", "/d"):
        go_on(path, {})
        reader.page.evaluate(HIDE, True)
        reader.page.evaluate(HIDE, False)
    assert {one.page for one in reader.hits(3) if one.spent_ms < 0} == {site.at("/a"), site.at("/b")}
    go_on("/e", {"consent": "yes"})
    view = reader.hits(4)[-1]
    assert (view.page, view.is_new) == (site.at("/e"), True)
    reader.wait_for_cookies()
    reader.page.evaluate("pixel.stop()")
    go_on("/f", {"consent": "yes"})
    assert len(reader.hits(4)) == 4
    assert reader.errors() == []


def test_script_run_again_with_consent_sets_the_cookie(reader: Reader, server: Server, site: _Site):
    site.body = script(server, SHOP)
    reader.page.goto(site.at("/a"))
    reader.hits(1)
    reader.page.evaluate(RUN_AGAIN, {"path": "/b", "data": {"consent": "yes"}})
    assert reader.hits(4)[-1].is_new
    reader.wait_for_cookies()


def test_script_router_on_the_navigation_api_is_followed(reader: Reader, server: Server, site: _Site):
    site.body = script(server) + "<script>navigation.onnavigate = event => event.intercept();</script>"
    reader.page.goto(site.at("/a"))
    reader.hits(1)
    for count, path in enumerate(("/b", "/b?x=1", "/c")):
        reader.page.evaluate("path => navigation.navigate(path).finished.then(() => 0)", path)
        reader.hits((3, 3, 5)[count])
    views = [(one.page, one.page_referrer) for one in reader.hits(5) if one.spent_ms < 0]
    a, b, c = site.at("/a"), site.at("/b"), site.at("/c")
    assert views == [(a, ""), (b, a), (c, b)]


def test_script_page_off_the_web_sends_nothing(reader: Reader, server: Server, site: _Site, tmp_path: Path):
    saved = tmp_path / "Letters of Ada.html"
    saved.write_text(f"{WATCH}{script(server)}")
    check_silent(reader, saved.as_uri(), "no web page")
    site.body = ""
    reader.page.goto(site.at("/a"))
    for address in ("'about:blank'", "URL.createObjectURL(new Blob([text], { type: 'text/html' }))"):
        reader.warnings.clear()
        with reader.page.expect_console_message(lambda line: line.text.startswith("p.js")):
            reader.page.evaluate(
                f"""text => {{
                  const frame = document.body.appendChild(document.createElement("iframe"));
                  const address = {address};
                  if (address == "about:blank") frame.srcdoc = text; else frame.src = address;
                }}""",
                script(server),
            )
        assert reader.warnings == ["p.js counts nothing: no web page"]
    assert reader.sent == []


def test_script_data_skip_leaves_out_frames_and_local_pages(reader: Reader, server: Server, site: _Site):
    site.body = script(server, more='data-skip="local framed"')
    for host in ("localhost", "127.0.0.1"):
        check_silent(reader, site.at("/a", host), "data-skip")
    site.body = (
        script(server, more="data-skip=framed")
        + "<script>self == top && document.write('<iframe src=/inner></iframe>')</script>"
    )
    reader.page.goto(site.at("/outer"))
    reader.settle()
    assert [one.page for one in reader.hits(1)] == [site.at("/outer")]


def test_script_names_in_the_page_do_not_shadow_the_document(reader: Reader, server: Server, site: _Site):
    names = (
        *("hidden", "prerendering", "visibilityState", "referrer", "currentScript", "addEventListener"),
        *("querySelectorAll", "location", "history", "navigation", "fetch", "px", "Document"),
    )
    site.body = (
        "".join(f'<form name="{name}" id="{name}"></form><img name="{name}">' for name in names)
        + '<iframe name="pixel"></iframe><form id="pixel"></form>'
        + script(server, SHOP)
    )
    reader.page.goto(site.at("/a"), referer=site.at("/before"))
    [view] = reader.hits(1)
    assert (view.page, view.page_referrer) == (site.at("/a"), site.at("/before"))
    reader.page.evaluate("pixel.consent()")
    _, yes = reader.hits(2)
    assert yes.is_new
    reader.page.evaluate(HIDE, True)
    reader.hits(3)
    assert reader.errors() == []


def test_script_data_page_and_view_count_by_hand(reader: Reader, server: Server, site: _Site):
    site.body = script(server, more='data-page="/shop/cart?utm_source=news"')
    reader.page.goto(site.at("/x/y?z=1"))
    assert reader.hits(1)[0].page == site.at("/shop/cart?utm_source=news")
    reader.page.evaluate("history.pushState(1, '', '/elsewhere')")
    reader.page.evaluate("pixel.view('/shop/pay')")
    reader.page.evaluate("pixel.view('/shop/pay')")
    views = [(one.page, one.page_referrer) for one in reader.hits(5) if one.spent_ms < 0][1:]
    pay = site.at("/shop/pay")
    assert views == [(pay, site.at("/shop/cart?utm_source=news")), (pay, pay)]


def test_script_empty_data_page_waits_for_view(reader: Reader, server: Server, site: _Site):
    site.body = script(server, more="data-page")
    reader.page.goto(site.at("/x"), referer=site.at("/before"))
    reader.settle()
    reader.page.evaluate("history.pushState(1, '', '/elsewhere')")
    for hidden in (True, False):
        reader.page.evaluate(HIDE, hidden)
    assert reader.sent == []
    reader.page.evaluate("pixel.view()")
    reader.page.evaluate("pixel.view('step-2')")
    views = [(one.page, one.page_referrer) for one in reader.hits(3) if one.spent_ms < 0]
    here = site.at("/elsewhere")
    assert views == [(here, site.at("/before")), (site.at("/step-2"), here)]
    assert (reader.errors(), reader.warnings) == ([], [])


def test_script_view_counts_beside_the_history(reader: Reader, server: Server, site: _Site):
    site.body = script(server)
    reader.page.goto(site.at("/a"))
    reader.page.evaluate("pixel.view('/popup')")
    reader.page.evaluate("addEventListener('click', pixel.view), dispatchEvent(new Event('click'))")
    reader.page.evaluate("history.replaceState(1, '', '/a?x=1')")
    reader.page.evaluate("history.pushState(2, '', '/b')")
    views = [one.page for one in reader.hits(7) if one.spent_ms < 0]
    assert views == [site.at("/a"), site.at("/popup"), site.at("/a"), site.at("/b")]


def test_script_data_hash_follows_a_hash_router(reader: Reader, server: Server, site: _Site):
    site.body = script(server, more="data-hash")
    reader.page.goto(site.at("/app?utm_source=news#/start"))
    reader.hits(1)
    for count, route in enumerate(("#/start?tab=2", "#/cart?utm_medium=mail", "#!/pay", "")):
        reader.page.evaluate("route => { location.hash = route }", route)
        reader.hits((1, 3, 5, 7)[count])
    reader.page.evaluate("pixel.view('#/by-hand')")
    pages = [one.page.removeprefix(site.at("")) for one in reader.hits(9) if one.spent_ms < 0]
    assert pages == [
        "/app%23/start?utm_source=news&",
        "/app%23/cart?utm_source=news&utm_medium=mail",
        "/app%23!/pay?utm_source=news&",
        "/app?utm_source=news",
        "/app%23/by-hand?utm_source=news&",
    ]
    names = ["/app#/start", "/app#/cart", "/app#!/pay", "/app", "/app#/by-hand"]
    assert [web_names.page(page) for page in pages] == names
    assert web_names.source(site.at(pages[1]), "")[1:3] == ("news", "mail")


def test_script_page_without_referrer_still_names_its_origin(reader: Reader, server: Server, site: _Site):
    server.api("PATCH", f"/{FENCED}", {"origins": [site.at("", "localhost")]})
    site.body = '<meta name="referrer" content="no-referrer">' + script(server, FENCED)
    reader.page.goto(site.at("/a", "localhost"))
    assert reader.hits(1)[0].page == site.at("/a", "localhost")


def test_script_blocked_by_policy_raises_nothing(reader: Reader, server: Server, site: _Site):
    site.csp = f"script-src http://127.0.0.1:{server.port} 'unsafe-inline'; default-src 'none'"
    site.body = script(server)
    reader.page.goto(site.at("/a"))
    reader.settle()
    reader.page.evaluate(HIDE, True)
    assert reader.errors() == []
    assert reader.stored_hits() == []


POLICY = ' referrerpolicy="no-referrer-when-downgrade"'


@pytest.mark.parametrize(
    ("host", "policy", "page"),
    [
        ("localhost", POLICY, "/a/b?c=d"),
        ("localhost", "", "/"),
        ("127.0.0.1", POLICY, "/a/b?c=d"),
        ("127.0.0.1", "", "/"),
    ],
)
def test_image_referrer_policy_decides_the_address(
    reader: Reader, server: Server, site: _Site, host: str, policy: str, page: str
):
    site.body = f'<img src="http://127.0.0.1:{server.port}/p/{SITE}.gif" width="1" height="1" alt=""{policy}>'
    reader.page.goto(site.at("/a/b?c=d", host))
    [view] = reader.hits(1)
    assert view.referrer == view.page == site.at(page, host)
