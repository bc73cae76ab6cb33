"""Opens set something off: a receiver of another language gets each event of a whole server once by its id.

Workers are killed meanwhile, and another endpoint hangs. A person makes and tries a webhook on the pages.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pixel_server.mail.links import Minter
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store.client import connect_async
from pixel_server.webhooks import storage
from tests.journeys.test_dashboard import assert_fits, looking, sign_in
from tests.node_packages import NodeReceiver
from tests.stack import READER, Stack, free_port, until
from tests.webhooks import receiver as receivers

if TYPE_CHECKING:
    from playwright.sync_api import Browser

RECIPIENTS = 120


@pytest.fixture
def stack() -> Iterator[Stack]:
    stack = Stack(Path(tempfile.mkdtemp(prefix="px-")), PIXEL_WEBHOOK_PRIVATE="1")
    stack.start()
    yield stack
    stack.stop()
    shutil.rmtree(stack.data)
    stack.log.unlink(missing_ok=True)


def make_endpoint(stack: Stack, **fields: Any) -> str:
    """Makes an endpoint, and returns its secret."""

    async def make() -> str:
        url = json.loads((stack.data / "up.json").read_text())["redis_url"]
        store = connect_async(url)
        try:
            _, secret = await storage.create(store, Settings(webhook_private=1), **fields)
        finally:
            await store.aclose()
        return secret

    return asyncio.run(make())


def kill_workers(stack: Stack) -> None:
    for pid in stack.pids("work --one"):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_opens_reach_a_receiver_of_another_language_once_by_their_ids(stack: Stack):
    port = free_port()
    events = ["open.first", "withdrawal", "campaign.milestone"]
    secret = make_endpoint(stack, url=f"http://127.0.0.1:{port}/hook", events=events, scopes=["people"])
    receiver = NodeReceiver(port, secret)
    hanging = socket.create_server(("127.0.0.1", 0))  # takes connections, and never answers
    try:
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}/hook"
        make_endpoint(stack, url=url, events=["open.first"], scopes=["people"])
        campaign = {"id": "spring", "name": "Spring", "kind": "email", "sent": RECIPIENTS}
        assert stack.call("POST", "/api/campaigns", campaign)[0] == 201
        minter = Minter(stack.address, Secrets.load(stack.data))
        names = [f"person-{n}@example.org" for n in range(RECIPIENTS)]
        url = str(minter.url("spring", names[0]))
        done = subprocess.run(["curl", "-sS", "-A", READER, "-o", "/dev/null", url], check=False)
        assert done.returncode == 0
        [first] = until(lambda: receiver.events("open.first"))
        assert first["payload"]["data"]["campaign"] == "spring"
        assert first["payload"]["data"]["client"] == "Thunderbird"
        for n, name in enumerate(names[1:]):
            url = str(minter.url("spring", name))
            until(lambda url=url: stack.get(url) == (200, "recorded"))  # a busy machine may refuse one
            if n in (30, 70):
                kill_workers(stack)
        until(
            lambda: (
                len({line["payload"]["data"]["key"] for line in receiver.events("open.first")}) == RECIPIENTS
            )
        )
        assert stack.call("POST", "/api/withdrawals", {"recipients": names[:2]})[0] == 200
        until(lambda: len(receiver.events("withdrawal")) >= 2)
        until(lambda: len({line["id"] for line in receiver.events("campaign.milestone")}) == 3)
        ids = Counter(
            key
            for key, _ in {
                (line["payload"]["data"]["key"], line["id"]) for line in receiver.events("open.first")
            }
        )
        assert set(ids.values()) == {1}, "no recipient has two ids, however often an event was sent"
        assert not [line for line in receiver.lines if "error" in line]
        assert "traceback=" not in stack.output()
    finally:
        receiver.stop()
        hanging.close()


def test_webhook_made_tried_and_sent_again_on_the_pages(stack: Stack, browser: Browser):
    with receivers.running() as receiver, looking(browser, stack, 360, "dark") as page:
        receiver.answer = lambda request: (503, {"retry-after": "3600"}, "<b>too busy</b>")
        sign_in(page, stack)
        page.get_by_role("link", name="Settings").click()
        page.get_by_role("link", name="Webhooks").click()
        page.get_by_label("URL").fill(receiver.url)
        page.get_by_role("checkbox", name="open.first").check()
        page.get_by_text("More: name").click()
        page.get_by_label("Name", exact=True).fill("CRM")
        page.get_by_role("button", name="Create webhook").click()
        secret = page.get_by_role("textbox", name="Copy the secret now").input_value()
        until(lambda: page.get_by_role("button", name="Copy: Copy the secret now").count() == 1)
        assert_fits(page)
        page.get_by_role("button", name="Send test event").click()
        page.get_by_text("A test event is being sent").wait_for()
        until(lambda: receiver.requests)

        def first_try() -> str:
            with page.expect_navigation():
                page.get_by_role("link", name="Load again").click()
            rows = page.locator("tbody tr")
            return rows.first.inner_text() if rows.count() else ""

        failed = until(first_try)
        assert "503" in failed
        assert "next try" in failed
        assert "<b>too busy</b>" in failed
        assert_fits(page)
        receiver.answer = lambda request: receivers.OK
        page.get_by_role("link", name="Waiting 1").click()
        page.get_by_role("button", name="Send again").click()
        page.get_by_text("Being sent again: 1.").wait_for()
        until(lambda: "thanks" in first_try())
        assert "Delivered" in first_try()
        [before, after] = receiver.requests
        assert before.headers["webhook-id"] == after.headers["webhook-id"]
        assert after.verify(secret)["type"] == "test"
