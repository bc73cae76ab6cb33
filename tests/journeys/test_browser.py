"""A real browser opens a mail and a web page, and both are counted."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.stack import NOBODY_ASKED, READER, Stack, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parent.parent.parent
SNIPPETS = (ROOT / "README.md").read_text() + (ROOT / "docs" / "web.md").read_text()

MAIL = """<!doctype html><html><body><table><tr><td>
<p>Dear Ada, our spring catalogue is here.</p>{pixel}
</td></tr></table></body></html>"""

PAGE = """<!doctype html><html><head><title>A page</title></head><body><p>Hello.</p>{pixel}</body></html>"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's own name
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """Returns the address of a web site that serves the files in tmp_path."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:{0}.0) Gecko/20100101 Firefox/{0}.0"


def show(browser: Browser, address: str, agent: str | None = None) -> None:
    """Opens an address as a new visitor, and waits for all images."""
    context = browser.new_context(user_agent=agent)
    page = context.new_page()
    page.goto(address, wait_until="load")
    page.wait_for_load_state("networkidle")
    context.close()


def test_pixel_mail_shown_in_browser_is_counted(shared: Stack, name: str, browser: Browser, tmp_path: Path):
    made = {"id": name, "name": "Mail", "kind": "email", "sent": 2}
    assert shared.call("POST", "/api/campaigns", made)[0] == 201
    _, links = shared.call("POST", f"/api/campaigns/{name}/links", {"recipients": ["ada@example.org", "bob"]})
    mail = tmp_path / "mail.html"
    mail.write_text(MAIL.format(pixel=links["links"][0]["html"]))

    show(browser, mail.as_uri(), READER)
    until(lambda: shared.totals(name)["opens"] == 1)
    show(browser, mail.as_uri(), READER)
    until(lambda: shared.totals(name)["opens"] == 2)
    _, stats = shared.call("GET", f"/api/campaigns/{name}/stats")
    assert stats["totals"] == {
        **NOBODY_ASKED,
        **{"hits": 2, "opens": 2, "unique_opens": 1, "unique_opens_person": 1, "unique_ips": 1},
    }
    assert (stats["open_rate"]["low"], stats["open_rate"]["high"]) == (0.5, 0.5)


def test_pixel_takes_no_space_and_is_loaded(shared: Stack, name: str, browser: Browser, tmp_path: Path):
    shared.run("campaign", "create", name)
    tag = shared.run("link", name, "ada", "--html").stdout
    mail = tmp_path / "mail.html"
    mail.write_text(MAIL.format(pixel=tag))
    page = browser.new_page()
    page.goto(mail.as_uri(), wait_until="load")
    image = page.locator("img")
    size = image.evaluate("i => [i.complete, i.naturalWidth, i.naturalHeight, i.width, i.height]")
    assert size == [True, 1, 1, 1, 1]
    assert image.is_visible(), "Gmail does not load what is hidden"
    page.close()


def test_pixel_web_page_is_counted(shared: Stack, name: str, browser: Browser, site: str, tmp_path: Path):
    made = {"id": name, "name": "Site", "kind": "web", "identity": "own"}
    assert shared.call("POST", "/api/campaigns", made)[0] == 201
    pixel = f"{shared.address}/p/{name}.gif"
    (tmp_path / "plain.html").write_text(
        PAGE.format(pixel=f'<img src="{pixel}" width="1" height="1" alt="">')
    )
    named = f"{pixel}?u=https%3A%2F%2Fexample.org%2Fa&amp;r=https%3A%2F%2Fsearch.example%2F&amp;v=reader-7"
    (tmp_path / "named.html").write_text(
        PAGE.format(pixel=f'<img src="{named}" width="1" height="1" alt="">')
    )

    show(browser, f"{site}/plain.html", FIREFOX.format(139))
    until(lambda: shared.totals(name)["views"] == 1)
    show(browser, f"{site}/named.html", FIREFOX.format(139))
    show(browser, f"{site}/named.html", FIREFOX.format(140))
    until(lambda: shared.totals(name)["views"] == 3)
    totals = shared.totals(name)
    assert totals["unique_visitors"] == 1, "the page's own visitor id is one visitor, whatever the browser"
    assert totals["views_no_visitor"] == 1, "a page that gives none"

    salted = f"{name}-salted"
    made = {"id": salted, "name": "Salted", "kind": "web"}
    assert shared.call("POST", "/api/campaigns", made)[0] == 201
    (tmp_path / "salted.html").write_text(
        PAGE.format(pixel=f'<img src="{shared.address}/p/{salted}.gif" width="1" height="1" alt="">')
    )
    until(lambda: shared.get(f"/p/{salted}.gif", **{"User-Agent": "curl/8.5.0"}) == (200, "recorded"))
    for version in (139, 140, 139):
        show(browser, f"{site}/salted.html", FIREFOX.format(version))
    until(lambda: shared.totals(salted)["views"] == 3)
    totals = shared.totals(salted)
    assert (totals["unique_visitors"], totals["views_bot"]) == (2, 1), (
        "one a browser and address; curl is none"
    )


def test_script_of_the_readme_counts_a_view(
    shared: Stack, name: str, browser: Browser, site: str, tmp_path: Path
):
    snippets = re.findall(r"^```html\n(.*?)^```", SNIPPETS, re.M | re.S)
    assert snippets
    for number, snippet in enumerate(snippets):
        site_name = f"{name}-{number}"
        assert shared.run("campaign", "create", site_name, "--kind", "web").returncode == 0
        pixel = snippet.replace("https://img.example.org", shared.address)
        pixel = pixel.replace("docs", site_name)
        assert pixel != snippet
        (tmp_path / "snippet.html").write_text(PAGE.format(pixel=pixel))
        until(lambda name=site_name: shared.get(f"/p/{name}.gif") == (200, "recorded"))
        show(browser, f"{site}/snippet.html")
        until(lambda name=site_name: shared.totals(name)["hits"] > 1)
