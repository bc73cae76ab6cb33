"""A share link in a browser: created, opened without signing in, embedded and revoked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.journeys.test_browser import _Quiet
from tests.stack import Stack, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

GONE = "This link is no longer valid"


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Returns the addresses of two other web sites, which serve tmp_path."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=tmp_path)) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{servers[0].server_port}", f"http://localhost:{servers[1].server_port}"
    for server in servers:
        server.shutdown()
        server.server_close()


def sign_in(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.address}/sign-in")
    page.get_by_label("API key").fill(stack.key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{stack.address}/")


def frame_in(page: Page, address: str) -> str:
    """Returns the heading in the frame, "" if the browser refused to show the frame."""
    page.goto(f"{address}/frame.html", wait_until="load")
    [frame] = page.main_frame.child_frames
    frame.wait_for_load_state()
    if frame.url.startswith("chrome-error:"):
        return ""
    return frame.locator("h1").inner_text()


def test_share_link_from_create_to_revoke(
    stack: Stack, browser: Browser, sites: tuple[str, str], tmp_path: Path
):
    here, elsewhere = sites
    assert stack.run("campaign", "create", "spring", "--name", "Spring catalogue").returncode == 0
    context = browser.new_context(viewport={"width": 360, "height": 740})
    owner = context.new_page()
    sign_in(owner, stack)
    owner.get_by_role("link", name="Spring catalogue").click()
    owner.get_by_role("link", name="Share links").click()
    owner.get_by_label("Name", exact=True).fill("A partner")
    owner.get_by_label("Web sites that may embed the figures").fill(here)
    owner.get_by_role("button", name="Create link").click()
    link = owner.get_by_role("textbox", name="Copy the link now").input_value()
    snippet = owner.get_by_role("textbox", name="HTML to embed the figures in a page").input_value()
    assert link.startswith(f"{stack.address}/s/")
    assert owner.evaluate("document.documentElement.scrollWidth") <= 360
    (tmp_path / "frame.html").write_text(f"<!doctype html><title>A site</title>{snippet}")

    partner = browser.new_context(viewport={"width": 360, "height": 740})
    page = partner.new_page()
    told: list[str] = []
    page.on("request", lambda request: told.append(request.headers.get("referer", "")))
    page.goto(link)
    assert page.get_by_role("heading", level=1).inner_text() == "Spring catalogue"
    assert "nothing to show yet" in page.inner_text("main")
    assert page.locator("a").all_inner_texts() == ["Skip to the content"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert not any(link.rpartition("/")[2] in referrer for referrer in told), "no request tells its address"
    assert frame_in(page, here) == "Spring catalogue"
    assert frame_in(page, elsewhere) == "", "an origin that is not listed"
    assert partner.cookies() == []

    owner.goto(f"{stack.address}/campaigns/spring/shares")
    assert link not in owner.content()
    assert "just now" in owner.inner_text("table") or "ago" in owner.inner_text("table")
    owner.get_by_role("link", name="Revoke A partner").click()
    owner.get_by_role("button", name="Revoke", exact=True).click()
    until(lambda: "The share link was revoked." in owner.inner_text("main"))
    assert page.goto(link).status == 404  # type: ignore[union-attr]
    assert page.get_by_role("heading", level=1).inner_text() == GONE
    assert frame_in(page, here) == ""
    assert link.rpartition("/")[2] not in stack.output()
    partner.close()
    context.close()
