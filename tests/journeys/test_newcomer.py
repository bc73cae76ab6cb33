"""A newcomer uses only the mouse, from the link that `up` prints to signing out."""

from __future__ import annotations

import csv
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from tests.stack import Stack, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BROWSER = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.36"
)
"""User agent of a person's browser. A headless browser names itself, and would be classified as a machine."""


@contextmanager
def webmail(tag: str) -> Iterator[str]:
    """Serves a mail with this tag on another web site, and yields its address."""
    page = f"<!doctype html><title>Inbox</title><h1>News</h1><p>Hello Ada.</p>{tag}".encode()

    class Mail(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_mail = self.path == "/mail"
            self.send_response(200 if is_mail else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page if is_mail else b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Mail)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}/mail"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_newcomer_first_campaign_from_sign_in_to_sign_out(stack: Stack, browser: Browser):
    shown = re.search(r"sign in +(\S+)", stack.output())
    assert shown is not None
    agent = BROWSER.format(browser.version.partition(".")[0])
    context = browser.new_context(user_agent=agent, accept_downloads=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=stack.address)
    page = context.new_page()

    page.goto(shown[1])
    assert page.url == f"{stack.address}/"
    page.get_by_role("link", name="New campaign").click()
    page.get_by_label("Name", exact=True).fill("First news")
    page.get_by_role("radio", name="No, only keys").check()
    page.get_by_role("button", name="Create campaign").click()
    page.get_by_text("The campaign was created.").wait_for()

    ticks = page.locator(".done-step")
    assert ticks.count() == 0
    page.get_by_label("Sent", exact=True).fill("2")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved.").wait_for()
    until(lambda: ticks.all_inner_texts() == ["2 mails\nDone"])
    links = {"recipients": ["bob@example.org"]}
    page.locator("main[data-state='live']").wait_for()
    assert stack.call("POST", "/api/campaigns/first-news/links", links)[0] == 200
    page.get_by_text("The last link was created").wait_for()  # by itself
    assert ticks.count() == 1, "an address that only this machine can reach is not ready for mails"

    page.get_by_label("Recipient", exact=True).fill("ada@example.org")
    page.get_by_role("button", name="Create pixel").click()
    page.get_by_role("button", name="Copy: Image tag").click()
    page.get_by_role("status").get_by_text("Copied").wait_for()
    tag = page.evaluate("navigator.clipboard.readText()")
    assert tag.startswith(f'<img src="{stack.address}/o/')

    main = page.locator("main")
    opened = page.locator("dl.figures [data-figure='totals.unique_opens']")
    page.locator("main[data-state='live']").wait_for()
    assert page.locator("[data-figure='totals.hits']").inner_text() == "0"
    with webmail(tag) as address:
        mail = context.new_page()
        with mail.expect_response(lambda answer: "/o/" in answer.url) as image:
            mail.goto(address)
        assert image.value.status == 200
        assert image.value.header_value("x-pixel") == "recorded"
        assert mail.evaluate("document.images[0].naturalWidth") == 1
        page.bring_to_front()
        page.get_by_text("The pixel works").wait_for()  # the checklist became the normal page by itself
        opened.get_by_text("1", exact=True).wait_for()
        assert main.locator("[data-figure='totals.opens']").inner_text() == "1"
        assert page.locator(".big").inner_text() == "50.0%"
        page.locator(".interval[aria-label='Open rate 50.0%']").wait_for()
        page.locator(".legend").wait_for()
        assert page.locator(".legend [data-figure='verdicts.person.hits']").inner_text() == "1"
        page.locator(".ranked").get_by_text("Chrome").wait_for()
        page.locator("main[data-state='live']").wait_for()
        page.evaluate("window.isTheSame = true")
        mail.reload()
        page.bring_to_front()
        main.locator("dl.figures [data-figure='totals.opens']").get_by_text("2", exact=True).wait_for()
        assert page.evaluate("window.isTheSame"), "it moved without being loaded anew"

        hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        assert stack.call("PATCH", "/api/campaigns/first-news", {"sent_at": hour_ago})[0] == 200
        page.reload()
        page.locator(".curves .u-over").wait_for()
        page.locator("main[data-state='live']").wait_for()
        page.evaluate("document.querySelector('.curves').isOld = true")
        mail.reload()
        page.bring_to_front()
        until(lambda: not page.evaluate("document.querySelector('.curves').isOld"))
        page.locator(".curves .u-over").wait_for()
        mail.close()

    page.get_by_role("link", name="Recipients").click()
    page.get_by_role("link", name="Machines only").click()
    page.get_by_text("No recipients").wait_for()
    page.get_by_role("link", name=re.compile("^Opened by people [0-9]")).click()
    key = page.locator("tbody tr a [title]").get_attribute("title")
    status, found = stack.call("POST", "/api/recipients/find", {"recipient": "ada@example.org"})
    assert (status, found["key"]) == (200, key)
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename == "first-news-person.csv"
    with download.value.path().open(newline="") as file:
        [row] = csv.DictReader(file)
    assert (row["key"], row["opens"], row["opens_person"]) == (key, "3", "3")

    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    page.go_back()
    page.get_by_role("button", name="Sign in").wait_for()
    for path in ("campaigns/first-news", "campaigns/first-news/recipients.csv", ""):
        page.goto(f"{stack.address}/{path}")
        assert "/sign-in" in page.url
    page.goto(shown[1])
    page.get_by_text("was already used").wait_for()
    context.close()
