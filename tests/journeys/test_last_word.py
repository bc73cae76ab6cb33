"""A recipient in a browser, with two web processes: counted, withdrawn, allowed again, erased."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.client import connect
from pixel_server.store.shards import shard_of
from tests.disk import forms, search
from tests.stack import PROGRAM, Stack, free_port, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MAIL = "<!doctype html><html><body><p>Dear Ada, our spring catalogue is here.</p>{pixel}</body></html>"
WHO, NAME = "ada.lovelace@example.org", "Ada, Countess of Lovelace"
ADDRESSES = ("203.0.113.77", "2001:db8:77::1234")


@pytest.fixture
def stack() -> Iterator[Stack]:
    data = Path(tempfile.mkdtemp(prefix="px-"))
    made = Stack(data, PIXEL_TRUSTED_PROXIES="127.0.0.1", PIXEL_OPERATOR="Example Press")
    made.start()
    yield made
    made.stop()
    shutil.rmtree(data)
    made.log.unlink(missing_ok=True)


@pytest.fixture
def second(stack: Stack) -> Iterator[str]:
    """Starts another web process on the same store, and returns its address."""
    with another_web_process(stack) as address:
        yield address


@contextlib.contextmanager
def another_web_process(stack: Stack) -> Iterator[str]:
    left = json.loads((stack.data / "up.json").read_text())
    port = free_port()
    environ = {**stack.environ, "REDIS_URL": left["redis_url"], "PIXEL_BASE_URL": left["base_url"]}
    process = subprocess.Popen([PROGRAM, "serve", "--port", str(port)], env=environ)
    other = Stack(stack.data, port)
    until(lambda: _answers(other))
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    assert process.wait(60) in (0, -signal.SIGTERM)


def _answers(stack: Stack) -> bool:
    try:
        return stack.get("/healthz")[0] == 200
    except OSError:
        return False


class Reader:
    """A browser that opens mails and presses buttons."""

    def __init__(self, browser: Browser) -> None:
        self._context = browser.new_context(extra_http_headers={"X-Forwarded-For": ADDRESSES[0]})
        self._page = self._context.new_page()

    def opens(self, mail: Path, html: str) -> str:
        """Opens a mail, and returns the X-Pixel header of its image."""
        mail.write_text(html)
        with self._page.expect_response(lambda answer: "/o/" in answer.url) as found:
            self._page.goto(mail.as_uri())
        return str(found.value.headers["x-pixel"])

    def presses(self, url: str, wish: str) -> str:
        """Presses a button, and returns the heading of the next page."""
        self._page.goto(url)
        self._page.locator(f"button[value={wish}]").click()
        self._page.wait_for_load_state()
        return self._page.locator("h1").inner_text()


def test_privacy_page_stop_allow_and_erase_hold_in_all_processes(
    stack: Stack, second: str, browser: Browser, tmp_path: Path
):
    mail = tmp_path / "mail.html"
    made = {"id": "spring", "name": "Spring", "kind": "email", "mode": "identified"}
    assert stack.call("POST", "/api/campaigns", made)[0] == 201
    listed = json.dumps({"recipient": WHO, "name": NAME})
    assert _upload(stack, "spring", listed) == {"lines": 1, "new": 1, "known": 0, "withdrawn": 0, "bad": 0}
    _, answer = stack.call("POST", "/api/campaigns/spring/links", {"recipients": [WHO]})
    [link] = answer["links"]
    here = MAIL.format(pixel=link["html"])
    there = here.replace(stack.address, second)
    reader = Reader(browser)
    key = Secrets.load(stack.data).recipient_key(WHO)
    person = {**forms("key", key), **forms("recipient", text=WHO), **forms("name", text=NAME)}
    addresses = {}
    for address in ADDRESSES:
        addresses |= forms(address, ip_address(address).packed, address)

    # Opened, and not yet judged: the search finds it, so it can find.
    workers = stack.pids("work")
    _signal(workers, signal.SIGSTOP)
    assert reader.opens(mail, here) == "recorded"
    assert stack.get(link["url"], **{"X-Forwarded-For": ADDRESSES[1]}) == (200, "recorded")
    found = search(stack.data, person | addresses)
    wanted = {"key: packed", "recipient: text", "name: text", *(f"{one}: packed" for one in ADDRESSES)}
    assert found.keys() >= wanted
    _signal(workers, signal.SIGCONT)
    until(lambda: stack.totals("spring")["opens"] == 2)

    # Withdrawn on the page, and opened again in the other process at once.
    assert reader.presses(link["privacy_url"], "stop") == "Recording is stopped"
    until(lambda: reader.opens(mail, there) == "ignored; reason=withdrawn", every=0)
    before = _stored(stack, key)
    assert reader.opens(mail, there) == reader.opens(mail, here) == "ignored; reason=withdrawn"
    assert _stored(stack, key) == before
    assert stack.totals("spring")["hits"] == 2

    # Allowed again; and one that waits on disk while Redis hangs.
    assert reader.presses(link["privacy_url"], "allow") == "Recording of opened mails"
    until(lambda: reader.opens(mail, there) == "recorded")
    until(lambda: stack.totals("spring")["opens"] == 3)
    [valkey] = stack.pids("valkey-server")
    _signal([valkey], signal.SIGSTOP)
    assert reader.opens(mail, here) == "recorded"
    assert any(name.startswith("spool/") for name in search(stack.data, person)["key: packed"])
    _signal([valkey], signal.SIGCONT)
    until(lambda: stack.totals("spring")["opens"] == 4)

    # Erased: nothing of it on the disk, nor any address that was judged.
    assert reader.presses(link["privacy_url"], "erase") == "Your data is erased"
    until(lambda: search(stack.data, person | addresses) == {})
    assert stack.totals("spring")["opens"] == 4
    assert reader.opens(mail, there) == "ignored; reason=withdrawn"
    assert _upload(stack, "spring", listed) == {"lines": 1, "new": 0, "known": 0, "withdrawn": 1, "bad": 0}
    assert search(stack.data, person | addresses) == {}
    report = stack.run("privacy", "report", "--json")
    kept = {kind["data"]: kind["number"] for kind in json.loads(report.stdout)["items"]}
    assert (kept["recipients"], kept["names"], kept["lists"], kept["withdrawals"]) == (0, 0, 0, 1)
    assert "recipients.uploaded" in stack.run("audit").stdout
    said = stack.run("audit", "--recipients").stdout
    assert "1 recipient.erased" in said
    assert key.hex() not in said + stack.output()


def test_privacy_page_while_redis_hangs_changes_nothing(stack: Stack):
    """The page says that nothing was stored. A recipient who withdrew before is counted by no process."""
    assert stack.run("campaign", "create", "mail").returncode == 0
    _, answer = stack.call("POST", "/api/campaigns/mail/links", {"recipients": ["ada", "bob"]})
    ada, bob = answer["links"]
    assert _press(ada, "stop")[0] == 200
    [valkey] = stack.pids("valkey-server")
    _signal([valkey], signal.SIGSTOP)
    status, page = _press(bob, "stop")
    assert (status, "<h1>Not possible right now</h1>" in page) == (503, True)
    assert "Nothing is changed yet" in page
    assert stack.get(ada["url"]) == (200, "ignored; reason=withdrawn")
    with another_web_process(stack) as address:
        url = ada["url"].replace(stack.address, address)
        # It knows only if the first process has saved it. On a busy machine the first is answered 503.
        until(lambda: stack.get(url) in ((200, "recorded"), (200, "ignored; reason=withdrawn")))
        _signal([valkey], signal.SIGCONT)
        until(lambda: stack.get(url) == (200, "ignored; reason=withdrawn"))
        until(lambda: _all_are_counted(stack))
    assert stack.totals("mail")["hits"] == 0


def _all_are_counted(stack: Stack) -> bool:
    health = stack.call("GET", "/readyz")[1]
    return health["spool"]["hits"] == health.get("stream_entries", 1) == 0


def _press(link: dict[str, str], wish: str) -> tuple[int, str]:
    import urllib.error
    import urllib.parse
    import urllib.request

    where, _, token = link["privacy_url"].partition("?t=")
    form = urllib.parse.urlencode({"t": token, "do": wish}).encode()
    try:
        with urllib.request.urlopen(where, form, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def _upload(stack: Stack, campaign: str, lines: str) -> dict[str, int]:
    import urllib.request

    request = urllib.request.Request(
        f"{stack.address}/api/campaigns/{campaign}/recipients",
        method="PUT",
        data=lines.encode(),
        headers={"Authorization": f"Bearer {stack.key}", "Content-Type": "application/x-ndjson"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        result = json.load(answer)
        assert result.pop("errors") == result.pop("warnings") == []
        return result


def _signal(pids: list[int], number: signal.Signals) -> None:
    assert pids
    for pid in pids:
        os.kill(pid, number)


def _redis(stack: Stack):
    return connect(json.loads((stack.data / "up.json").read_text())["redis_url"])


def _stored(stack: Stack, key: bytes) -> tuple[int, bytes]:
    """Returns how many hits wait in a recipient's shard, and the id of the last counted hit."""
    shard = shard_of(key, 4)
    with _redis(stack) as client:
        until(lambda: client.xlen(keys.hits(shard)) == 0)
        return client.xlen(keys.hits(shard)), client.hget(keys.checkpoint(shard), "id")
