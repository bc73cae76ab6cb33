"""A browser without JavaScript opts out: on the page itself, and in a frame of another web site."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pixel_server.privacy.texts import TEXTS
from tests.journeys.conftest import launched
from tests.journeys.test_browser import _Quiet
from tests.stack import Stack, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

ENGLISH = TEXTS["en"].browser


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Returns Chromium itself. Its headless shell sometimes shows nothing in a frame of another site."""
    yield from launched(chromium)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """Returns the address of another web site, `localhost`, which serves tmp_path."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def reader(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(
        java_script_enabled=False, locale="en-GB", viewport={"width": 360, "height": 740}
    )
    yield made
    made.close()


def cookies(reader: BrowserContext) -> list[tuple[str, str, bool]]:
    """Returns domain and path of each opt-out cookie, and whether it is partitioned."""
    return [
        (str(kept["domain"]), str(kept["path"]), bool(kept.get("partitionKey")))
        for kept in reader.cookies()
        if kept["name"] == "px-no"
    ]


def says(view: Any) -> str:
    """Returns the heading of the page or the frame."""
    return str(view.locator("h1").inner_text())


def press(view: Any) -> None:
    view.locator("button").click()


def test_opt_out_page_stops_counting(shared: Stack, reader: BrowserContext):
    page = reader.new_page()
    page.goto(f"{shared.address}/privacy")
    assert says(page) == ENGLISH.title
    assert ENGLISH.scope_alone in page.inner_text("main")
    assert page.locator("strong").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, "wider than the screen of a phone"
    press(page)
    until(lambda: says(page) == ENGLISH.title_opted_out)
    assert cookies(reader) == [("127.0.0.1", "/", False)]
    page.reload()
    assert says(page) == ENGLISH.title_opted_out
    page.goto(f"{shared.address}/privacy")
    assert says(page) == ENGLISH.title_opted_out
    press(page)
    until(lambda: says(page) == ENGLISH.title)
    assert cookies(reader) == []
    assert page.locator("strong").count() == 0


def test_opt_out_in_a_frame_stops_counting(
    shared: Stack, name: str, reader: BrowserContext, elsewhere: str, tmp_path: Path
):
    framed = {"id": name, "name": "Docs", "kind": "web", "origins": [elsewhere]}
    others = {"id": f"{name}-other", "name": "Other", "kind": "web", "origins": ["https://www.example.org"]}
    for made in (framed, others):
        assert shared.call("POST", "/api/campaigns", made)[0] == 201
    until(lambda: shared.get(f"/p/{name}.gif") == (200, "recorded"))
    for campaign in (name, f"{name}-other", f"{name}-none"):
        frame = f'<iframe src="{shared.address}/privacy?c={campaign}"></iframe>'
        (tmp_path / f"{campaign}.html").write_text(f"<!doctype html><title>A site</title>{frame}")

    page = reader.new_page()
    page.goto(f"{elsewhere}/{name}.html")
    frame = page.frame_locator("iframe")
    assert says(frame) == ENGLISH.title
    assert ENGLISH.scope_framed in frame.locator("main").inner_text()
    press(frame)
    until(lambda: says(frame) == ENGLISH.title_opted_out)
    assert cookies(reader) == [("127.0.0.1", "/", True)]
    page.goto(f"{elsewhere}/{name}.html")
    assert says(frame) == ENGLISH.title_opted_out

    page.goto(f"{shared.address}/privacy")
    assert says(page) == ENGLISH.title, "the answer holds for that site alone"
    page.goto(f"{elsewhere}/{name}.html")
    press(frame)
    until(lambda: says(frame) == ENGLISH.title)
    assert cookies(reader) == []

    for campaign in (f"{name}-other", f"{name}-none"):
        page.goto(f"{elsewhere}/{campaign}.html")
        assert frame.locator("form").count() == 0, "it is not for this site to show the page"
