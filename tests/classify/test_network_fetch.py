"""What a fetch takes and refuses, against a local server."""

from __future__ import annotations

import contextlib
import gzip
import socket
import time

import pytest

from pixel_server.classify import network_fetch
from pixel_server.classify.network_fetch import fetch
from pixel_server.classify.networks import NetworksError


def test_fetch_answer_is_cut_raises(publishers):
    publishers.answers["/cut"] = (200, {"Content-Length": "1000"}, b"x" * 999)
    with pytest.raises(NetworksError, match="ended early"):
        fetch(f"{publishers.url}/cut")
    chunked = {"Transfer-Encoding": "chunked"}
    publishers.answers["/chunk"] = (200, chunked, b"5\r\nhello\r\n5\r\nhel")
    with pytest.raises(NetworksError, match="IncompleteRead"):
        fetch(f"{publishers.url}/chunk")
    publishers.answers["/all"] = (200, {"Content-Length": "5"}, b"hello")
    assert fetch(f"{publishers.url}/all") == b"hello"


def test_fetch_answer_too_large_or_too_slow_raises(publishers, monkeypatch):
    publishers.answers["/"] = (200, {}, b"x" * (2 << 20))
    monkeypatch.setattr(network_fetch, "MAX_BYTES", 1 << 20)
    with pytest.raises(NetworksError, match="more than 1 MB"):
        fetch(f"{publishers.url}/")
    monkeypatch.setattr(network_fetch, "ANSWER_TIMEOUT_SECONDS", -1.0)
    with pytest.raises(NetworksError, match="took longer"):
        fetch(f"{publishers.url}/")


def test_fetch_silent_server_raises(publishers, monkeypatch):
    monkeypatch.setattr(network_fetch, "SILENCE_TIMEOUT_SECONDS", 0.2)
    silent = socket.create_server(("127.0.0.1", 0))
    with silent, pytest.raises(NetworksError, match="timed out"):
        fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/")


@pytest.mark.parametrize("target", ["https://127.0.0.1:1/", "ftp://127.0.0.1/x", "file:///etc/passwd", "//["])
def test_fetch_redirect_to_another_scheme_raises(publishers, target):
    publishers.answers["/"] = (302, {"Location": target}, b"")
    with pytest.raises(NetworksError, match=r"302|unknown url type: (https|ftp)|Invalid"):
        fetch(f"{publishers.url}/")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "file:///etc/passwd", "ftp://127.0.0.1/", "data:,x"])
def test_fetch_url_without_https_raises(url):
    with pytest.raises(NetworksError, match="unknown url type"):
        fetch(url)


def test_fetch_proxy_of_the_environment_is_not_used(publishers, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    publishers.answers["/"] = (200, {}, b"direct")
    assert fetch(f"{publishers.url}/") == b"direct"


def test_fetch_no_server_raises():
    with pytest.raises(NetworksError, match=r"https://127\.0\.0\.1:1/: .*refused"):
        fetch("https://127.0.0.1:1/")


def test_fetch_redirect_to_another_host_raises(publishers):
    other = publishers.url.replace("127.0.0.1", "localhost")
    publishers.answers["/"] = (302, {"Location": f"{other}/there"}, b"")
    publishers.answers["/there"] = (200, {}, b"a list")
    with pytest.raises(NetworksError, match="redirects to another host, 'localhost'"):
        fetch(f"{publishers.url}/")
    assert [path for path, _ in publishers.requests] == ["/"], "the other host was not asked"
    assert fetch(f"{publishers.url}/", ["localhost"]) == b"a list"


def test_fetch_second_redirect_to_another_host_raises(publishers):
    publishers.answers["/"] = (302, {"Location": "/next"}, b"")
    publishers.answers["/next"] = (302, {"Location": "http://portal.example/"}, b"")
    with pytest.raises(NetworksError, match=r"redirects to another host, 'portal\.example'"):
        fetch(f"{publishers.url}/")


def test_fetch_compressed_answer_is_never_unpacked(publishers):
    bomb = gzip.compress(bytes(300 << 20), 1)
    publishers.answers["/"] = (200, {"Content-Encoding": "gzip"}, bomb)
    with pytest.raises(NetworksError, match="is compressed"):
        fetch(f"{publishers.url}/")
    assert publishers.requests[0][1]["Accept-Encoding"] == "identity"


def test_fetch_answer_of_300_mb_is_left_at_the_limit(publishers):
    sent = []

    def endless(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(300):
                connection.sendall(bytes(1 << 20))
                sent.append(1)

    publishers.answers["/"] = endless
    with pytest.raises(NetworksError, match="more than 64 MB"):
        fetch(f"{publishers.url}/")
    assert len(sent) < 150, "the connection was closed"


def test_fetch_drops_of_an_answer_end_at_the_limit(publishers, monkeypatch):
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b".")
                time.sleep(0.01)

    monkeypatch.setattr(network_fetch, "ANSWER_TIMEOUT_SECONDS", 0.1)
    publishers.answers["/"] = drip
    with pytest.raises(NetworksError, match="took longer"):
        fetch(f"{publishers.url}/")


def test_fetch_request_tells_nothing_of_this_server(publishers):
    publishers.answers["/"] = (200, {}, b"a list")
    fetch(f"{publishers.url}/")
    [(_, headers)] = publishers.requests
    assert headers == {
        "Accept-Encoding": "identity",
        "Connection": "close",
        "Host": publishers.url.removeprefix("http://"),
        "User-Agent": "pixel-server",
    }
