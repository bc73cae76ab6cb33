"""A whole run of `up` at the level debug: each line has an event, and no line names a person or a secret."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from pixel_server.logs import HEAD
from pixel_server.store import keys
from tests.sentinels import Program
from tests.stack import Stack, until

PASSWORD, API_KEY, WRONG_KEY = "word-of-redis-4711", "key-of-the-log-test", "px-wrong-key-of-a-stranger"
SIGNING, RECIPIENT_SECRET = "signing-secret-of-the-test", "recipient-secret-of-the-test"
RECIPIENT, NAME, STRANGER = "ada.lovelace@mail.example", "Ada Lovelace", "mallory@mail.example"
CLIENT, PEER, AGENT = "203.0.113.77", "127.0.0.9", "Distinctive-Agent/7.3"
VISITOR, PAGE = "visitor-of-the-test", "https://site.example/secret-page"
SECRETS = {
    *(PASSWORD, API_KEY, WRONG_KEY, SIGNING, RECIPIENT_SECRET, RECIPIENT, NAME, STRANGER),
    *(CLIENT, PEER, AGENT, VISITOR, "secret-page", "lovelace", "mallory"),
}
TEXT_LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info|warning|error|critical) "
    r"(?P<process>[a-z]+)\[\d+\] (?P<event>[a-z-]+): .+"
)


EVENTS = {"audit", "library-asyncio", "library-rq", "library-uvicorn", "rollup-done", "redis-not-connected"}
"""Some of the events of the run, besides those that the test waits for."""


Start = Callable[[str], tuple[Stack, Program]]


class Seen:
    """Requests as strangers, recipients and senders make them. secrets: what no line may hold."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.secrets = set(SECRETS)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
        """Returns the answer's body, "" if it is an error."""
        sent = {"User-Agent": AGENT, "X-Forwarded-For": CLIENT, "Referer": PAGE, **headers}
        names = {name.replace("_", "-"): value for name, value in sent.items()}
        url = path if path.startswith("http") else self.stack.address + path
        request = urllib.request.Request(url, body, names, method=method)
        with (
            contextlib.suppress(urllib.error.HTTPError),
            urllib.request.urlopen(request, timeout=20) as answer,
        ):
            return answer.read().decode("utf-8", "replace")
        return ""

    def call(self, method: str, path: str, body: Any) -> Any:
        key = f"Bearer {API_KEY}"
        json_type = "application/json"
        text = self.ask(method, path, json.dumps(body).encode(), Authorization=key, Content_Type=json_type)
        return json.loads(text or "null")

    def send_raw(self, data: bytes) -> None:
        """Sends bytes that need not be HTTP, from PEER."""
        with contextlib.suppress(OSError), socket.socket() as connection:
            connection.settimeout(20)
            connection.bind((PEER, 0))
            connection.connect(("127.0.0.1", self.stack.port))
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1000)

    def begin(self) -> None:
        """Makes campaigns, a list, a share link and links."""
        self.call("POST", "/api/campaigns", {"id": "mail", "kind": "email", "name": "Mail"})
        self.call("POST", "/api/campaigns", {"id": "site", "kind": "web", "name": "Site"})
        row = json.dumps({"recipient": RECIPIENT, "name": NAME}).encode()
        key = f"Bearer {API_KEY}"
        self.ask(
            "PUT",
            "/api/campaigns/mail/recipients",
            row,
            Authorization=key,
            Content_Type="application/x-ndjson",
        )
        link = self.call("POST", "/api/campaigns/mail/links", {"recipients": [RECIPIENT]})["links"][0]["url"]
        share = self.call("POST", "/api/campaigns/mail/shares", {"name": NAME})["url"]
        self.path = urllib.parse.urlsplit(link).path
        self.token = self.path.removeprefix("/o/").removesuffix(".gif")
        self.share = share.rpartition("/")[2]
        sign_in_link = re.search(r"/sign-in/(\S{10,})", self.stack.output())
        assert sign_in_link is not None
        found = self.call("POST", "/api/recipients/find", {"recipient": RECIPIENT})["key"]
        self.secrets |= {self.token, self.token[:-3], self.share, sign_in_link[1], found}
        self.recipient_key = found

    def request_everything(self) -> None:
        """Requests pixels and pages, rightly and wrongly."""
        quoted = urllib.parse.quote(RECIPIENT)
        self.ask("GET", self.path)
        self.ask("GET", self.path.replace(".gif", "x.gif"))
        self.ask("GET", f"/p/site.gif?v={VISITOR}&u={PAGE}", Cookie=f"px_test={VISITOR}")
        self.ask("GET", f"/api/recipients/{self.recipient_key}", Authorization=f"Bearer {API_KEY}")
        self.ask("GET", f"/api/recipients/{quoted}", Authorization=f"Bearer {API_KEY}")
        self.ask("GET", f"/campaigns/{quoted}?q={WRONG_KEY}", Authorization=f"Bearer {WRONG_KEY}")
        self.ask("GET", "/api/campaigns", Authorization=f"Bearer {WRONG_KEY}")
        self.ask("POST", "/sign-in", f"key={WRONG_KEY}".encode())
        self.ask("POST", "/sign-in", f"key={API_KEY}".encode())
        self.ask("GET", f"/sign-in/{WRONG_KEY}")
        self.ask("GET", f"/s/{self.share}")
        self.ask("GET", f"/s/{WRONG_KEY}")
        self.ask("GET", f"/privacy?t={self.token}")
        self.ask("POST", "/privacy", f"t={self.token}&do={STRANGER}".encode())
        self.ask("POST", "/privacy", f"t={self.token}&do=stop".encode())
        self.ask("POST", "/privacy", f"t={self.token}&do=allow".encode())
        self.ask("POST", "/api/explain", b'{"ip": "' + STRANGER.encode(), Authorization=f"Bearer {API_KEY}")
        self.call("POST", "/api/withdrawals", {"recipients": [STRANGER]})
        self.send_raw(f"{STRANGER} {WRONG_KEY}\r\n\r\n".encode())
        self.send_raw(f"GET /{STRANGER} HTTP/1.1\r\nHost: {STRANGER}\r\nX: {AGENT}\r\n".encode())
        self.send_raw(b"POST /privacy HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n" + STRANGER.encode())

    def spoil(self, store: redis.Redis, is_logged: Callable[..., bool]) -> None:
        """Puts values that cannot be read into the store, until they are reported, and mends them."""
        for shard in range(4):
            store.xadd(keys.hits(shard), {"1": f"{STRANGER} is not a batch"})
        until(lambda: is_logged("dead-letter"), 60)
        store.rename(keys.campaign("mail"), "kept")
        store.set(keys.campaign("mail"), STRANGER)
        self.ask("GET", "/api/campaigns/mail/stats", Authorization=f"Bearer {API_KEY}")
        until(lambda: is_logged("redis-refuses"), 60)
        store.rename("kept", keys.campaign("mail"))
        store.sadd(keys.API_KEYS, "odd")
        store.hset(keys.api_key("odd"), mapping={"name": NAME, "scopes": "read", "created": STRANGER})
        self.ask("GET", "/api/keys", Authorization=f"Bearer {API_KEY}")
        until(lambda: is_logged("api-key-unreadable"), 60)
        for shard in range(4):
            store.hset(keys.total(shard, "mail"), "hits", STRANGER)
        self.ask("GET", "/api/campaigns/mail/stats", Authorization=f"Bearer {API_KEY}")
        until(lambda: is_logged("value-unreadable"), 60)
        for shard in range(4):
            store.delete(keys.total(shard, "mail"))
            store.set(keys.total(shard, "mail"), STRANGER)
        self.ask("GET", self.path)
        until(lambda: is_logged("shard-stands-still"), 60)
        for shard in range(4):
            store.delete(keys.total(shard, "mail"))


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `up` with a Redis that has a password, and returns both."""
    home = Path(tempfile.mkdtemp(prefix="px-"))
    closing = contextlib.ExitStack()

    def start(form: str) -> tuple[Stack, Program]:
        rights = f"user web on >{PASSWORD} ~* &* +@all"
        store = Program(home, "appendonly yes", "appendfsync always", rights)
        closing.callback(store.kill)
        stack = Stack(
            home / "data",
            REDIS_URL=f"redis://web:{PASSWORD}@127.0.0.1:{store.port}/0",
            PIXEL_API_KEY=API_KEY,
            PIXEL_SECRET=SIGNING,
            PIXEL_RECIPIENT_SECRET=RECIPIENT_SECRET,
            PIXEL_TRUSTED_PROXIES="127.0.0.1",
            PIXEL_LOG=form,
            PIXEL_LOG_LEVEL="debug",
            PYTHONASYNCIODEBUG="1",
            PYTHONWARNINGS="always",
        )
        stack.errors = home / "errors"
        stack.start()
        closing.callback(stack.stop)
        return stack, store

    yield start
    closing.close()
    shutil.rmtree(home)


@pytest.mark.parametrize("form", ["text", "json"])
def test_logs_whole_run_each_line_has_an_event_and_no_secret(form: str, start: Start):
    stack, store = start(form)
    errors = stack.errors
    assert errors is not None

    def is_logged(event: str) -> bool:
        return event in errors.read_text()

    seen = Seen(stack)
    seen.begin()
    seen.request_everything()
    with store.client() as client:
        seen.spoil(client, is_logged)
    store.kill()
    until(lambda: is_logged("schedule-redis-away"), 60)
    seen.request_everything()
    until(lambda: is_logged("redis-does-not-store"), 60)
    store.start()
    until(lambda: is_logged("spool-drained"), 60)
    until(lambda: is_logged("schedule-redis-back"), 60)
    assert stack.stop() == 0
    lines = errors.read_text().splitlines()
    read = [_read_json(line) if form == "json" else _read_text(line) for line in lines]
    assert {process for process, _ in read} >= {"web", "pages", "worker", "schedule"}
    assert {event for _, event in read} >= EVENTS
    assert [(secret, line) for line in lines for secret in seen.secrets if secret in line] == []


def _read_text(line: str) -> tuple[str, str]:
    """Returns (process, event) of a line."""
    match = TEXT_LINE.fullmatch(line)
    assert match, line
    return match["process"], match["event"]


def _read_json(line: str) -> tuple[str, str]:
    fields = json.loads(line)
    assert list(fields)[: len(HEAD)] == [*HEAD], line
    return fields["process"], fields["event"]
