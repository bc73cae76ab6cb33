"""axe-core checks every page: light and dark, desktop and phone. It must find nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT

from tests.journeys.every_page import BROKEN, BUSY, EMPTY, Filled, Lookers, Shown, started

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

COLOURS = ["color-contrast", "link-in-text-block"]
PLACES = ["scrollable-region-focusable", "target-size", "meta-viewport", "aria-hidden-focus"]
LOOKS = (
    (1280, "light", None),
    (1280, "dark", COLOURS),
    (360, "dark", [*COLOURS, *PLACES]),
)
"""Width, colour scheme, and the rules to check, None for all. Colours do not depend on the width."""


def found(page: Page, rules: list[str] | None) -> Iterator[str]:
    """Yields the findings on a page. The script is injected in spite of the page's policy."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules is not None:
        options["runOnly"] = {"type": "rule", "values": rules}
    for each in page.evaluate("(options) => axe.run(options)", options)["violations"]:
        for node in each["nodes"]:
            yield f"{each['impact']} {each['id']}: {node['html'][:200]} {node['failureSummary']}"


def look(lookers: Lookers, filled: Filled, pages: Iterable[Shown]) -> list[str]:
    """Returns the findings on these pages, with all details open."""
    wrong = []
    for shown in pages:
        page = lookers.of(shown.who)
        filled.show(page, shown)
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
        for width, scheme, rules in LOOKS:
            page.set_viewport_size({"width": width, "height": 800})
            page.emulate_media(color_scheme=scheme)
            wrong += [f"{shown.name}, {width} px, {scheme}: {one}" for one in found(page, rules)]
    return wrong


def test_pages_have_no_accessibility_violations(browser: Browser):
    with started() as filled:
        lookers = Lookers(browser, filled)
        wrong = look(lookers, filled, EMPTY)
        filled.fill()
        wrong += look(lookers, filled, BUSY)
        with filled.redis_away():
            wrong += look(lookers, filled, BROKEN)
        lookers.close()
    assert wrong == []


@pytest.mark.parametrize(
    ("html", "rule"),
    [
        ("<img src='x.gif'>", "image-alt"),
        ("<p style='color: #bbb; background: #fff'>Hardly seen</p>", "color-contrast"),
        ("<input name='unnamed'>", "label"),
    ],
)
def test_accessibility_check_finds_violations(browser: Browser, html: str, rule: str):
    page = browser.new_page()
    page.set_content(f"<html lang='en'><title>Bad</title><main>{html}</main></html>")
    assert any(f" {rule}: " in one for one in found(page, None))
