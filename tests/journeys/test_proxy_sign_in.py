"""The Caddyfile of docs/sign-in.md between a server that plays Authelia and a running `up`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from http.client import HTTPResponse
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.stack import Stack, free_port, until

DOCS = (Path(__file__).parents[2] / "docs" / "sign-in.md").read_text()
GROUPS = {"anna": "staff,admins", "ben": "marketing"}
WARNING = "nobody is signed in"


class Authelia(BaseHTTPRequestHandler):
    """Names the user of the cookie `user`, and sends others to its own page.

    Lets the user `bypass` pass without a name, as Authelia does under a rule `bypass`.
    """

    def do_GET(self) -> None:
        cookie = SimpleCookie(self.headers.get("Cookie", "")).get("user")
        user = cookie.value if cookie else ""
        is_right_path = self.path == "/api/authz/forward-auth"
        self.send_response(200 if is_right_path and user else 302)
        if user in GROUPS:
            self.send_header("Remote-User", user)
            self.send_header("Remote-Groups", GROUPS[user])
        elif not user:
            self.send_header("Location", "https://auth.example.org/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def authelia() -> Iterator[int]:
    """Returns the port of a server that plays Authelia."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Authelia)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def documented(start: str) -> str:
    """Returns the lines of the docs that are indented, from the line that begins with `start`."""
    found = re.search(rf"^    {re.escape(start)}.*\n(?:    .*\n)*", DOCS, re.M)
    assert found is not None
    return textwrap.dedent(found[0])


def documented_settings() -> dict[str, str]:
    section = DOCS[DOCS.index("## Authelia") :]
    return dict(
        re.findall(r'^    (PIXEL_\w+)="?([^"\n]+)"?$', section[: section.index("The Caddyfile")], re.M)
    )


@pytest.fixture(scope="module")
def proxied(authelia: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Returns a running server behind Caddy. Its `address` is that of Caddy."""
    tmp_path = tmp_path_factory.mktemp("proxied")
    stack = Stack(tmp_path / "data", **documented_settings())
    stack.start()
    address = f"http://127.0.0.1:{free_port()}"
    text = documented("img.example.org {")
    for there, here in (
        ("img.example.org", address),
        ("127.0.0.1:9091", f"127.0.0.1:{authelia}"),
        ("127.0.0.1:8000", f"127.0.0.1:{stack.port}"),
    ):
        assert there in text
        text = text.replace(there, here)
    configuration = tmp_path / "Caddyfile"
    configuration.write_text(f"{{\nadmin off\n}}\n{text}")
    caddy = [str(Path(sys.executable).with_name("caddy")), "run", "--config", str(configuration)]
    with (tmp_path / "caddy.log").open("wb") as log:
        proxy = subprocess.Popen([*caddy, "--adapter", "caddyfile"], stdout=log, stderr=log)
    stack.address = address
    try:
        until(lambda: curl(f"{address}/healthz")[0] == 200, 60)
        yield stack
    finally:
        proxy.terminate()
        proxy.wait(20)
        stack.stop()


def curl(url: str, *options: str) -> tuple[int, str, str]:
    """Returns (status, Location, content) of one request."""
    done = subprocess.run(
        ["curl", "-s", "-w", "\n%{http_code} %header{location}", *options, url],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    content, _, last = done.stdout.rpartition("\n")
    status, _, location = last.partition(" ")
    return int(status), location, content


def next_event(stream: HTTPResponse) -> str:
    """Returns the name of the next server-sent event. Raises StopIteration if the stream ends before."""
    return next(line[7:].decode().strip() for line in stream if line.startswith(b"event: "))


FORGED = ("-H", "Remote-User: anna", "-H", "Remote-Groups: admins")


def test_caddy_with_authelia_signs_its_users_in(proxied: Stack):
    address, anna, ben = proxied.address, ("-b", "user=anna"), ("-b", "user=ben")
    assert curl(f"{address}/")[:2] == (302, "https://auth.example.org/")
    assert curl(f"{address}/", *FORGED)[:2] == (302, "https://auth.example.org/")
    assert curl(f"{address}/", *FORGED, "-b", "user=bypass")[:2] == (303, "/sign-in")
    status, _, page = curl(f"{address}/keys", *anna)
    assert status == 200
    assert "<bdi>anna</bdi>" in page
    token = re.search(r'name="csrf" value="([\w-]+)"', page)
    assert token is not None
    sent = ("-d", f"csrf={token[1]}", "-d", "name=from-a-page", "-d", "sees=server", "-d", "scope_read=yes")
    assert curl(f"{address}/keys", *ben, *sent)[0] == 403
    assert curl(f"{address}/keys", *anna, *sent, "-H", "Origin: https://evil.example")[0] == 403
    status, _, page = curl(f"{address}/keys", *anna, *sent, "-H", f"Origin: {address}")
    assert status == 200
    assert "from-a-page" in page
    assert curl(f"{address}/new", *ben)[0] == 403
    newest = json.loads(proxied.run("audit", "--json").stdout)["items"][0]
    assert (newest["who"], newest["what"]) == ("anna, by the proxy", "key.made")
    assert WARNING not in proxied.output()

    proxied.run("campaign", "create", "site", "--kind", "web")
    until(lambda: proxied.get("/p/site.gif") == (200, "recorded"))
    with urlopen(
        Request(f"{address}/campaigns/site/live", headers={"Cookie": "user=ben"}), timeout=30
    ) as live:
        assert next_event(live) == "figures"
        assert proxied.get("/p/site.gif") == (200, "recorded")
        assert next_event(live) == "figures"
    assert curl(f"{address}/api/campaigns", *anna)[0] == 401
    assert proxied.call("GET", "/api/campaigns")[0] == 200


def test_header_from_another_address_signs_nobody_in_and_is_logged_once(proxied: Stack):
    """The process for pages answers these requests, on connections from the process for pixels."""
    direct = f"http://127.0.0.1:{proxied.port}/"
    assert curl(direct, *FORGED, "--interface", "127.0.0.1")[0] == 200
    stranger = (*FORGED, "--interface", "127.0.0.2", "-H", "X-Forwarded-For: 127.0.0.1")
    for _ in range(3):
        assert curl(direct, *stranger)[:2] == (303, "/sign-in")
    until(lambda: WARNING in proxied.output())
    assert proxied.output().count(WARNING) == 1
