"""A sender's whole way: Nodemailer, the relay, Postfix, Chromium, a mail service, and a webhook on Node."""

from __future__ import annotations

import email
import email.policy
import json
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.deliveries.payloads import postmark_event
from tests.mail.smtp import Mailbox
from tests.node_packages import NodeReceiver, node
from tests.relay.postfix import postfix
from tests.stack import Stack, free_port, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

OPENS = 5


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    """Returns a mailbox, and the port of the Postfix that delivers to it."""
    with (
        tempfile.TemporaryDirectory(prefix="pf-") as home,
        Mailbox.open() as opened,
        postfix(Path(home), opened.port) as port,
    ):
        yield opened, port


@pytest.fixture
def relay(data: Path, mailbox: tuple[Mailbox, int]) -> Iterator[tuple[Stack, int]]:
    """Returns an `up --relay` before Postfix, with the port of its relay."""
    port = free_port()
    stack = Stack(
        data,
        PIXEL_RELAY_LISTEN=f"127.0.0.1:{port}",
        PIXEL_RELAY_TO=f"smtp://127.0.0.1:{mailbox[1]}",
        PIXEL_SOON_SECONDS="0",  # the mail is opened at once
        PIXEL_WEBHOOK_PRIVATE="1",
    )
    stack.start("--relay")
    yield stack, port
    assert stack.stop() == 0


def html_of(raw: bytes) -> str:
    """Returns the HTML part of a mail."""
    body = email.message_from_bytes(raw, policy=email.policy.default).get_body(("html",))
    assert body is not None
    html: str = body.get_content()
    return html


def open_in(browser: Browser, mail: Path) -> None:
    """Shows a mail as a web mail does, in a fresh browser session, and waits for its images."""
    agent = f"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{browser.version}"
    context = browser.new_context(user_agent=f"{agent} Safari/537.36")
    context.new_page().goto(mail.as_uri(), wait_until="load")
    context.close()


def report_delivered(stack: Stack, who: str) -> None:
    """Lets Postmark report the mail to a recipient of the campaign `spring` as delivered."""
    status, source = stack.call(
        "POST", "/api/deliveries/sources", {"provider": "postmark", "name": "Postmark"}
    )
    assert status == 201, source
    event = {**postmark_event(who, "delivered"), "Metadata": {"pixel_campaign": "spring"}}
    body = json.dumps(event).encode()
    request = urllib.request.Request(source["url"], body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def test_mail_of_nodemailer_opened_in_chromium_reaches_a_webhook_under_one_id(
    relay: tuple[Stack, int], mailbox: tuple[Mailbox, int], browser: Browser, tmp_path: Path
):
    (stack, relay_port), (mails, _) = relay, mailbox
    stack.call("POST", "/api/campaigns", {"id": "spring", "name": "Spring", "kind": "email"})
    hook_port = free_port()
    wanted = {"url": f"http://127.0.0.1:{hook_port}/", "events": ["open.first", "open.each"]}
    status, hook = stack.call("POST", "/api/webhooks", wanted)
    assert status == 201, hook
    receiver = NodeReceiver(hook_port, hook["secret"])
    try:
        command = node("send.js", str(relay_port), "ada@example.org")
        sent = subprocess.run(command, capture_output=True, text=True, check=False)
        assert sent.stdout.startswith("250"), sent.stderr
        [raw] = until(lambda: mails.mails)
        mail = tmp_path / "mail.html"
        mail.write_text(html_of(raw))
        for _ in range(OPENS):
            open_in(browser, mail)
        until(lambda: len({line["id"] for line in receiver.events("open.each")}) == OPENS)
        until(lambda: stack.call("GET", f"/api/webhooks/{hook['id']}")[1]["waiting"] == 0)
        first = {line["id"]: line["payload"]["data"] for line in receiver.events("open.first")}
        [told] = first.values()
        assert (told["campaign"], told["verdict"], told["client"]) == ("spring", "person", "Chrome")
        assert not [line for line in receiver.lines if "error" in line]

        report_delivered(stack, "ada")
        stats = stack.call("GET", "/api/campaigns/spring/stats")[1]
        assert (stats["sent"], stats["delivered"], stats["totals"]["opens"]) == (1, 1, OPENS)
        assert (stats["open_rate"]["low"], stats["open_rate"]["high"]) == (1.0, 1.0)
        assert "traceback=" not in stack.output()
    finally:
        receiver.stop()
