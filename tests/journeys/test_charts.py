"""Charts and live figures in a real browser, with the policy of all pages and with JSON of the test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import sync_playwright

from tests.journeys import chart_page
from tests.journeys.chart_page import Site, stats
from tests.journeys.conftest import QUIET
from tests.stack import until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NOTES = [
    {"id": "a", "at": "2026-10-29T08:00:00Z", "text": "Mail sent"},
    {"id": "b", "at": "2026-11-16T23:30:00Z", "text": "Site moved"},
    {"id": "c", "at": "2026-11-17T08:00:00Z", "text": "\u202e<script>refused.push(1)</script>" + "w" * 180},
    {"id": "d", "at": "2026-12-24T08:00:00Z", "text": "Not in this range"},
]
COLOURS = """() => {
  const canvas = document.querySelector("canvas"), { width, height } = canvas;
  const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, width, height);
  const found = {};
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] < 255) continue;
    const name = "#" + [0, 1, 2].map((n) => data[i + n].toString(16).padStart(2, "0")).join("");
    found[name] = (found[name] || 0) + 1;
  }
  return found;
}"""
PLACES = """(colour, axis) => {
  const canvas = document.querySelector("canvas"), { width, height } = canvas;
  const box = canvas.getBoundingClientRect();
  const over = document.querySelector(".u-over").getBoundingClientRect();
  const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, width, height);
  const found = new Set(), rgb = [1, 3, 5].map((n) => parseInt(colour.slice(n, n + 2), 16));
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] < 255 || rgb.some((part, n) => data[i + n] !== part)) continue;
    const x = i / 4 % width - (over.left - box.left), y = Math.floor(i / 4 / width);
    if (x >= 0) found.add(axis === "x" ? Math.round(x) : y);
  }
  return [...found];
}"""
COLUMNS = f"colour => ({PLACES})(colour, 'x')"
ROWS = f"colour => ({PLACES})(colour, 'y')"
HIDE = """hidden => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
FILL, FIRST, SECOND = "#d9e6f4", "#7fa8d3", "#2563a8"


@pytest.fixture(scope="module")
def browser(headless: str) -> Iterator[Browser]:
    """Starts one server for all tests. Each test has its own browser context."""
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=headless, args=QUIET)
        yield made
        made.close()


@pytest.fixture
def site() -> Iterator[Site]:
    with chart_page.serve() as made:
        yield made


@pytest.fixture
def open_page(browser: Browser, site: Site) -> Iterator[Callable[..., Page]]:
    """Opens the page, in a zone far from the campaign's; at the end nothing may have gone wrong in it.

    spoils: the browser says of itself that a file could not be had.
    """
    pages: list[Page] = []
    wrong: list[str] = []
    spoilt: list[bool] = []

    def heard(text: str) -> None:
        if not (spoilt and text.startswith("Failed to load resource")):
            wrong.append(text)

    def open_page(*, clock: bool = False, spoils: bool = False, **options: Any) -> Page:
        options = {
            "viewport": {"width": 1056, "height": 640},
            "timezone_id": "America/Los_Angeles",
            **options,
        }
        page = browser.new_context(**options).new_page()
        pages.append(page)
        spoilt.extend([True] if spoils else [])
        page.on("console", lambda message: heard(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.add_init_script(chart_page.WATCH)
        if clock:
            page.clock.install()
        page.goto(site.address)
        return page

    yield open_page
    refused = [each for page in pages for each in page.evaluate("refused")]
    for page in pages:
        page.context.close()
    assert (refused, wrong) == ([], [])


def drawn(page: Page) -> Page:
    page.wait_for_selector("canvas[aria-label]")
    return page


def reload(page: Page) -> None:
    """Tells the chart to load again, as live figures do."""
    page.evaluate("document.querySelector('figure').dispatchEvent(new Event('reload'))")


def days(page: Page) -> str:
    """Returns the days that the title of the chart names."""
    return page.locator("figcaption .days").inner_text()


def readout(page: Page) -> str:
    """Returns the names and sums of the drawn series."""
    return " ".join(" ".join(page.locator(".readout .series:has(b)").all_inner_texts()).split())


def marks(page: Page) -> list[str]:
    """Returns the legend's words beside the series."""
    return [
        text
        for text in page.locator(".readout > span:not(:has(b)):visible").all_inner_texts()
        if text.strip()
    ]


def point(page: Page) -> str:
    """Returns the text beside the cursor."""
    return " ".join(page.locator(".point").inner_text().split())


def point_at(page: Page, share: float, **options: Any) -> None:
    """Moves the pointer to a share of the chart's width."""
    box = page.locator(".u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * share, box["y"] + 60, **options)


def drag(page: Page, start: float, end: float) -> None:
    point_at(page, start)
    page.mouse.down()
    point_at(page, end, steps=5)
    page.mouse.up()


def colours(page: Page) -> dict[str, int]:
    found: dict[str, int] = page.evaluate(COLOURS)
    return found


def test_chart_draws_and_reads_out_both_series(open_page: Callable[..., Page], site: Site):
    page = drawn(open_page())
    found = colours(page)
    assert found[FILL] > 1000
    assert found[FIRST] > 100
    assert found[SECOND] > 100
    canvas = page.get_by_role("img")
    label = canvas.get_attribute("aria-label") or ""
    assert label.startswith("Chart of opens and unique opens, 28 Oct 2026 to 26 Nov 2026, Europe/Berlin.")
    assert "Opens: 3,919 in total, at most 900 on Wed 28 Oct 2026" in label
    assert readout(page) == "Opens 3,919 Unique opens 2,434"
    point_at(page, 0.01)
    assert point(page) == "Wed 28 Oct 2026 Opens 900 Unique opens 562"
    assert marks(page) == ["not over yet"]
    point_at(page, 0.99)  # a day that is not over
    assert point(page) == "Thu 26 Nov 2026, so far Opens 49 Unique opens 30"
    box, over = page.locator(".point").bounding_box(), page.locator(".u-over").bounding_box()
    assert box is not None
    assert over is not None
    assert box["x"] + box["width"] <= over["x"] + over["width"], "beside the point, in the chart"
    page.mouse.move(0, 0)
    assert page.locator(".point").is_hidden()
    assert readout(page) == "Opens 3,919 Unique opens 2,434"
    assert page.evaluate("shifted") == []


def test_chart_web_campaign_draws_views(open_page: Callable[..., Page], site: Site):
    site.stats["series"] = [
        {"start": item["start"], "views": item["opens"], "visits": None} for item in site.stats["series"]
    ]
    page = open_page()
    assert page.wait_for_selector(".words:not(:empty)"), "the stats have no opens"
    labels = [["views", "Views"], ["visits", "Visits"]]
    page.evaluate("labels => document.querySelector('figure').dataset.series = labels", json.dumps(labels))
    reload(page)
    assert readout(drawn(page)) == "Views 3,919"
    labels[:] = [["views", "Visitors", False]]
    page.evaluate("labels => document.querySelector('figure').dataset.series = labels", json.dumps(labels))
    reload(page)
    page.wait_for_selector("canvas[aria-label^='Chart of visitors']")
    assert readout(page) == "Visitors", "the visitors of several days cannot be added up"
    assert "in total" not in (page.locator("canvas").get_attribute("aria-label") or "")


def test_chart_zoom_and_reset(open_page: Callable[..., Page], site: Site):
    page = drawn(open_page())
    whole = page.get_by_role("button", name="Whole range")
    assert whole.is_hidden()
    drag(page, 0.2, 0.5)
    page.mouse.move(0, 0)
    assert days(page) == "3 Nov to 11 Nov 2026"
    asked = site.count("/stats.json")
    site.stats = stats()
    reload(page)
    until(lambda: site.count("/stats.json") > asked)
    page.wait_for_timeout(100)
    assert days(page) == "3 Nov to 11 Nov 2026"  # new figures, the same range
    whole.click()
    assert readout(page) == "Opens 3,919 Unique opens 2,434"
    drag(page, 0.5, 0.51)  # a single interval is shown among others
    page.mouse.move(0, 0)
    assert days(page) == "10 Nov to 13 Nov 2026"
    page.locator(".u-over").dblclick()
    page.mouse.move(0, 0)
    assert readout(page) == "Opens 3,919 Unique opens 2,434"
    assert whole.is_hidden()
    assert page.evaluate("shifted") == []


def test_chart_notes_are_marks_with_text(open_page: Callable[..., Page], site: Site):
    site.stats = stats(notes=NOTES)
    page = drawn(open_page())
    marks = page.locator(".note button")
    until(lambda: marks.count() == 2)  # two of one day share theirs
    first, second = marks.all()
    texts = page.locator(".note .note-text")
    assert [each.is_visible() for each in texts.all()] == [False, False]
    assert first.get_attribute("aria-label") == "Note of 29 Oct 2026: Mail sent"
    first.hover()
    assert texts.nth(0).is_visible()
    assert texts.nth(0).inner_text() == "29 Oct 2026: Mail sent"
    page.mouse.move(0, 0)
    assert texts.nth(0).is_hidden()
    first.focus()
    page.keyboard.press("Tab")
    assert texts.nth(1).is_visible()
    # Half past eleven in UTC is the next day in Berlin.
    assert texts.nth(1).inner_text().startswith("17 Nov 2026: Site moved")
    assert "<script>" in texts.nth(1).inner_text()
    box, plot = texts.nth(1).bounding_box(), page.locator(".plot").bounding_box()
    assert box is not None
    assert plot is not None
    assert plot["x"] <= box["x"]
    assert box["x"] + box["width"] <= plot["x"] + plot["width"]
    day = page.locator(".u-over").bounding_box()
    at = second.bounding_box()
    assert day is not None
    assert at is not None
    assert (at["x"] + 12 - day["x"]) / day["width"] == pytest.approx(20 / 29, abs=0.01)


def test_chart_arrow_keys_show_and_announce_values(open_page: Callable[..., Page], site: Site):
    site.stats = stats(notes=NOTES)
    page = drawn(open_page())
    spoken = page.locator("[aria-live=polite]")
    page.keyboard.press("Tab")
    area = page.get_by_role("application", name="Values of the chart by day: move with the arrow keys")
    assert area.evaluate("node => node === document.activeElement")
    assert point(page) == "Thu 26 Nov 2026, so far Opens 49 Unique opens 30"
    assert spoken.inner_text() == "Thu 26 Nov 2026, so far, Opens 49, Unique opens 30"
    for key, shows in (
        ("ArrowLeft", "Wed 25 Nov 2026"),
        ("Home", "Wed 28 Oct 2026"),
        ("ArrowLeft", "Wed 28 Oct 2026"),
        ("ArrowRight", "Thu 29 Oct 2026"),
        ("End", "Thu 26 Nov 2026, so far"),
        ("ArrowRight", "Thu 26 Nov 2026, so far"),
    ):
        page.keyboard.press(key)
        assert spoken.inner_text().startswith(f"{shows}, Opens "), key
        assert point(page).startswith(f"{shows} Opens "), key
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert spoken.inner_text().endswith(", Note: Mail sent")
    page.keyboard.press("Enter")
    assert page.get_by_role("dialog", name="Notes").is_visible()
    page.keyboard.press("Escape")
    area.focus()
    page.keyboard.press("End")
    page.keyboard.press("Escape")
    assert page.locator(".point").is_hidden()
    assert spoken.inner_text() == ""
    page.keyboard.press("Home")
    page.keyboard.press("Shift+Tab")
    assert page.locator(".point").is_hidden(), "the focus has left the chart"


def test_chart_finger_shows_values(open_page: Callable[..., Page]):
    page = drawn(open_page(has_touch=True))
    box = page.locator(".u-over").bounding_box()
    assert box is not None

    def tapped() -> str:
        page.touchscreen.tap(box["x"] + 2, box["y"] + 60)  # a tap before the chart listens is lost
        return point(page)

    until(lambda: tapped().startswith("Wed 28 Oct 2026 Opens 900"))
    finger = page.context.new_cdp_session(page)
    for kind, share in (("touchStart", 0.1), ("touchMove", 0.5), ("touchMove", 0.99), ("touchEnd", None)):
        places = [] if share is None else [{"x": box["x"] + box["width"] * share, "y": box["y"] + 60}]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})
    until(lambda: point(page).startswith("Thu 26 Nov 2026, so far"))
    assert page.locator("[aria-live=polite]").inner_text().startswith("Thu 26 Nov 2026, so far")
    assert readout(page) == "Opens 3,919 Unique opens 2,434", "a finger does not zoom"


def test_chart_unknown_values_are_gaps(open_page: Callable[..., Page], site: Site):
    whole = colours(drawn(open_page()))
    for day in site.stats["series"][5:25]:
        day["opens"] = day["unique_opens"] = None
    site.stats["series"][15]["opens"] = 3
    page = drawn(open_page())
    found = colours(page)
    assert found[SECOND] < whole[SECOND] / 2
    assert found[FILL] < whole[FILL]
    point_at(page, 10 / 29)
    assert point(page) == "Sat 7 Nov 2026 Opens \u2013 Unique opens \u2013"
    point_at(page, 15 / 29)
    assert point(page) == "Thu 12 Nov 2026 Opens 3 Unique opens \u2013"


def test_chart_follows_the_colour_scheme(open_page: Callable[..., Page]):
    page = drawn(open_page(color_scheme="light"))
    assert SECOND in colours(page)
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(100)
    found = colours(page)
    assert {"#22374d", "#7fb2e8"} <= found.keys()
    assert SECOND not in found
    assert page.evaluate("document.getAnimations().length") == 0  # nothing moves by itself


def test_chart_fits_narrow_and_rotated_screens(open_page: Callable[..., Page], site: Site):
    site.stats = stats(notes=NOTES)
    page = drawn(open_page(viewport={"width": 360, "height": 640}))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator(".note button").nth(1).focus()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    height = page.locator("#below").bounding_box()
    drag(page, 0.2, 0.7)
    assert page.locator("#below").bounding_box() == height
    assert page.evaluate("shifted") == []
    page.set_viewport_size({"width": 640, "height": 360})
    page.wait_for_timeout(100)
    box = page.locator("canvas").bounding_box()
    assert box is not None
    assert 590 <= box["width"] <= 610
    page.set_viewport_size({"width": 360, "height": 640})
    page.wait_for_timeout(100)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_chart_each_interval_has_fitting_labels(open_page: Callable[..., Page], site: Site):
    page = drawn(open_page())
    chart = page.get_by_role("img")
    for days, interval, shows in (
        (3, "hour", "24 Nov 2026 to 26 Nov 2026"),
        (400, "day", "23 Oct 2025 to 26 Nov 2026"),
        (3, "15m", "24 Nov 2026 to 26 Nov 2026"),
        (1, "day", "26 Nov 2026 to 26 Nov 2026"),
    ):
        page.mouse.move(0, 0)
        site.stats = stats(days, interval=interval)
        reload(page)
        until(lambda shows=shows: f", {shows}, Europe" in (chart.get_attribute("aria-label") or ""))
        point_at(page, 0.3)
        assert ("00:00" in point(page)) == (interval != "day")
        assert SECOND in colours(page)


def test_chart_ends_now_with_a_dashed_line(open_page: Callable[..., Page], site: Site):
    """A day by hours at 11:54 in Berlin: twelve of 24 hours have begun, and hour 11 is running."""
    site.stats = stats(1, interval="hour")
    midnight = datetime(2026, 11, 26, tzinfo=ZoneInfo("Europe/Berlin"))
    site.stats["series"] = [
        {"start": (midnight + timedelta(hours=n)).isoformat(), "opens": 40, "unique_opens": 20}
        for n in range(24)
    ]
    page = drawn(open_page())
    assert readout(page) == "Opens 480 Unique opens 240", "twelve hours"
    point_at(page, 11.5 / 24)
    assert point(page) == "Thu 26 Nov 2026, 11:00, so far Opens 40 Unique opens 20"
    point_at(page, 16.5 / 24)
    assert point(page) == "Thu 26 Nov 2026, 16:00, not yet Opens \u2013 Unique opens \u2013"
    page.mouse.move(0, 0)
    columns = page.evaluate(COLUMNS, SECOND)
    width = page.locator(".u-over").evaluate("node => node.clientWidth")
    hour = width / 24
    assert max(columns) == pytest.approx(11.9 * hour, abs=8), "no line after now"
    last = [at for at in columns if at > 11 * hour + 2]
    assert 0.3 * hour < len(last) < 0.75 * hour, "dashed in the running hour"
    assert len([at for at in columns if 1 <= at < 11 * hour]) == pytest.approx(11 * hour, abs=4), (
        "a whole line"
    )


def test_chart_by_hours_begins_with_sending_in_steps(open_page: Callable[..., Page], site: Site):
    """Sent at 08:30 in Berlin: no line before, and a level line in each hour."""
    site.stats = stats(1, interval="hour")
    midnight = datetime(2026, 11, 25, tzinfo=ZoneInfo("Europe/Berlin"))
    site.stats["series"] = [
        {"start": (midnight + timedelta(hours=n)).isoformat(), "opens": opens, "unique_opens": opens // 2}
        for n, opens in enumerate([0] * 8 + [40, 20] + [0] * 14)
    ]
    page = drawn(open_page())
    sent = (midnight + timedelta(hours=8.5)).timestamp()
    page.evaluate("(at) => { document.querySelector('figure').dataset.begins = at }", sent)
    reload(page)
    hour = page.locator(".u-over").evaluate("node => node.clientWidth") / 24
    until(lambda: min(page.evaluate(COLUMNS, SECOND)) == pytest.approx(8.5 * hour, abs=3))
    point_at(page, 4.5 / 24)
    assert point(page) == "Wed 25 Nov 2026, 04:00 Opens \u2013 Unique opens \u2013"
    point_at(page, 8.75 / 24)
    assert point(page) == "Wed 25 Nov 2026, 08:30 to 09:00 Opens 40 Unique opens 20"
    assert marks(page) == ["First bar: 08:30 to 09:00 only"]


def test_chart_of_a_mailing_draws_days_as_steps(open_page: Callable[..., Page], site: Site):
    """Lines of three days end at the start of the third day, steps at its end."""
    days = [datetime(2026, 11, day, tzinfo=UTC).isoformat() for day in (20, 21, 22)]
    series = [{"start": at, "opens": 10, "unique_opens": 10} for at in days]
    site.stats = stats(series=series)
    page = drawn(open_page())

    def pointed() -> str:
        if page.locator(".u-over").bounding_box() is None:
            return ""  # while the chart is drawn anew
        point_at(page, 0.9)
        point_at(page, 0.3)
        return point(page)

    until(lambda: pointed().startswith("Sat 21 Nov 2026"))
    page.evaluate("document.querySelector('figure').dataset.steps = ''")
    site.stats = stats(zone="UTC", series=series)  # with another zone, the chart is drawn anew
    reload(page)
    until(lambda: pointed().startswith("Fri 20 Nov 2026"))


def test_chart_of_one_day_draws_a_step_and_names_no_other_day(open_page: Callable[..., Page], site: Site):
    site.stats = stats(1)
    page = drawn(open_page())
    width = page.locator(".u-over").evaluate("node => node.clientWidth")
    until(lambda: min(page.evaluate(COLUMNS, SECOND)) == pytest.approx(0, abs=3))
    assert max(page.evaluate(COLUMNS, SECOND)) > width / 4, "a level line up to now"
    page.evaluate(
        """() => {
            const { fillText } = CanvasRenderingContext2D.prototype
            window.written = []
            CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
                window.written.push(text)
                fillText.call(this, text, ...place)
            }
        }"""
    )
    page.set_viewport_size({"width": 900, "height": 700})  # draws the chart again
    until(lambda: "26 Nov" in page.evaluate("written"))
    assert "27 Nov" not in page.evaluate("written")


def test_chart_since_sending_draws_days_per_hour(open_page: Callable[..., Page], site: Site):
    """Sent 70 hours ago: 48 hours with ten opens each, then a day so far with as many opens an hour."""
    sent = datetime(2026, 11, 23, 12, 45, tzinfo=UTC)
    starts = [sent + timedelta(hours=n) for n in range(49)]
    site.stats = stats(
        interval="hour_then_day",
        series=[{"start": at.isoformat(), "opens": 10, "unique_opens": 5} for at in starts[:48]]
        + [{"start": starts[48].isoformat(), "opens": 240, "unique_opens": 120}],
        notes=[{"id": "a", "at": "2026-11-25T20:00:00Z", "text": "Reminder"}],
    )
    page = drawn(open_page())
    assert readout(page) == "Opens 720 Unique opens 360"
    point_at(page, 0.5 / 72)
    assert point(page) == "Mon 23 Nov 2026, 13:45 to 14:45 Opens 10 Unique opens 5"
    point_at(page, 0.9)
    assert point(page) == (
        "Wed 25 Nov 2026, 13:45 to Thu 26 Nov 2026, 13:45, so far Opens 240 Unique opens 120 Reminder"
    )
    page.mouse.move(0, 0)
    columns, width = page.evaluate(COLUMNS, SECOND), page.locator(".u-over").evaluate("e => e.clientWidth")
    assert max(columns) == pytest.approx(70.16 / 72 * width, abs=8), "up to now"
    heights = page.evaluate(ROWS, SECOND)
    assert len(heights) <= 4, f"one level, as each hour had as many opens: {heights}"
    assert marks(page) == ["not over yet"]
    drag(page, 0.1, 0.3)
    page.mouse.move(0, 0)
    assert page.get_by_role("button", name="Whole range").is_visible()
    assert marks(page) == [], "nothing is dashed in the visible range"
    page.get_by_role("button", name="Whole range").click()
    assert readout(page) == "Opens 720 Unique opens 360"
    assert marks(page) == ["not over yet"]
    assert page.get_by_role("button", name="Whole range").is_hidden()


def test_chart_unknown_time_zone_uses_utc(open_page: Callable[..., Page], site: Site):
    site.stats["time_zone"] = "Nowhere/Land"
    label = drawn(open_page()).get_by_role("img").get_attribute("aria-label") or ""
    assert "27 Oct 2026 to 25 Nov 2026, UTC" in label


FAILED = "The chart could not be loaded. The numbers are in the table below."
UNKNOWN = stats()
for _day in UNKNOWN["series"]:
    _day["opens"] = _day["unique_opens"] = None
NONE = stats()
for _day in NONE["series"]:
    _day["opens"] = _day["unique_opens"] = 0


def test_chart_bad_answer_shows_a_message(open_page: Callable[..., Page], site: Site):
    site.stats = 500
    page = open_page(spoils=True)
    words = page.locator(".words")

    def says(answer: Any, text: str) -> None:
        site.stats = answer
        reload(page)
        until(lambda: words.inner_text() == text)

    until(lambda: words.inner_text() == FAILED)
    for bad in (503, {"series": "x"}, [], None):
        says(UNKNOWN, "No longer stored for this range.")
        says(bad, FAILED)
    says(stats(series=[]), "There is no data in this range.")
    assert page.locator("canvas").count() == 0
    page.locator("summary").click()
    assert page.locator("table").is_visible()
    page.locator("summary").click()
    page.evaluate("shifted.length = 0")  # the table opened and closed

    says(NONE, "No opens in this range.")
    assert "Opens: none." in (page.get_by_role("img").get_attribute("aria-label") or "")
    says({**stats(), "notes": [{}], "as_of": None}, "")
    assert SECOND in colours(page)
    says(500, "")  # what was drawn stays
    assert SECOND in colours(page)
    assert page.evaluate("shifted") == []


def test_live_page_events_update_figures(open_page: Callable[..., Page], site: Site):
    page = drawn(open_page(clock=True))
    opens = page.locator("[data-figure='totals.opens']")
    until(lambda: opens.inner_text() == "1")
    assert page.locator("main").get_attribute("data-state") == "live"
    assert page.locator(".fresh").inner_text() == "Every hit before now is counted. Updates by itself."
    assert page.locator("time").get_attribute("datetime") == "2026-11-26T10:54:21.120Z"
    until(lambda: site.count("/stats.json") == 2)  # the first change: the chart goes on at once
    for number in range(2, 6):
        site.figures = {"totals.opens": f"{number}", "as_of": f"at {number}"}
        site.tell("figures", site.told())
        until(lambda wanted=f"{number}": opens.inner_text() == wanted)
    assert page.locator("[data-figure='totals.unique_opens']").inner_text() == "1"  # nothing was said of it
    assert page.locator("time").inner_text() == "at 5"
    assert site.count("/stats.json") == 2  # the chart not more often than every 10 s
    page.clock.fast_forward(10_000)
    until(lambda: site.count("/stats.json") == 3)
    assert site.count("/figures.json") == 0
    spoken = page.locator("p[role=status].hidden")
    assert spoken.inner_text() == ""  # of figures it speaks every half minute at most
    site.figures = {"totals.opens": "6", "as_of": "at 6"}
    page.clock.fast_forward(31_000)
    site.tell("figures", site.told())
    until(
        lambda: (
            spoken.inner_text()
            == "Figures have changed. Every hit before at 6 is counted. Updates by itself."
        )
    )


def test_live_page_failures_are_shown(open_page: Callable[..., Page], site: Site):
    page = drawn(open_page(clock=True))
    main = page.locator("main")
    until(lambda: main.get_attribute("data-state") == "live")
    site.tell("away", {})
    until(lambda: main.get_attribute("data-state") == "away")
    assert "Redis does not answer" in page.locator("p[role=status].hidden").inner_text()
    site.tell("figures", site.told())
    until(lambda: main.get_attribute("data-state") == "live")
    site.tell("end", {"why": "again"})
    until(lambda: site.count("/live") == 2)
    page.evaluate("dispatchEvent(new Event('online'))")
    until(lambda: site.heard == 3)
    site.tell("end", {"why": "revoked"})
    until(lambda: main.get_attribute("data-state") == "revoked")
    assert "You are signed out" in page.locator(".fresh").inner_text()
    page.clock.fast_forward(60_000)
    page.evaluate(HIDE, False)
    page.wait_for_timeout(100)
    assert (site.count("/live"), site.count("/figures.json")) == (3, 0)


def test_live_page_without_events_polls(open_page: Callable[..., Page], site: Site):
    site.streams = 503
    page = drawn(open_page(clock=True, spoils=True))
    opens = page.locator("[data-figure='totals.opens']")
    assert opens.inner_text() == "0"
    page.clock.fast_forward(2000)
    until(lambda: opens.inner_text() == "1")
    assert page.locator("main").get_attribute("data-state") == "live"

    page.evaluate(HIDE, True)
    asked = site.count("/figures.json")
    page.clock.fast_forward(50_000)
    page.wait_for_timeout(100)
    assert site.count("/figures.json") == asked
    page.clock.fast_forward(12_000)
    until(lambda: site.count("/figures.json") == asked + 1)  # once a minute, for the title
    page.evaluate(HIDE, False)
    site.figures = 503
    page.clock.fast_forward(2000)
    until(lambda: page.locator("main").get_attribute("data-state") == "away")
    site.figures = {"totals.opens": "7", "as_of": "later"}
    page.clock.fast_forward(2000)
    until(lambda: opens.inner_text() == "7")

    site.streams, tried = 200, site.count("/live")
    page.clock.fast_forward(30_000)  # and now and then it tries events again
    until(lambda: site.count("/live") == tried + 1)
    until(lambda: site.tabs)
    site.streams = site.figures = 401
    page.evaluate(HIDE, True)
    until(lambda: not site.tabs)  # a hidden tab holds no connection
    page.evaluate(HIDE, False)
    page.clock.fast_forward(2000)
    until(lambda: page.locator("main").get_attribute("data-state") == "revoked")


def test_live_page_hidden_counts_opens_in_its_title(open_page: Callable[..., Page], site: Site):
    page = open_page(clock=True)
    opens = page.locator("[data-figure='totals.opens']")
    until(lambda: opens.inner_text() == "1")
    assert page.title() == "A page"
    page.evaluate(HIDE, True)
    until(lambda: not site.tabs)
    for count, title in (("4", "(3) A page"), ("1,300", "(1,299) A page"), ("\u2013", "(1,299) A page")):
        site.figures = {"totals.opens": count, "as_of": "later"}
        asked = site.count("/figures.json")
        page.clock.fast_forward(62_000)
        until(lambda asked=asked: site.count("/figures.json") > asked)
        until(lambda title=title: page.title() == title)
    site.figures = {"totals.opens": "1,300", "as_of": "later"}
    page.evaluate(HIDE, False)
    assert page.title() == "A page"
    until(lambda: opens.inner_text() == "1,300")
    assert page.title() == "A page"
    page.evaluate(HIDE, True)
    site.figures = {"totals.opens": "1,302", "as_of": "later"}
    page.clock.fast_forward(62_000)
    until(lambda: page.title() == "(2) A page")


def test_live_page_silent_events_fall_back_to_polling(open_page: Callable[..., Page], site: Site):
    page = open_page(clock=True)
    until(lambda: site.tabs)
    until(lambda: page.locator("main").get_attribute("data-state") == "live")
    site.figures = {"totals.opens": "9", "as_of": "later"}
    page.clock.fast_forward(30_000)  # the server would have said something
    until(lambda: page.locator("[data-figure='totals.opens']").inner_text() == "9")
    assert site.count("/figures.json") >= 1
