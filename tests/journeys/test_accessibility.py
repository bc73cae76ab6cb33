"""axe-core checks every page: light and dark, desktop and phone. It must find nothing.

The same visit measures each page on a phone, because starting and filling a server takes long.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT

from tests.journeys.every_page import BROKEN, BUSY, EMPTY, Filled, Lookers, Shown, started

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PHONE = {"width": 390, "height": 844}
NARROW = 360
"""Width in px of the narrowest phone, on which no page may scroll sideways."""
MAX_SCREENS = 10
"""Largest height of a page on a phone, in screens."""
FIRST_FIGURE_PX = 300
"""Height within which the first figure begins on a phone."""
LEADING = (
    *("list", "list-tag", "list-mailings"),
    *("campaign-email", "campaign-email-hours", "campaign-of-a-reader"),
    *("campaign-web", "campaign-web-week", "campaign-web-hours", "campaign-web-filtered"),
    *("share-email", "share-web", "share-web-week", "shared-email"),
)
"""Pages that lead with a figure."""
FIRST_FIGURE = """(() => {
    const top = (figure) => {
        const content = document.createRange()
        content.selectNodeContents(figure) // without the label of a cell, which is its ::before
        return content.getBoundingClientRect().top + scrollY
    }
    const figures = [...document.querySelectorAll('.big, .figures dd, .campaigns td:is(.rate, .n)')]
    return Math.min(...figures.filter((figure) => figure.offsetHeight).map(top))
})()"""
SHORTEN = """() => {
    for (const one of document.querySelectorAll("details")) one.open = true
    const inside = ":nth-child(n+3):nth-last-child(n+3)"
    const others = document.querySelectorAll(`tbody > tr${inside}, datalist > option${inside}`)
    for (const one of others) one.remove()
}"""
"""Opens all details. Long tables and lists keep their first and last two rows; the others are like them."""
FIRST_NAME_PX = 480
"""Height within which the first recipient of a list begins on a phone."""
FIRST_NAME = "document.querySelector('.recipients tbody')?.getBoundingClientRect().top + scrollY"
SIDE_OVERHANG = """Math.max(0, ...[...document.querySelectorAll(".scroll:has(.side)")].map(
    (table) => table.scrollWidth - table.clientWidth))"""
"""Width in px by which a table of campaigns side by side is too wide."""
REFUSAL_UNSEEN = """() => {
    const refusal = document.querySelector("main div[role=alert]"), top = refusal?.getBoundingClientRect().top
    return Boolean(refusal) && (document.activeElement !== refusal || top < 0 || top > innerHeight)
}"""
"""Whether a page says that something was refused, but does not open there."""
OWN_WORDS = """() => {
    for (const one of document.querySelectorAll("code, bdi, time, textarea, pre")) one.remove()
    return document.body.innerText
}"""
"""Returns the text of a page without names, ids, times and code. Removes these from the page."""
NOUNS = "recipients|visitors|visits|views|opens|mails|requests|campaigns|events|notes|rows|names|lines|days"
BAD_PLURAL = re.compile(rf"(?<![\d.,])1 (?:more )?(?:{NOUNS})\b")
BAD_NUMBER = re.compile(r"(?<![\w.,:/=%#+-])(?!(?:19|20)\d\d\b)\d{4,7}(?![\w:/=-]|\.\d)")
"""A number of four digits or more without a comma, which is not a year."""
SMALL_TIMES = """[...document.querySelectorAll("td time")].filter((time) =>
    parseFloat(getComputedStyle(time).fontSize) < parseFloat(getComputedStyle(time.parentElement).fontSize)
).map((time) => time.innerText)"""
LONG_NAMES = """[...document.querySelectorAll("table a bdi, th bdi, .who-acted > bdi")].filter((name) =>
    name.offsetHeight > 3.5 * parseFloat(getComputedStyle(name).lineHeight)).map((name) => name.innerText)"""
LOW_TICKS = """[...document.querySelectorAll(".tick input, .option input")].filter((box) =>
    box.getBoundingClientRect().top > box.nextElementSibling.getBoundingClientRect().top + 12
).map((box) => box.id)"""
"""Boxes that do not stand at the first line of their label."""
UNNAMED_CELLS = """[...document.querySelectorAll(".draft td[data-label]:not(.rate)")].filter((cell) =>
    cell.offsetParent && getComputedStyle(cell, "::before").display === "none"
).map((cell) => cell.innerText)"""
"""Cells of a mailing that is not sent whose label a phone leaves out."""
CUT_NUMBERS = """[...document.querySelectorAll(".legend b, .readout b")].filter((number) =>
    number.offsetHeight > 1.9 * parseFloat(getComputedStyle(number).fontSize)
).map((number) => number.innerText)"""
"""Numbers that stand on two lines."""
BROKEN_TIMES = """[...document.querySelectorAll(".people time")].filter((time) =>
    time.offsetParent && (time.offsetHeight > 1.5 * parseFloat(getComputedStyle(time).lineHeight)
        || time.getBoundingClientRect().right > document.documentElement.clientWidth - 15)
).map((time) => time.innerText)"""
"""Times in tables about people that stand on two lines, or are cut off at the right."""
HEIGHT = "document.documentElement.scrollHeight"
OVERHANG = "document.documentElement.scrollWidth - document.documentElement.clientWidth"

COLOURS = ["color-contrast", "link-in-text-block"]
PLACES = ["scrollable-region-focusable", "target-size", "meta-viewport", "aria-hidden-focus"]
PARTS = 2
"""Number of tests among which the pages are shared, because all of them take a minute."""
LOOKS = (
    (1280, "light", None),
    (1280, "dark", COLOURS),
    (360, "dark", PLACES),
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


def wrong_on_a_phone(page: Page, name: str) -> Iterator[str]:
    """Yields what is too long, too wide or too low on a page, before its details are opened."""
    page.set_viewport_size(PHONE)
    if name in LEADING and (top := page.evaluate(FIRST_FIGURE)) > FIRST_FIGURE_PX:
        yield f"the first figure begins at {top} px"
    if name.startswith("recipients") and (page.evaluate(FIRST_NAME) or 0) > FIRST_NAME_PX:
        yield f"the first recipient begins at {page.evaluate(FIRST_NAME)} px"
    if (height := page.evaluate(HEIGHT)) > MAX_SCREENS * PHONE["height"]:
        yield f"{height} px high"
    yield from (f"a time smaller than its sentence: {time}" for time in page.evaluate(SMALL_TIMES))
    yield from (f"a time in two lines or cut off: {time}" for time in page.evaluate(BROKEN_TIMES))
    yield from (f"a name of more than three lines: {text}" for text in page.evaluate(LONG_NAMES))
    yield from (f"a cell without its label: {text}" for text in page.evaluate(UNNAMED_CELLS))
    yield from (f"a number on two lines: {text}" for text in page.evaluate(CUT_NUMBERS))
    yield from (f"a box below the first line of its label: {box}" for box in page.evaluate(LOW_TICKS))
    page.set_viewport_size({**PHONE, "width": NARROW})
    if (overhang := page.evaluate(OVERHANG)) > 0:
        yield f"{overhang} px too wide"
    if (overhang := page.evaluate(SIDE_OVERHANG)) > 0:
        yield f"a table of campaigns is {overhang} px too wide"


def wrongly_counted(text: str) -> Iterator[str]:
    """Yields each number that has no comma, and each "1" with a plural."""
    for pattern in (BAD_PLURAL, BAD_NUMBER):
        for match in pattern.finditer(text):
            yield f"wrongly counted: {text[max(0, match.start() - 30) : match.end() + 30]!r}"


def look(lookers: Lookers, filled: Filled, pages: Iterable[Shown]) -> list[str]:
    """Returns the findings on these pages, with all details open."""
    wrong = []
    for shown in pages:
        page = lookers.of(shown.who)
        filled.show(page, shown)
        if page.evaluate(REFUSAL_UNSEEN):
            wrong.append(f"{shown.name}: does not open where it says what was refused")
        wrong += [f"{shown.name} on a phone: {one}" for one in wrong_on_a_phone(page, shown.name)]
        page.evaluate(SHORTEN)
        for width, scheme, rules in LOOKS:
            page.set_viewport_size({"width": width, "height": 800})
            page.emulate_media(color_scheme=scheme)
            wrong += [f"{shown.name}, {width} px, {scheme}: {one}" for one in found(page, rules)]
        wrong += [f"{shown.name}: {one}" for one in wrongly_counted(page.evaluate(OWN_WORDS))]
    return wrong


@pytest.mark.parametrize("part", range(PARTS))
def test_pages_are_accessible_and_fit_a_phone(browser: Browser, part: int):
    size = -(-len(BUSY) // PARTS)
    with started() as filled:
        lookers = Lookers(browser, filled)
        wrong = look(lookers, filled, EMPTY if part == 0 else ())
        filled.fill()
        wrong += look(lookers, filled, BUSY[part * size : (part + 1) * size])
        if part == PARTS - 1:
            with filled.redis_away():
                wrong += look(lookers, filled, BROKEN)
        lookers.close()
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("html", "finding"),
    [
        ("<p class='big'>34%</p><p style='width: 500px'>Wide</p>", "px too wide"),
        ("<p class='big'>34%</p><p style='height: 9000px'>Long</p>", "px high"),
        ("<p style='height: 300px'>Low</p><p class='big'>34%</p>", "the first figure begins at"),
        (
            "<p class='big'>34%</p><table class='people'><td style='line-height: 20px'>"
            "<time style='display: block; width: 9em'>30 Nov 2026, 03:52:08 UTC</time></table>",
            "a time in two lines or cut off: 30 Nov",
        ),
    ],
)
def test_phone_check_finds_faults(browser: Browser, html: str, finding: str):
    page = browser.new_page()
    page.set_content(f"<!doctype html><meta name='viewport' content='width=device-width'>{html}")
    [wrong] = wrong_on_a_phone(page, "campaign-web")
    assert finding in wrong


@pytest.mark.parametrize(("attributes", "is_unseen"), [("", True), ("tabindex='-1' autofocus", False)])
def test_refusal_unseen_finds_a_page_that_opens_elsewhere(browser: Browser, attributes: str, is_unseen: bool):
    page = browser.new_page()
    page.set_content(f"<main><p style='height: 3000px'></p><div role='alert' {attributes}>No.</div></main>")
    if not is_unseen:
        page.locator("[role=alert]:focus").wait_for()
    assert page.evaluate(REFUSAL_UNSEEN) == is_unseen


@pytest.mark.parametrize(
    ("text", "is_wrong"),
    [
        ("1 recipients", True),
        ("1 more visits", True),
        ("at most 1100 days", True),
        ("11 recipients, 1 recipient, 2.1 views", False),
        ("1,100 days, 18 Nov 2026, 10:54, id a1234, 2026-05", False),
    ],
)
def test_wrongly_counted_finds_plurals_and_numbers(text: str, is_wrong: bool):
    assert bool(list(wrongly_counted(text))) == is_wrong


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
