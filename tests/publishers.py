"""What the owners of networks publish, and a local server that plays their sites."""

from __future__ import annotations

import json
import random
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pixel_server.classify import network_fetch
from pixel_server.classify.network_feeds import PUBLISHED, RANDOM_ID, PublishedList


def apple_rows(number: int) -> list[str]:
    """Returns rows as Apple writes them: a sixth are IPv4 /31s, the others IPv6 /64s."""
    chance = random.Random(number)
    few = number // 6
    return [
        *(
            f"172.{224 + n // 32768 % 8}.{n // 128 % 256}.{n % 128 * 2}/31,US,US-CA,Los Angeles,"
            for n in range(few)
        ),
        *(
            f"2a02:26f7:{chance.randrange(65536):x}:{n % 65536:x}::/64,DE,DE-BY,München,"
            for n in range(number - few)
        ),
    ]


ROWS = apple_rows(60_000)
APPLE = "\n".join([*ROWS, ""]).encode()


def csv(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join([*rows, ""]))
    return path


def prefixes(*networks: str) -> bytes:
    """Returns networks as Google and OpenAI publish them."""
    items = [{"ipv6Prefix" if ":" in network else "ipv4Prefix": network} for network in networks]
    return json.dumps({"creationTime": "2026-09-20T14:46:08.000000", "prefixes": items}).encode()


GOOGLE = prefixes(*(f"66.249.{n}.0/27" for n in range(64, 192)), "2001:4860:4801:10::/64")
OPENAI = prefixes(*(f"20.171.{n}.0/28" for n in range(200)))
MICROSOFT = json.dumps(
    [
        {"id": 1, "serviceArea": "Exchange", "urls": ["outlook.office.com"], "ips": ["13.107.6.152/31"]},
        {"id": 8, "serviceArea": "Exchange", "urls": ["*.outlook.com", "autodiscover.example"]},
        {
            "id": 9,
            "serviceArea": "Exchange",
            "urls": ["*.protection.outlook.com"],
            "ips": ["40.92.0.0/15", "40.107.0.0/16", "52.100.0.0/14", "2a01:111:f403::/48"],
            "tcpPorts": "443",
        },
        {
            "id": 10,
            "serviceArea": "Exchange",
            "urls": ["*.mail.protection.outlook.com", "*.mx.microsoft"],
            "ips": ["40.92.0.0/15", "104.47.0.0/17", "52.238.78.88/32", "2a01:111:f400::/48"],
        },
        {"id": 11, "urls": ["*.protection.outlook.com", "outlook.office.com"], "ips": ["52.96.0.0/14"]},
    ]
).encode()


Answer = tuple[int, dict[str, str], bytes] | Callable[[socket.socket], None]
"""Status, headers and body; or a function that answers on the connection itself."""


class Publishers:
    """A server without TLS that answers each path with its answer in `answers`, and notes each request."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append((self.path, dict(self.headers)))
                answer = outer.answers.get(self.path.partition("?")[0], (404, {}, b"not here"))
                if callable(answer):
                    answer(self.connection)
                    return
                status, headers, body = answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def publish(self, path: str, body: bytes) -> None:
        """Answers a path with this body and its length."""
        self.answers[path] = (200, {"Content-Length": str(len(body))}, body)

    def publish_all(self) -> None:
        """Answers all addresses that PUBLISHED has, except Google's old addresses."""
        self.publish("/apple.csv", APPLE)
        self.publish("/endpoints", MICROSOFT)
        for name in ("a", "b"):
            self.publish(f"/google/new/{name}.json", GOOGLE)
        self.publish("/openai.json", OPENAI)

    def lists(self) -> Mapping[str, PublishedList]:
        """Returns PUBLISHED with addresses of this server in place of the owners'."""
        return lists_at(self.url)

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


def lists_at(url: str) -> Mapping[str, PublishedList]:
    """Returns PUBLISHED with addresses of the `Publishers` at a URL."""
    parts = {
        "apple": ((f"{url}/apple.csv",),),
        "google": tuple((f"{url}/google/new/{name}.json", f"{url}/google/old/{name}.json") for name in "ab"),
        "microsoft-eop": ((f"{url}/endpoints?clientrequestid={RANDOM_ID}",),),
        "openai": ((f"{url}/openai.json",),),
    }
    return {name: replace(published, parts=parts[name]) for name, published in PUBLISHED.items()}


@pytest.fixture
def publishers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publishers]:
    """Returns a server without TLS, and lets `fetch` use http alone."""
    monkeypatch.setattr(network_fetch, "_opener", network_fetch.opener(urllib.request.HTTPHandler()))
    made = Publishers()
    yield made
    made.close()
