"""A person creates a campaign, gets its pixel, and creates and revokes a key, with mouse and keyboard."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from secrets import token_hex
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from pixel_server.dashboard.campaign_form import WEB_MODES
from pixel_server.slug import from_name
from tests.journeys.test_dashboard import assert_fits, looking, sign_in
from tests.stack import Stack, running, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

NAMES = (
    *("Spring", "Große Frühjahrs-Post '26!", "-- Ça va? --", "ﬁne ½ Ǆ", "İstanbul", "春の便り", "W" * 200),
    *("a" * 62 + " b", "\U0001f600 x"),
)
FOCUSED = "document.activeElement.id"


@pytest.fixture(scope="module")
def stack_of_forms() -> Iterator[Stack]:
    with running(Stack) as stack:
        yield stack


def says(page: Page) -> str:
    """Returns the success message of the page."""
    text = page.locator("main .done").inner_text()
    assert_fits(page)
    return text


def arrives(page: Page, text: str) -> None:
    """Waits for a page with this text, and checks its layout."""
    page.locator("main").get_by_text(text).first.wait_for()
    page.wait_for_load_state()
    assert_fits(page)


@pytest.mark.parametrize(("width", "scheme", "script"), [(1280, "light", True), (360, "dark", False)])
def test_forms_campaign_key_and_recipient_from_create_to_delete(
    stack_of_forms: Stack, browser: Browser, width: int, scheme: str, script: bool
):
    stack, name = stack_of_forms, f"{'desk' if script else 'phone'}-{token_hex(3)}"  # new for each run
    with looking(browser, stack, width, scheme, script) as page:
        sign_in(page, stack)
        page.get_by_role("link", name="New campaign").click()
        assert_fits(page)
        assert page.get_by_label("Sent", exact=True).is_visible()
        assert page.get_by_label("Sent at").is_hidden()
        page.get_by_text("More: id,").click()
        assert page.get_by_label("Origins").is_hidden()
        page.locator("#kind-web").check()
        assert page.get_by_label("Sent", exact=True).is_hidden()
        assert page.get_by_label("Origins").is_visible()
        told = page.get_by_role("radio", name="pseudonymous").locator("..").inner_text()
        assert told.split("\n")[-1] == WEB_MODES["pseudonymous"]
        assert page.get_by_role("radio", name="last").count() == 0
        assert page.get_by_role("radio", name="Yes, with addresses").count() == 0
        page.locator("#kind-email").check()
        assert page.get_by_text("ada@example.org opened 2 times").is_visible()
        page.get_by_role("radio", name="No, only keys").check()
        page.get_by_label("Name", exact=True).fill(f"News for the {name}")
        assert page.get_by_label("Id", exact=True).input_value() == (f"news-for-the-{name}" if script else "")
        page.get_by_label("Id", exact=True).fill(name)
        page.get_by_label("Sent", exact=True).fill("20")
        page.get_by_label("Sent at").fill("2026-11-24T09:30")
        page.get_by_label("Time zone").fill("Europe/Berlin")
        page.get_by_role("button", name="Create campaign").click()
        assert says(page) == "The campaign was created."

        page.get_by_label("Recipient", exact=True).fill(f"{name}@example.org")
        page.get_by_role("button", name="Create pixel").click()
        arrives(page, "Pixel for")
        tag = page.get_by_role("textbox", name="Image tag").input_value()
        until(lambda: page.get_by_role("button", name="Copy: Image tag").count() == int(script))
        if script:
            page.context.grant_permissions(["clipboard-read", "clipboard-write"])
            page.get_by_role("button", name="Copy: Image tag").click()
            page.get_by_role("status").get_by_text("Copied").wait_for()
            assert page.evaluate("navigator.clipboard.readText()") == tag
        url = tag.partition('src="')[2].partition('"')[0]
        assert stack.get(url) == (200, "recorded")
        until(lambda: stack.totals(name)["opens"] == 1)

        page.get_by_role("link", name="Edit", exact=True).click()
        arrives(page, "Retention")
        assert page.get_by_label("Time zone").count() == 0, "fixed after the first hit"
        assert page.get_by_role("radio", name="identified").is_disabled()
        assert page.get_by_label("Sent at").input_value() == "2026-11-24T09:30"
        page.get_by_label("Bounced").fill("2")
        page.get_by_role("button", name="Save").click()
        assert says(page) == "Saved."
        campaign = stack.call("GET", f"/api/campaigns/{name}")[1]
        assert (campaign["sent"], campaign["bounced"]) == (20, 2)
        assert campaign["sent_at"] == "2026-11-24T08:30:00Z"

        page.get_by_role("link", name="Settings").click()
        page.get_by_role("link", name="API keys").click()
        page.get_by_label("Name", exact=True).fill(f"program of {name}")
        page.get_by_role("radio", name="Only shared figures").check()
        assert page.get_by_role("checkbox", name="people").is_hidden()
        assert page.get_by_role("checkbox", name=f"News for the {name}").is_visible()
        page.get_by_role("radio", name="This whole server").check()
        page.get_by_role("checkbox", name="people").check()
        page.get_by_role("button", name="Create key").click()
        arrives(page, "Copy the key now")
        key = page.get_by_role("textbox", name="Copy the key now").input_value()
        own, stack.key = stack.key, key
        assert stack.call("GET", "/api/withdrawals")[0] == 200
        page.get_by_role("link", name=f"Revoke program of {name}").click()
        page.get_by_role("button", name="Revoke").click()
        assert says(page) == "The API key was revoked."
        assert stack.call("GET", "/api/withdrawals")[0] == 401
        stack.key = own

        page.get_by_role("link", name="Withdrawals").click()
        page.get_by_label("Stop recording").fill(f"{name}@example.org\nbob@example.org")
        page.get_by_role("button", name="Stop recording").click()
        assert says(page) == "No longer recorded: 2."
        page.get_by_role("link", name="Find a recipient").click()
        page.get_by_label("Or a link from the person\u2019s mail").fill(url)
        page.get_by_role("button", name="Find").click()
        arrives(page, "By campaign")
        until(
            lambda: page.get_by_role("region", name="By campaign").get_by_role("link", name=name).count() == 1
        )
        page.get_by_role("link", name="Erase this recipient").click()
        page.get_by_role("button", name="Erase permanently").click()
        assert says(page) == "Erased in all campaigns, and no longer recorded."
        page.get_by_role("link", name="Stored data").click()
        arrives(page, "Settings of this server")
        page.get_by_role("link", name="Audit log").click()
        arrives(page, "newest first")
        assert page.get_by_text("recipient erased").first.is_visible()

        page.goto(f"{stack.address}/campaigns/{name}/edit")
        page.get_by_role("radio", name="No, only numbers").check()
        page.get_by_role("button", name="Save").click()
        arrives(page, "These changes lose something for good")
        page.get_by_role("button", name="Back to the form").click()
        assert page.get_by_role("radio", name="No, only numbers").is_checked()
        page.get_by_role("button", name="Save").click()
        arrives(page, "These changes lose something for good")
        page.get_by_role("button", name="Save").click()
        assert says(page) == "Saved."
        page.get_by_role("link", name="Delete this campaign").click()
        page.get_by_label("To confirm, type the id").fill(name)
        page.get_by_role("button", name="Delete permanently").click()
        assert "were deleted" in says(page)
        assert stack.call("GET", f"/api/campaigns/{name}")[0] == 404


def test_new_campaign_id_follows_the_name_until_edited(stack_of_forms: Stack, browser: Browser):
    page = browser.new_page()
    sign_in(page, stack_of_forms)
    page.goto(f"{stack_of_forms.address}/new")
    name, made = page.get_by_label("Name", exact=True), page.get_by_label("Id", exact=True)
    page.get_by_text("More: id,").click()
    for text in NAMES:
        name.fill(text)
        assert made.input_value() == from_name(text)
    made.fill("mine")
    name.fill("Another")
    assert made.input_value() == "mine"
    made.fill("")
    name.fill("Another one")
    assert made.input_value() == "another-one"
    page.get_by_label("Sent", exact=True).fill("many")
    page.get_by_role("radio", name="No, only keys").check()
    page.get_by_role("button", name="Create campaign").click()
    page.get_by_role("alert").wait_for()
    name.fill("A third")
    assert made.input_value() == "a-third", "a form that was refused goes on so"
    page.context.close()


@pytest.mark.parametrize("script", [True, False])
def test_new_mailing_needs_an_answer_or_a_preset(stack_of_forms: Stack, browser: Browser, script: bool):
    stack, preset = stack_of_forms, f"preset-{script}".lower()
    page = browser.new_context(viewport={"width": 360, "height": 800}, java_script_enabled=script).new_page()
    sign_in(page, stack)
    page.goto(f"{stack.address}/new")
    name, create = page.get_by_label("Name", exact=True), page.get_by_role("button", name="Create campaign")
    name.fill(preset)
    create.click()
    if script:
        assert page.evaluate(FOCUSED) == "mode-identified", "the browser shows its message there"
    else:
        page.get_by_role("alert").get_by_role("link", name="Do you want to see who opened?").click()
        assert page.locator(":target").get_attribute("id") == "mode-identified"
    page.get_by_text("More: id,").click()
    page.get_by_label("Preset").select_option("aggregate")
    create.click()
    arrives(page, "The campaign was created.")
    assert stack.call("GET", f"/api/campaigns/{preset}")[1]["mode"] == "count"
    page.goto(f"{stack.address}/new")
    page.locator("#kind-web").check()
    name.fill(f"site-{script}")
    create.click()
    arrives(page, "The campaign was created.")
    page.context.close()


def test_forms_errors_are_reachable_by_keyboard(stack_of_forms: Stack, browser: Browser):
    context = browser.new_context(viewport={"width": 360, "height": 800}, java_script_enabled=True)
    page = context.new_page()
    sign_in(page, stack_of_forms)
    page.goto(f"{stack_of_forms.address}/new")
    page.get_by_label("Name", exact=True).fill("W" * 200)
    page.get_by_text("More: id,").press("Enter")
    page.get_by_label("Id", exact=True).fill("No Id")
    page.get_by_label("Sent", exact=True).fill("many")
    page.locator("#mode-identified").press("ArrowDown")
    assert page.locator("#mode-pseudonymous").is_checked()
    page.get_by_label("Sent", exact=True).press("Enter")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert_fits(page)
    alert.get_by_role("link", name="Sent").press("Enter")
    assert page.evaluate(FOCUSED) == "sent"
    sent = page.get_by_label("Sent", exact=True)
    assert sent.input_value() == "many"
    described = sent.get_attribute("aria-describedby")
    told = [page.locator(f"#{name}").inner_text() for name in described.split()]
    assert any("whole number" in text for text in told)
    alert.get_by_role("link", name="Id").press("Enter")
    assert page.evaluate(FOCUSED) == "id", "its fields are behind More, which is open now"
    context.close()


def test_forms_second_press_sends_nothing(stack_of_forms: Stack, browser: Browser):
    page = browser.new_context().new_page()
    sign_in(page, stack_of_forms)
    page.goto(f"{stack_of_forms.address}/keys")
    twice, back = f"Pressed twice {token_hex(3)}", f"After going back {token_hex(3)}"
    page.get_by_label("Name", exact=True).fill(twice)
    page.get_by_role("radio", name="This whole server").check()
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/keys", hold)
    make = page.get_by_role("button", name="Create key")
    make.scroll_into_view_if_needed()
    box = make.bounding_box()
    assert box is not None
    for _ in range(2):  # by hand: a locator would wait for the answer
        page.mouse.click(box["x"] + 5, box["y"] + 5)
        page.wait_for_timeout(300)
    assert len(held) == 1
    held[0].continue_()
    page.get_by_role("textbox", name="Copy the key now").wait_for()
    page.unroute("**/keys")
    page.go_back()
    page.get_by_label("Name", exact=True).fill(back)
    page.get_by_role("radio", name="This whole server").check()
    make.click()
    page.get_by_role("textbox", name="Copy the key now").wait_for()
    names = [key["name"] for key in stack_of_forms.call("GET", "/api/keys")[1]["items"]]
    assert (names.count(twice), names.count(back)) == (1, 1)
    page.context.close()


def test_checklist_first_request_while_typing_keeps_the_text(stack_of_forms: Stack, browser: Browser):
    stack, campaign = stack_of_forms, f"typing-{token_hex(3)}"
    made = {"id": campaign, "name": "Typing", "kind": "email"}
    assert stack.call("POST", "/api/campaigns", made)[0] == 201
    links = stack.call("POST", f"/api/campaigns/{campaign}/links", {"recipients": ["ada"]})[1]["links"]
    page = browser.new_page()
    sign_in(page, stack)
    page.goto(f"{stack.address}/campaigns/{campaign}")
    page.locator("main[data-state='live']").wait_for()
    page.get_by_label("Sent", exact=True).fill("4")
    assert stack.get(links[0]["url"]) == (200, "recorded")
    page.locator(".fresh").get_by_text("Save what you typed").wait_for()
    page.get_by_role("button", name="Save").click()
    assert says(page) == "Saved."
    assert page.locator("[data-figure='totals.opens']").first.inner_text() == "1"
    assert stack.call("GET", f"/api/campaigns/{campaign}")[1]["sent"] == 4
    page.context.close()


@pytest.mark.parametrize(
    ("path", "answers"),
    [
        ("/campaigns/spring/recipients/upload", b"HTTP/1.1 303 See Other\r\n"),
        ("/api/withdrawals", b"HTTP/1.1 401 Unauthorized\r\n"),
    ],
)
def test_forms_refused_large_body_is_read_before_the_answer(stack_of_forms: Stack, path: str, answers: bytes):
    """Nobody is signed in. As a proxy does, the client sends its whole request before it reads the answer."""
    body = b"x" * (20 << 20)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: pixel.test\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    address = urlsplit(stack_of_forms.address)
    with socket.create_connection((address.hostname or "", address.port or 0), 60) as client:
        client.sendall(head.encode() + body)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(answers)
    assert answers[9:12] != b"303" or b"location: /sign-in\r\n" in answer
