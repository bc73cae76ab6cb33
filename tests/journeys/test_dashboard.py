"""The dashboard in a browser: on phone and desktop, light and dark, with and without JavaScript."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.stack import READER, Stack, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAME = "\u202e<script>document.title = 'evil'</script>" + "W" * 150
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture(scope="module")
def busy() -> Iterator[Stack]:
    """Starts a stack with a mail that one of four opened, and a web site with hostile names."""
    stack = Stack(Path(tempfile.mkdtemp(prefix="px-")))
    stack.start()
    stack.run("campaign", "create", "spring", "--sent", "4", "--name", "Spring catalogue")
    assert stack.call("POST", "/api/campaigns", {"id": "site", "name": NAME, "kind": "web"})[0] == 201
    link = stack.run("link", "spring", "ada@example.org").stdout.strip()
    assert stack.get(link) == (200, "recorded")
    page = f"https%3A%2F%2Fa.example%2F{'q' * 300}%3Futm_source%3D%3Cscript%3Ealert(1)%3C%2Fscript%3E"
    until(lambda: stack.get(f"/p/site.gif?u={page}", **{"User-Agent": FIREFOX})[1] == "recorded")
    until(lambda: stack.totals("spring")["opens"] == 1 and stack.totals("site")["views"] == 1)
    yield stack
    stack.stop()
    shutil.rmtree(stack.data)
    stack.log.unlink()


@contextmanager
def looking(browser: Browser, stack: Stack, width: int, scheme: str, script: bool = True) -> Iterator[Page]:
    """Opens a page. Fails if the browser reports an error, or if the page requests another host."""
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=script
    )
    page, wrong = context.new_page(), []
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda asked: None if asked.url.startswith(stack.address) else wrong.append(f"asks {asked.url}"),
    )
    yield page
    context.close()
    assert wrong == []


def sign_in(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.address}/")
    page.get_by_label("API key").fill(stack.key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{stack.address}/")


FITS = """() => {
    const wide = () => document.documentElement.scrollWidth > document.documentElement.clientWidth
    const wrong = wide() ? ["the page"] : []
    for (const word of document.querySelectorAll(".def")) {
        if (!word.checkVisibility()) continue
        word.focus()
        word.scrollIntoView({ block: "center" })
        const tip = word.querySelector(".tip"), { left, width, top, height } = tip.getBoundingClientRect()
        for (const part of [0.1, 0.5, 0.9])
            if (document.elementFromPoint(left + part * width, top + part * height) !== tip)
                wrong.push("covered or cut: " + word.textContent)
        if (wide()) wrong.push("too wide: " + word.textContent)
    }
    return wrong
}"""


def assert_fits(page: Page) -> None:
    """Checks that nothing is cut off at the right, also while a definition is shown."""
    page.wait_for_selector("main", state="attached")  # a page that is still loading may have no element
    assert page.evaluate(FITS) == [], page.url


@pytest.mark.parametrize("width", [360, 1280])
def test_dashboard_pages_fit_each_width_and_scheme(busy: Stack, browser: Browser, width: int):
    for scheme in ("light", "dark"):
        with looking(browser, busy, width, scheme) as page:
            sign_in(page, busy)
            assert_fits(page)
            back = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (back == "rgb(255, 255, 255)") == (scheme == "light")
            page.get_by_role("link", name="Spring catalogue").click()
            page.wait_for_url("**/campaigns/spring")
            assert "25.0%" in page.locator(".big").inner_text()
            assert_fits(page)
            page.get_by_text("Table").click()
            until(lambda: page.get_by_role("table").first.get_by_role("row").count() == 31)
            page.get_by_role("link", name="Recipients").click()
            until(lambda: page.locator("tbody tr").count() == 1)
            assert_fits(page)
            page.goto(f"{busy.address}/campaigns/site")
            assert "evil" not in page.title().partition("<script>")[0]
            assert_fits(page)
            page.goto(f"{busy.address}/compare?id=spring&id=site")
            assert_fits(page)
            page.get_by_role("button", name="Sign out").click()
            page.wait_for_url("**/sign-in")
            page.goto(f"{busy.address}/campaigns/spring")
            assert "/sign-in" in page.url


def test_dashboard_print_shows_whole_tables_without_controls(busy: Stack, browser: Browser):
    with looking(browser, busy, 720, "light") as page:
        sign_in(page, busy)
        page.goto(f"{busy.address}/campaigns/spring")
        page.get_by_text("Table").click()
        table = page.get_by_role("region", name="Table")
        is_cut = "(one) => one.scrollHeight > one.clientHeight"
        assert table.evaluate(is_cut)
        page.emulate_media(media="print")
        assert not table.evaluate(is_cut)
        assert page.locator("a:visible, button:visible, input:visible").all_inner_texts() == ["pixel-server"]


def test_dashboard_without_javascript_is_complete(busy: Stack, browser: Browser):
    with looking(browser, busy, 360, "light", script=False) as page:
        page.goto(busy.run("sign-in").stdout.strip())
        assert page.url == f"{busy.address}/"
        page.get_by_label("Search by name or id").fill("spring")
        page.get_by_label("Search by name or id").press("Enter")
        until(lambda: page.get_by_role("link", name="Spring catalogue").count() == 1)
        until(lambda: page.locator("tbody tr").count() == 1)
        page.get_by_role("link", name="Spring catalogue").click()
        for width in (1280, 360):
            page.set_viewport_size({"width": width, "height": 800})
            picture, below = (page.locator(name).bounding_box() for name in ("svg.still", ".chart summary"))
            assert picture["height"] > 100
            assert below["y"] >= picture["y"] + picture["height"], "nothing lies on the picture"
        page.get_by_role("link", name="7 days", exact=True).click()
        assert re.search(r"from=\d{4}-\d\d-\d\d&until=", page.url)
        page.get_by_text("Custom", exact=True).click()
        page.get_by_label("by").select_option("hour")
        page.get_by_role("button", name="Show").click()
        page.get_by_role("heading", name="Opens per hour").wait_for()
        page.get_by_role("link", name="Today", exact=True).click()
        page.get_by_role("heading", name="Opens per hour").wait_for()
        assert page.locator('.presets [aria-current="true"]').inner_text() == "Today"
        with page.expect_download() as download:
            page.goto(f"{busy.address}/campaigns/spring/recipients?state=person")
            page.get_by_role("link", name="CSV").click()
        assert download.value.suggested_filename == "spring-person.csv"
        # Read to its end: to close the browser meanwhile is to wait for ever, now and then.
        assert download.value.path().read_text().startswith("key,recipient,")


def test_dashboard_notes_are_added_and_changed_in_the_chart(busy: Stack, browser: Browser):
    with looking(browser, busy, 1280, "light") as page:
        sign_in(page, busy)
        page.goto(f"{busy.address}/campaigns/spring")
        page.locator("canvas[aria-label]").wait_for()
        over = page.locator(".u-over")
        box = over.bounding_box()
        assert box is not None
        over.hover(position={"x": box["width"] / 2, "y": 40})
        assert "Click to add a note" in page.locator(".point").inner_text()
        over.click(position={"x": box["width"] / 2, "y": 40})
        panel = page.get_by_role("dialog", name="Notes")
        panel.get_by_label("Note").fill("<b>Reminder</b>")
        panel.get_by_role("button", name="Save").click()
        page.wait_for_url("**done=noted*")
        mark = page.locator(".note button")
        mark.focus()
        page.keyboard.press("Enter")
        assert "<b>Reminder</b>" in panel.inner_text()
        page.keyboard.press("Escape")
        assert panel.is_hidden()
        assert mark.evaluate("node => node === document.activeElement"), "back where the keyboard was"
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")  # opens "Edit", which has the focus
        note = panel.get_by_label("Note").first
        day = panel.get_by_label("Day").first.input_value()
        note.fill("Moved")
        page.keyboard.press("Enter")
        page.wait_for_url("**done=noted*")
        page.locator("canvas[aria-label]").wait_for()
        assert "Moved" in (page.locator(".note button").get_attribute("aria-label") or "")
        assert page.locator(".notes time").first.get_attribute("datetime").startswith(day)
        mark.click()
        panel.get_by_text("Edit").click()
        panel.get_by_role("button", name="Remove the note Moved").click()
        page.wait_for_url("**done=removed*")
        assert page.locator(".notes li").count() == 0


def test_dashboard_revoked_key_ends_the_session(busy: Stack, browser: Browser):
    key = busy.run("key", "create", "for a while", "--scope", "read", "--json").stdout
    name = re.search(r'"id": "(\w+)"', key)
    made = re.search(r'"key": "([\w-]+)"', key)
    assert name is not None
    assert made is not None
    with looking(browser, busy, 1280, "light") as page:
        page.goto(f"{busy.address}/sign-in")
        page.get_by_label("API key").fill(made[1])
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("link", name="Spring catalogue").click()
        assert page.get_by_role("link", name="Recipients").count() == 0
        busy.run("key", "revoke", name[1])
        page.get_by_role("link", name="7 days", exact=True).click()
        assert "/sign-in" in page.url
    assert busy.get("/campaigns/spring", **{"User-Agent": READER})[0] == 200  # the sign-in page, by way of it


def test_dashboard_ticked_campaigns_are_compared(busy: Stack, browser: Browser):
    an_hour_ago = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for name in ("first", "second"):
        busy.run("campaign", "create", name, "--sent", "4", "--sent-at", an_hour_ago, "--tag", "compared")
    listed = busy.run("campaign", "list", "--tag", "Compared").stdout
    assert [line.split()[0] for line in listed.splitlines()] == ["first", "second"]
    with looking(browser, busy, 360, "dark") as page:
        sign_in(page, busy)
        page.get_by_role("link", name="compared").first.click()
        for name in ("first", "second"):
            page.get_by_role("checkbox", name=f"Compare {name}").check()
        bar = page.locator(".comparing")
        selected = "(bar) => getComputedStyle(bar.querySelector('.picked'), '::before').content"
        assert bar.evaluate(selected) == 'counter(picked) " selected"'
        assert bar.evaluate("(bar) => getComputedStyle(bar).position") == "sticky"
        assert_fits(page)
        bar.get_by_role("button", name="Compare").click()
        page.get_by_role("img", name="Curves of ").wait_for()
        chart = page.locator(".curves .plot")
        chart.locator(".u-over").hover()
        chart.get_by_text("after sending").wait_for()
        chart.get_by_role("application", name="Values of the curves").focus()
        page.keyboard.press("Home")
        chart.locator("b", has_text="0 min after sending").wait_for()
        said = chart.locator("[aria-live]").inner_text()
        assert re.fullmatch(r"0 min after sending, (first 0.0%, second|second 0.0%, first) 0.0%", said), said
        assert sorted(chart.locator(".values bdi").all_inner_texts()) == ["first", "second"]
        assert_fits(page)
    with looking(browser, busy, 1280, "light", script=False) as page:
        page.goto(busy.run("sign-in").stdout.strip())
        page.goto(f"{busy.address}/compare?id=first&id=second")
        assert page.get_by_role("region", name="Opened by people since sending").is_visible()
        assert page.locator(".swatch:visible").count() == 0, "no chart, so no colours of its curves"
