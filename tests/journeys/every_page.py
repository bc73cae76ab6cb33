"""Lists all pages in all their states, for the tests that visit every page."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pixel_server.store import keys
from pixel_server.store.client import connect
from pixel_server.times import DAY
from tests.stack import Stack, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NOBODY, READER, PARTNER, OWNER = "nobody", "reader", "partner", "owner"
"""The visitors: without a key, and with keys of the scopes `read`, `read:demo-newsletter` and all scopes."""


NAME = "<b>Shop</b> & " + "W" * 100
"""A name that is long and holds markup."""


class Shown(NamedTuple):
    """A page in one state. path: may have names of `Filled.facts` in braces. who: the visitor.

    act: function that brings the loaded page into the state, or None.
    """

    name: str
    path: str
    act: Callable[[Page], None] | None = None
    who: str = OWNER


def _send(button: str, **filled: str) -> Callable[[Page], None]:
    """Returns a function that fills fields by id and presses a button, without the browser's validation."""

    def act(page: Page) -> None:
        page.evaluate("document.querySelectorAll('form').forEach((form) => { form.noValidate = true })")
        page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true })")
        for name, value in filled.items():
            page.locator(f"#{name}").fill(value)
        with page.expect_navigation():
            page.get_by_role("button", name=button, exact=True).click()

    return act


def _follow(link: str) -> Callable[[Page], None]:
    """Returns a function that follows the first link whose name begins with a text."""

    def act(page: Page) -> None:
        with page.expect_navigation():
            page.get_by_role("link", name=link).first.click()

    return act


def _tick(page: Page) -> None:
    """Ticks the first two campaigns of the list, so that the bar to compare them shows."""
    for box in page.locator(".named input").all()[:2]:
        box.check()


def _choose_week(page: Page) -> None:
    """Chooses the last 7 days, which the demo can compare with the 7 days before."""
    with page.expect_navigation():
        page.get_by_role("link", name="7 days", exact=True).click()


def _upload_for_links(page: Page) -> None:
    """Asks for the links of a list with a bad line."""
    rows = f"recipient\nada@example.org\n{'x' * 300}\n"
    page.locator("#links-list").set_input_files(
        {"name": "list.csv", "mimeType": "text/csv", "buffer": rows.encode()}
    )
    with page.expect_navigation():
        page.get_by_role("button", name="Make links and download", exact=True).click()


def _upload(page: Page) -> None:
    """Uploads a list with a bad line and a recipient who withdrew, with the page's script."""
    rows = f"recipient,name\nada@example.org,Ada\njoe@example.org,Joe\n{'x' * 300},\nDee@example.org,Dee\n"
    page.locator("#list").set_input_files(
        {"name": "list.csv", "mimeType": "text/csv", "buffer": rows.encode()}
    )
    page.get_by_role("button", name="Upload", exact=True).click()
    page.get_by_text("on the list already").wait_for()


def _lower_mode(page: Page) -> None:
    """Saves a lower mode and a shorter retention of a campaign with opens, which asks first."""
    page.locator("#mode-count").check()
    _send("Save", keep_days="7")(page)


def _make_sign_in_link(page: Page) -> None:
    """Makes a sign-in link for the newest key."""
    with page.expect_navigation():
        page.get_by_role("button", name="Sign-in link").first.click()


def _make_webhook(page: Page) -> None:
    """Makes a webhook, whose secret the page then shows."""
    page.get_by_role("checkbox", name="health").check()
    _send("Create webhook", url="https://crm.example.org/opens")(page)


EMPTY = (
    Shown("list-empty", "/"),
    Shown("keys-one", "/keys"),
    Shown("webhooks-empty", "/webhooks"),
    Shown("withdrawals-empty", "/withdrawals"),
    Shown("audit-empty", "/audit"),
)
"""Pages of a new server."""

BUSY = (
    Shown("list", "/"),
    Shown("list-tag", "/?tag=spring"),
    Shown("list-mailings", "/?kind=email&sort=name", _tick),
    Shown("list-none-found", "/?q=nothing"),
    Shown("campaign-email", "/campaigns/demo-newsletter"),
    Shown("campaign-email-hours", "/campaigns/demo-newsletter?from={day}&until={day}&interval=hour"),
    Shown("campaign-web", "/campaigns/demo-site"),
    Shown("campaign-web-week", "/campaigns/demo-site?chart=views", _choose_week),
    Shown("campaign-web-hours", "/campaigns/demo-site?from={day}&until={day}&interval=hour"),
    Shown("campaign-web-filtered", "/campaigns/demo-site?page=/teas/sencha&referrer_kind=search"),
    Shown("setup-email", "/campaigns/spring"),
    Shown("setup-wrong", "/campaigns/spring", _send("Save", sent="many")),
    Shown("setup-made", "/campaigns/spring", _send("Create pixel", recipient="ada@example.org")),
    Shown("setup-web", "/campaigns/wiki"),
    Shown("campaign-email-empty", "/campaigns/spring?from={day}&until={day}"),
    Shown("campaign-web-empty", "/campaigns/wiki?from={day}&until={day}"),
    Shown("recipients", "/campaigns/demo-newsletter/recipients"),
    Shown("recipients-named", "/campaigns/members/recipients?state=unopened"),
    Shown("recipients-all", "/campaigns/demo-newsletter/recipients?state=all&sort=opens"),
    Shown("recipients-found", "/campaigns/members/recipients", _send("Find", q="ada")),
    Shown("upload", "/campaigns/members/recipients/upload"),
    Shown("upload-done", "/campaigns/members/recipients/upload", _upload),
    Shown("recipients-no-list", "/campaigns/spring/recipients?state=unopened"),
    Shown("new", "/new"),
    Shown("new-wrong", "/new", _send("Create campaign", name="W" * 201, id="No Id", sent="many")),
    Shown("edit-email", "/campaigns/demo-newsletter/edit"),
    Shown("edit-asks", "/campaigns/demo-newsletter/edit", _lower_mode),
    Shown("edit-web", "/campaigns/wiki/edit"),
    Shown("pixel-email", "/campaigns/spring/pixel"),
    Shown("pixel-made", "/campaigns/spring/pixel", _send("Create pixel", recipient="ada@example.org")),
    Shown("pixel-wrong", "/campaigns/spring/pixel", _send("Create pixel", recipient="")),
    Shown("links-wrong", "/campaigns/spring/pixel", _upload_for_links),
    Shown("pixel-web", "/campaigns/wiki/pixel"),
    Shown("delete", "/campaigns/wiki/delete"),
    Shown("delete-wrong", "/campaigns/wiki/delete", _send("Delete permanently", id="wik")),
    Shown("compare-none", "/compare"),
    Shown("compare", "/compare?id=demo-newsletter&id=spring&id=members&id=demo-site&id=wiki"),
    Shown("compare-range", "/compare?id=demo-newsletter&id=members&from={day}&until={day}"),
    Shown("audience-none", "/audience"),
    Shown("audience", "/audience?id=demo-newsletter&id=members&opened=none"),
    Shown("audience-wrong", "/audience?id=demo-newsletter&id=wiki&min_opens=0"),
    Shown("shares", "/campaigns/demo-newsletter/shares"),
    Shown("share-made", "/campaigns/demo-site/shares", _send("Create link", name="For a partner")),
    Shown("share-revoke", "/campaigns/demo-newsletter/shares", _follow("Revoke")),
    Shown("note-wrong", "/campaigns/demo-newsletter", _send("Save note", text="")),
    Shown("share-email", "/s/{share_email}", who=NOBODY),
    Shown("share-web", "/s/{share_web}", who=NOBODY),
    Shown("share-web-week", "/s/{share_web}?list=country", _choose_week, who=NOBODY),
    Shown("share-gone", "/s/nothing", who=NOBODY),
    Shown("settings", "/settings"),
    Shown("keys", "/keys"),
    Shown("key-sign-in-link", "/keys", _make_sign_in_link),
    Shown("keys-server", "/keys", lambda page: page.locator("#sees-server").check()),
    Shown("keys-shared", "/keys", lambda page: page.locator("#sees-shared").check()),
    Shown("key-wrong", "/keys", _send("Create key", name="")),
    Shown("key-revoke", "/keys/{key_id}/revoke"),
    Shown("deliveries", "/deliveries"),
    Shown("delivery-source-made", "/deliveries", _send("Add", name="Shop")),
    Shown("delivery-source-wrong", "/deliveries", _send("Add", key="no topic")),
    Shown("delivery-source-remove", "/deliveries", _follow("Remove")),
    Shown("webhooks", "/webhooks"),
    Shown("webhooks-of-a-reader", "/webhooks", who=READER),
    Shown("webhook-made", "/webhooks", _make_webhook),
    Shown("webhook-wrong", "/webhooks", _send("Create webhook", url="nowhere", events_per_request="many")),
    Shown("webhook", "/webhooks/{webhook}"),
    Shown("webhook-waiting", "/webhooks/{webhook}?show=waiting"),
    Shown("webhook-aside", "/webhooks/{webhook}?show=aside"),
    Shown("webhook-of-a-reader", "/webhooks/{webhook}", who=READER),
    Shown("webhook-change", "/webhooks/{webhook}/edit"),
    Shown("webhook-secret", "/webhooks/{webhook}/secret"),
    Shown("webhook-secret-made", "/webhooks/{webhook}/secret", _send("Make a new secret")),
    Shown("webhook-disable", "/webhooks/{webhook}/disable"),
    Shown("webhook-delete", "/webhooks/{webhook}/delete"),
    Shown("withdrawals", "/withdrawals"),
    Shown("withdrawal-end", "/withdrawals", _send("Allow again", ended="joe@example.org\nada@example.org")),
    Shown("recipient-find", "/recipients"),
    Shown("recipient", "/recipients/{recipient}"),
    Shown("recipient-of-a-list", "/recipients/{recipient}?campaign=demo-newsletter"),
    Shown("recipient-erase", "/recipients/{recipient}/erase"),
    Shown("kept", "/kept"),
    Shown("audit", "/audit"),
    Shown("audit-filtered", "/audit?what=recipient&who=key"),
    Shown("audit-wrong", "/audit?from=soon&campaign=No"),
    Shown("error-404", "/campaigns/nothing"),
    Shown("error-422", "/campaigns/spring?from=yesterday"),
    Shown("error-403", "/new", who=READER),
    Shown("campaign-of-a-reader", "/campaigns/demo-newsletter", who=READER),
    Shown("shared-list", "/", who=PARTNER),
    Shown("shared-email", "/campaigns/demo-newsletter", who=PARTNER),
    Shown("sign-in", "/sign-in", who=NOBODY),
    Shown("sign-in-wrong", "/sign-in", _send("Sign in", key="not a key"), who=NOBODY),
    Shown("sign-in-used-link", "/sign-in/used", who=NOBODY),
    Shown("error-404-outside", "/nothing", who=NOBODY),
    Shown("privacy", "/privacy", who=NOBODY),
    Shown("privacy-link", "/privacy?t={token}", who=NOBODY),
    Shown("privacy-foreign", "/privacy?t=foreign", who=NOBODY),
)
"""Pages of the demo and of a few new campaigns."""

BROKEN = (
    Shown("error-503", "/"),
    Shown("error-503-sign-in", "/sign-in", _send("Sign in", key="some key"), who=NOBODY),
    Shown("privacy-503", "/privacy?t={token}", who=NOBODY),
)
"""Pages while Redis does not answer."""


class Filled:
    """A server and the data for all pages. facts: values for the paths of pages. keys: API key by visitor."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.facts: dict[str, str] = {}
        self.keys = {OWNER: stack.key}

    def fill(self) -> None:
        """Adds the demo and other data. Returns when everything is counted."""
        call = self.stack.call
        self.stack.run("demo", "add")
        for campaign in (
            {"id": "spring", "name": "Spring catalogue", "kind": "email", "tags": ["catalogue", "spring"]},
            {"id": "members", "name": "Members' letter", "kind": "email", "mode": "identified", "sent": 3},
            {"id": "wiki", "name": "Wiki", "kind": "web", "origins": ["https://wiki.example.org"]},
        ):
            assert call("POST", "/api/campaigns", campaign)[0] == 201
        self._upload("members", "ada@example.org,Ada Lovelace\nbob@example.org,Bob\ncy@example.org,\n")
        self._report("demo-newsletter", "reader-0001@example.org")
        for provider in ("sendgrid", "brevo"):
            call("POST", "/api/deliveries/sources", {"provider": provider, "name": f"Shop, {provider}"})
        self._fail_webhook()
        call("POST", "/api/withdrawals", {"recipients": ["reader-0003@example.org", "joe@example.org"]})
        for who, scope in ((READER, "read"), (PARTNER, "read:demo-newsletter")):
            made = call("POST", "/api/keys", {"name": f"Key of a {who}", "scopes": [scope]})[1]
            self.keys[who] = made["key"]
            self.facts["key_id"] = made["id"]
        linked = call("POST", "/api/campaigns/spring/links", {"recipients": ["ada@example.org"]})[1]
        self.facts["token"] = linked["links"][0]["privacy_url"].partition("?t=")[2]
        for kind, campaign in (("email", "demo-newsletter"), ("web", "demo-site")):
            shared = call("POST", f"/api/campaigns/{campaign}/shares", {"name": "A partner"})[1]
            self.facts[f"share_{kind}"] = shared["url"].rpartition("/")[2]
        call("POST", "/api/campaigns/demo-newsletter/notes", {"text": "second mailing"})
        until(self._all_counted)
        found = call("GET", "/api/campaigns/demo-newsletter/recipients?state=person")[1]
        self.facts["recipient"] = found["items"][0]["key"]
        shown = call("GET", "/api/campaigns/demo-newsletter/stats")[1]
        busiest = max(shown["series"], key=lambda item: item["opens"] or 0)
        self.facts["day"] = busiest["start"][:10]

    def _fail_webhook(self) -> None:
        """Makes a webhook at a refused address. One request is set aside after a day, another waits."""
        call = self.stack.call
        made = {"url": "https://127.0.0.1/" + "opens/" * 20, "events": ["open.first", "health"], "name": NAME}
        self.facts["webhook"] = webhook = call("POST", "/api/webhooks", made)[1]["id"]
        path = f"/api/webhooks/{webhook}"
        event_id = call("POST", f"{path}/test")[1]["webhook_id"]
        until(lambda: call("GET", f"{path}/deliveries")[1]["items"])
        with connect(json.loads((self.stack.data / "up.json").read_text())["redis_url"]) as client:
            a_day_ago = int(client.time()[0] - DAY) * 1000
            client.hset(keys.hook_units(webhook), event_id, f"1 {a_day_ago} {event_id}")
        until(lambda: call("GET", path)[1]["aside"])
        call("POST", f"{path}/test")

    def _upload(self, campaign: str, rows: str) -> None:
        request = urllib.request.Request(
            f"{self.stack.address}/api/campaigns/{campaign}/recipients",
            method="PUT",
            data=f"recipient,name\n{rows}".encode(),
            headers={"Authorization": f"Bearer {self.stack.key}", "Content-Type": "text/csv"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200

    def _report(self, campaign: str, recipient: str) -> None:
        """Reports a mail as delivered, and that its recipient complained and unsubscribed."""
        kinds = ("delivered", "complained", "unsubscribed")
        lines = "".join(json.dumps({"recipient": recipient, "event": kind}) + "\n" for kind in kinds)
        request = urllib.request.Request(
            f"{self.stack.address}/api/campaigns/{campaign}/deliveries",
            data=lines.encode(),
            headers={"Authorization": f"Bearer {self.stack.key}", "Content-Type": "application/x-ndjson"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200

    def _all_counted(self) -> bool:
        readyz = self.stack.call("GET", "/readyz")[1]
        return readyz["stream_entries"] == 0 and readyz["oldest_uncounted_seconds"] is None

    def sign_in(self, page: Page, who: str) -> None:
        if who != NOBODY:
            page.goto(f"{self.stack.address}/sign-in")
            _send("Sign in", key=self.keys[who])(page)
            assert not page.url.endswith("/sign-in"), page.inner_text("main")

    def show(self, page: Page, shown: Shown) -> None:
        """Opens a page, brings it into its state, and waits until its charts are drawn."""
        page.goto(self.stack.address + shown.path.format(**self.facts))
        if shown.act is not None:
            shown.act(page)
        page.wait_for_load_state()
        if page.locator("figure[data-chart]").count():
            page.locator(".u-over, .words:not(:empty)").first.wait_for(state="attached")

    @contextlib.contextmanager
    def redis_away(self) -> Iterator[None]:
        """Stops Redis, so that it answers no command."""
        [pid] = self.stack.pids("valkey-server")
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def started() -> Iterator[Filled]:
    """Yields a new, empty server."""
    stack = Stack(Path(tempfile.mkdtemp(prefix="px-")), PIXEL_OPERATOR="Example Ltd")
    stack.start()
    try:
        yield Filled(stack)
    finally:
        stack.stop()
        shutil.rmtree(stack.data)
        stack.log.unlink()


class Lookers:
    """A browser page for each visitor, opened when first needed. options: of the browser's context."""

    def __init__(self, browser: Browser, filled: Filled, **options: object) -> None:
        self._browser, self._filled, self._options = browser, filled, options
        self._pages: dict[str, Page] = {}

    def of(self, who: str) -> Page:
        if who not in self._pages:
            self._pages[who] = self._browser.new_context(**self._options).new_page()
            self._filled.sign_in(self._pages[who], who)
        return self._pages[who]

    def close(self) -> None:
        for page in self._pages.values():
            page.context.close()
