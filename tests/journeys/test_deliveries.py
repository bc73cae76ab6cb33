"""Mail services report to a running server: figures follow, and a complaint stops the pixel."""

from __future__ import annotations

import concurrent.futures
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deliveries.payloads import BY_HAND, REQUESTS, Sent, address
from tests.stack import Stack, until


@pytest.fixture
def stack() -> Iterator[Stack]:
    """Returns a running `pixel-server up` that takes complaints as withdrawals."""
    stack = Stack(Path(tempfile.mkdtemp(prefix="px-")), PIXEL_WITHDRAW_ON="complained")
    stack.start()
    yield stack
    stack.stop()
    shutil.rmtree(stack.data)
    stack.log.unlink(missing_ok=True)


def send(url: str, sent: Sent) -> int:
    request = urllib.request.Request(url, data=sent.body, headers=sent.headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_deliveries_reported_to_a_running_server_from_several_services_at_once(stack: Stack):
    stack.run("campaign", "create", "mail")
    link = stack.call("POST", "/api/campaigns/mail/links", {"recipients": [address("fay")]})[1]["links"][0]
    assert stack.get(link["url"]) == (200, "recorded")
    added = {name: stack.run("deliveries", "add", name) for name in ("postmark", "brevo")}
    assert all("only this machine can reach" in done.stderr for done in added.values())
    urls = {name: done.stdout.strip() for name, done in added.items()}
    # Both services report the same mails, each twice, and a request is sent again until it is answered 200.
    requests = [(urls[name], sent) for name in urls for sent in (*REQUESTS[name](), *REQUESTS[name]())]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: until(lambda: send(*each) == 200), requests))
    figures = stack.call("GET", "/api/campaigns/mail/stats")[1]
    # `fay` withdrew by complaining: what was reported later of her is not counted.
    counted = figures["deliveries"]
    assert {name: counted[name] for name in ("bounced_hard", "bounced_soft", "complained")} == {
        name: BY_HAND[name] for name in ("bounced_hard", "bounced_soft", "complained")
    }
    assert (counted["delivered"], figures["sent"], figures["bounced"]) == (4, 7, 3)
    until(lambda: stack.get(link["url"])[1] == "ignored; reason=withdrawn")
    assert stack.run("verify").returncode == 0
