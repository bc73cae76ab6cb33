"""A web site of three pages, visited in a real browser. The expected figures are counted by hand."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
import uvicorn

from pixel_server.app import create_app
from pixel_server.run import listen
from pixel_server.run.web_process import FAST_PROTOCOL
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import jobs
from pixel_server.store.client import connect, connect_async
from tests.conftest import API_KEY
from tests.journeys.conftest import QUIET
from tests.stack import until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

AGENTS = {
    "ada": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "bob": "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:139.0) Gecko/20100101 Firefox/139.0",
    "cem": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:138.0) Gecko/20100101 Firefox/138.0",
    "dana": "Mozilla/5.0 (X11; Linux x86_64; rv:137.0) Gecko/20100101 Firefox/137.0",
    "eve": "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:136.0) Gecko/20100101 Firefox/136.0",
    "fay": "Mozilla/5.0 (X11; Linux x86_64; rv:135.0) Gecko/20100101 Firefox/135.0",
}
DAYS = {"from": "2026-03-10", "to": "2026-03-12"}


class Server:
    """The real app on uvicorn, with a clock that the test sets."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        self.now = 0.0
        self.listening = listen.bind("localhost", 0)
        self.address = f"http://localhost:{self.listening.getsockname()[1]}"
        queue = jobs.queue(connect(settings.redis_url))
        redis = connect_async(settings.redis_url)
        app = create_app(settings, secrets, redis, queue, clock=lambda: self.now)
        config = uvicorn.Config(app, loop="uvloop", http=FAST_PROTOCOL, ws="none", log_config=None)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([self.listening],), daemon=True)
        self.thread.start()
        until(lambda: self.server.started)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(60)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self.address + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())


@pytest.fixture
def server(redis_url: str, tmp_path: Path, secrets: Secrets) -> Iterator[Server]:
    settings = Settings(
        redis_url=redis_url, data=tmp_path, base_url="http://localhost", api_key=API_KEY, keep_buckets=3650
    )
    made = Server(settings, secrets)
    yield made
    made.stop()


IDENTITIES = ("cookieless", "cookie", "own")


class _Pages(BaseHTTPRequestHandler):
    """/KIND/PAGE?v=VISITOR: a page with `p.js`, or with the bare image, that leads to the others.

    It is counted under a campaign of each identity.
    """

    pixel = ""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        visitor = parse_qs(parts.query).get("v", [""])[0]
        image = "".join(
            f'<img src="{self.pixel}/p/{campaign}.gif?c=1&amp;v={visitor}" width="1" height="1" alt="" '
            'referrerpolicy="no-referrer-when-downgrade">'
            for campaign in IDENTITIES
        )
        script = "".join(
            f'<script defer src="{self.pixel}/p.js" data-campaign="{campaign}" data-consent '
            f'data-visitor="{visitor}"></script>'
            for campaign in IDENTITIES
        )
        shown = f"{script}<noscript>{image}</noscript>" if parts.path.startswith("/js/") else image
        links = "".join(f'<a id="{page}" href="{page}?v={visitor}">{page}</a> ' for page in "abc")
        body = f"<!doctype html><title>Page</title>{links}{shown}".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's own name
        pass


@pytest.fixture
def site(server: Server) -> Iterator[str]:
    """Returns the address of the web site, which is another site than the pixel's for the browser."""
    pages = type("Pages", (_Pages,), {"pixel": server.address})
    with ThreadingHTTPServer(("127.0.0.1", 0), pages) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_address[1]}"
        found.shutdown()


class Town(NamedTuple):
    """The people. homes: the profile directories of their browsers."""

    browser: Browser
    chromium: str
    headless: str
    server: Server
    site: str
    homes: Path


class Reader:
    """One person at a browser of their own, whose clock is the server's.

    refuses: all cookies. What a browser keeps, it has again when the same person comes again. It is told its
    name when it starts: what Playwright says in its place is not said in beacons of a page that is left.
    """

    def __init__(self, town: Town, name: str, *, refuses: bool = False, **options: Any) -> None:
        self.server, self.site, self.name = town.server, town.site, name
        profile = town.homes / name
        (profile / "Default").mkdir(parents=True, exist_ok=True)
        if refuses:
            blocked = {"profile": {"default_content_setting_values": {"cookies": 2}}}
            (profile / "Default" / "Preferences").write_text(json.dumps(blocked))
        self.context: BrowserContext = town.browser.browser_type.launch_persistent_context(
            profile,
            executable_path=town.chromium if refuses else town.headless,  # only Chromium reads preferences
            args=[*QUIET, f"--user-agent={AGENTS[name]}"],
            **options,
        )
        self.page: Page = self.context.pages[0]
        self.has_clock = options.get("java_script_enabled", True)

    def at(self, when: str) -> None:
        now = datetime.fromisoformat(f"2026-03-{when}Z").timestamp()
        if self.has_clock:
            if self.page.url == "about:blank":
                self.context.clock.install(time=now - 1)
                self.context.clock.pause_at(now)
            else:
                self.context.clock.fast_forward(int((now - self.server.now) * 1000))
        self.server.now = now

    def opens(self, when: str, path: str, **options: Any) -> None:
        """Opens a page from another web site."""
        self.at(when)
        self.page.goto(f"{self.site}/{path}?v={self.name}", wait_until="networkidle", **options)

    def clicks(self, when: str, page: str) -> None:
        self.at(when)
        self.page.click(f"#{page}")
        self.page.wait_for_load_state("networkidle")

    def leaves(self, when: str) -> None:
        self.at(when)
        self.page.goto("data:text/html,<title>elsewhere</title>", wait_until="networkidle")
        self.context.close()


def read_the_site(town: Town) -> None:
    """Plays the visits. The test states the expected figures."""
    ada = Reader(town, "ada")
    ada.opens("10T09:00:00", "js/a", referer="https://www.google.com/")
    ada.clicks("10T09:01:00", "b")
    ada.clicks("10T09:03:00", "c")
    ada.leaves("10T09:03:30")

    bob = Reader(town, "bob")
    bob.opens("10T09:10:00", "img/a")
    bob.clicks("10T09:15:00", "b")
    bob.leaves("10T09:16:00")

    cem = Reader(town, "cem", java_script_enabled=False)
    cem.opens("10T09:20:00", "js/a")
    cem.leaves("10T09:21:00")

    dana = Reader(town, "dana", extra_http_headers={"Sec-GPC": "1"})
    dana.opens("10T09:30:00", "js/a")
    dana.leaves("10T09:31:00")

    eve = Reader(town, "eve", refuses=True)
    eve.opens("10T09:40:00", "js/a")
    eve.clicks("10T09:41:00", "b")
    assert not eve.context.cookies()
    eve.leaves("10T09:42:00")

    fay = Reader(town, "fay")
    fay.opens("10T23:50:00", "js/a")
    fay.clicks("11T00:10:00", "b")
    fay.leaves("11T00:11:00")

    again = Reader(town, "ada")
    again.opens("11T10:00:00", "js/c")
    again.leaves("11T10:00:50")


def test_web_site_figures_equal_a_count_by_hand(
    browser: Browser,
    chromium: str,
    headless: str,
    server: Server,
    site: str,
    tmp_path: Path,
    count: Callable[..., int],
):
    server.now = datetime.fromisoformat("2026-03-10T08:00Z").timestamp()
    for identity in IDENTITIES:
        made = {"id": identity, "name": "Site", "kind": "web", "identity": identity, "origins": [site]}
        server.call("POST", "/api/campaigns", made)
    read_the_site(Town(browser, chromium, headless, server, site, tmp_path / "homes"))
    count(server.now)
    for identity in IDENTITIES:
        check_figures(server, identity)
        check_breakdowns(server, identity)


def check_figures(server: Server, identity: str) -> None:
    found = server.call("GET", f"/api/campaigns/{identity}/stats")
    totals = found["totals"]
    counted = {name: totals[name] for name in ("views", "visits", "bounces", "views_bot", "views_no_visit")}
    assert counted == {"views": 12, "visits": 6, "bounces": 2, "views_bot": 0, "views_no_visit": 0}
    assert (totals["views_no_visitor"], found["bounce_share"]) == (1, 0.3333)
    assert totals["unique_visitors"] == (7 if identity == "cookieless" else 5)
    assert found["visitor_unit"] == ("visitor-days" if identity == "cookieless" else "visitors")
    seen = (5, 1) if identity == "cookie" else (None, None)
    assert (totals["visits_new"], totals["visits_returning"]) == seen
    # 60 120 30 ada, 300 bob, 60 60 eve, 1200 60 fay, 50 ada again
    on_page = found["time_on_page"]
    assert on_page["views"] == 9
    assert [on_page[name] for name in ("quartile_1", "median", "quartile_3")] == [
        pytest.approx(seconds, rel=0.05) for seconds in (60, 60, 120)
    ]
    # 210 ada, 300 bob, 120 eve, 1260 fay, 50 ada again
    assert found["time_of_visit"]["visits"] == 5
    assert found["time_of_visit"]["median"] == pytest.approx(210, rel=0.05)

    days = {item["start"][:10]: item for item in found["series"]}
    first, second = days["2026-03-10"], days["2026-03-11"]
    assert (first["views"], first["visits"], first["unique_visitors"]) == (10, 5, 5)
    assert (second["views"], second["visits"], second["unique_visitors"]) == (2, 1, 2)


def check_breakdowns(server: Server, identity: str) -> None:
    asked = "&".join(f"{name}={value}" for name, value in DAYS.items())
    by = server.call("GET", f"/api/campaigns/{identity}/breakdowns?{asked}")["by"]
    for name, rows in by.items():
        assert sum(row["views"] for row in rows) == 12, name
        assert sum(row["visits"] for row in rows) == 6, name
    shown = {name: {row["name"]: (row["views"], row["visits"]) for row in rows} for name, rows in by.items()}
    assert shown["page"] == {
        **{"/js/a": (5, 4), "/js/b": (3, 0), "/js/c": (2, 1)},
        **{"/img/a": (1, 1), "/img/b": (1, 0)},
    }
    assert shown["entry_page"] == {
        **{"/js/a": (8, 4), "/img/a": (2, 1), "/js/c": (1, 1), "(none)": (1, 0)},
    }
    assert shown["exit_page"] == {
        **{"/js/c": (4, 2), "/img/b": (2, 1), "/js/a": (1, 1), "/js/b": (4, 2)},
        "(none)": (1, 0),
    }
    assert shown["referrer"] == {"google.com": (3, 1), "(none)": (9, 5)}
    assert shown["referrer_kind"] == {"search": (3, 1), "(none)": (9, 5)}
    assert shown["system"] == {"Linux": (7, 3), "Windows": (4, 2), "macOS": (1, 1)}
    assert shown["browser"] == {"Firefox": (12, 6)}
    assert shown["device"] == {"desktop": (12, 6)}
