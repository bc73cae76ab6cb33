"""Published lists are refreshed whole or not at all."""

from __future__ import annotations

import datetime
import errno
import json
import os
import random
import socket
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest

from pixel_server.classify import network_feeds
from pixel_server.classify.network_feeds import PUBLISHED, fetch, refresh
from pixel_server.classify.networks import Networks, NetworksError

TODAY = datetime.date(2026, 9, 21)
OLD = "# source: an old one\n# date: 2026-01-01\n192.0.2.0/24\n"


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


def csv(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join([*rows, ""]))
    return path


def google(*networks: str) -> bytes:
    prefixes = [{"ipv6Prefix" if ":" in network else "ipv4Prefix": network} for network in networks]
    return json.dumps({"creationTime": "2026-09-20T14:46:08.000000", "prefixes": prefixes}).encode()


GOOGLE = google(*(f"66.249.{n}.0/27" for n in range(64, 192)), "2001:4860:4801:10::/64")


@pytest.fixture
def kept(tmp_path):
    """Returns a directory of lists with an old list of Apple."""
    directory = tmp_path / "networks"
    directory.mkdir()
    (directory / "apple.txt").write_text(OLD)
    return directory


def assert_nothing_changed(directory: Path) -> None:
    assert {path.name: path.read_text() for path in directory.iterdir()} == {"apple.txt": OLD}


def test_published_lists_have_https_urls_and_bounds():
    for each in PUBLISHED.values():
        assert all(url.startswith("https://") for url in each.urls)
        assert 0 < each.min_rows < each.max_rows


def test_refresh_file_replaces_the_list_with_the_date_of_the_file(tmp_path, kept):
    path = csv(tmp_path / "egress.csv", ["# a comment", "", *ROWS])
    os.utime(path, (1_788_000_000, 1_788_000_000))
    taken = refresh("apple", kept, [path], TODAY)
    assert (taken.name, taken.rows, taken.date) == ("apple", 60_000, datetime.date(2026, 8, 29))
    found = Networks.load(kept)
    [apple] = [each for each in found.lists if each.name == "apple"]
    assert (apple.ranges, apple.date, apple.is_operators) == (taken.ranges, taken.date, True)
    assert apple.source == "https://mask-api.icloud.com/egress-ip-ranges.csv (from a file)"
    assert found.names(ip_address("172.224.0.1").packed) == ("apple",)
    assert found.names(ip_address("192.0.2.1").packed) == (), "the old one is gone"
    assert [path.name for path in kept.iterdir()] == ["apple.txt"]


def test_refresh_missing_directory_is_created(tmp_path):
    refresh("apple", tmp_path / "data" / "networks", [csv(tmp_path / "egress.csv", ROWS)])
    assert (tmp_path / "data" / "networks" / "apple.txt").exists()


def test_refresh_list_of_full_size_takes_seconds(tmp_path, kept):
    rows = apple_rows(285_000)
    path = csv(tmp_path / "egress.csv", rows)
    began = time.process_time()
    taken = refresh("apple", kept, [path])
    found = Networks.load(kept)
    assert time.process_time() - began < 30, "seconds of CPU; it takes some 3"
    assert taken.rows == 285_000
    assert taken.ranges < 240_000, "all of IPv4 touches"
    for row in random.Random(1).sample(rows, 1000):
        network = row.partition("/")[0]
        assert found.names(ip_address(network).packed) == ("apple",)


def test_refresh_several_files_become_one_list(tmp_path, kept):
    (tmp_path / "a.json").write_bytes(GOOGLE)
    (tmp_path / "b.json").write_bytes(google("203.0.113.0/24", "66.249.64.0/27"))
    os.utime(tmp_path / "b.json", (1_788_000_000, 1_788_000_000))
    taken = refresh("google", kept, [tmp_path / "a.json", tmp_path / "b.json"], TODAY)
    assert (taken.rows, taken.date) == (131, datetime.date(2026, 8, 29)), "as old as the oldest"
    found = Networks.load(kept)
    for address in ("66.249.64.31", "203.0.113.1", "2001:4860:4801:10::1"):
        assert found.names(ip_address(address).packed) == ("google",)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([*ROWS, "192.0.2.300/32,US,,,"], "row 60001: '192.0.2.300/32' is not a network"),
        (["network,country", *ROWS], "row 1: 'network' is not a network"),
        ([*ROWS, "<!DOCTYPE html>"], "is not a network"),
        ([*ROWS, ",US,,,"], "'' is not a network"),
        ([*ROWS, "172.224.0.1/24"], "bits set"),
        (ROWS[:49_999], "49,999 rows, where 50,000 to 2,000,000 are expected"),
        ([], "no rows"),
        ([*ROWS, "16.0.0.0/7"], "'16.0.0.0/7' is wider than /8"),
        ([*ROWS, "0.0.0.0/0"], "wider"),
        ([*ROWS, "2a02::/15"], "'2a02::/15' is wider than /16"),
        ([*ROWS, "::/0"], "wider"),
        ([*ROWS, *(f"{n}.0.0.0/9" for n in (11, 12, 13))], "more IPv4 addresses than a /8"),
        ([*ROWS, "2a03::/17", "2a04::/17", "2a05::/17"], "more IPv6 addresses than a /16"),
    ],
)
def test_refresh_bad_rows_raises_and_keeps_the_old_list(tmp_path, kept, rows, why):
    with pytest.raises(NetworksError) as raised:
        refresh("apple", kept, [csv(tmp_path / "egress.csv", rows)])
    assert why in str(raised.value)
    assert str(raised.value).isprintable()
    assert_nothing_changed(kept)


def test_refresh_last_row_is_cut_raises(tmp_path, kept):
    path = tmp_path / "egress.csv"
    path.write_text("\n".join(ROWS)[: -len("6f7:ffff:e::/64,DE,DE-BY,München,")])
    with pytest.raises(NetworksError, match="row 60000"):
        refresh("apple", kept, [path])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not a list of prefixes"),
        (b"<html>", "not a list of prefixes"),
        (b"[]", "not a list of prefixes"),
        (b'{"prefixes": {}}', "not a list of prefixes"),
        (b'{"other": []}', "not a list of prefixes"),
        (b'{"prefixes": []}', "no rows"),
        (b'{"prefixes": [7]}', "not a list of prefixes"),
        (b'{"prefixes": [{"ipv4Prefix": 7}]}', "not a list of prefixes"),
        (
            b'{"prefixes": [{"ipv4Prefix": "192.0.2.0/24"}, {"service": "x"}]}',
            "prefixes[1]: '' is not a network",
        ),
        (b'{"x": ' + b"[" * 100_000, "not a list of prefixes"),
        (b'{"prefixes": [{"ipv4Prefix": "\xff"}]}', "not a list of prefixes"),
        (GOOGLE[:-9], "not a list of prefixes"),
        (google("192.0.2.0/24", "192.0.2.0"), "2 rows, where 100"),
        (google(*["192.0.2.0/24"] * 100, "192.0.2.0/x"), "prefixes[100]: '192.0.2.0/x' is not a network"),
    ],
)
def test_refresh_bad_json_raises_and_keeps_the_old_list(tmp_path, kept, data, why):
    (tmp_path / "bot.json").write_bytes(data)
    with pytest.raises(NetworksError) as raised:
        refresh("google", kept, [tmp_path / "bot.json"])
    assert why in str(raised.value)
    assert str(raised.value).isprintable()
    assert_nothing_changed(kept)


def test_refresh_unreadable_or_large_file_raises(tmp_path, kept, monkeypatch):
    with pytest.raises(NetworksError, match="No such file"):
        refresh("apple", kept, [tmp_path / "none.csv"])
    with pytest.raises(NetworksError, match="Is a directory"):
        refresh("apple", kept, [tmp_path])
    monkeypatch.setattr(network_feeds, "MAX_BYTES", 1 << 20)
    with pytest.raises(NetworksError, match="more than 1 MB"):
        refresh("apple", kept, [csv(tmp_path / "egress.csv", ROWS)])
    assert_nothing_changed(kept)


def test_refresh_too_many_rows_raises(tmp_path, kept):
    (tmp_path / "bot.json").write_bytes(google(*["192.0.2.0/24"] * 100_001))
    with pytest.raises(NetworksError, match="more than 100,000 rows"):
        refresh("google", kept, [tmp_path / "bot.json"])


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_refresh_write_fails_keeps_the_old_list(tmp_path, kept, monkeypatch, error, call):
    def broken(*_):
        assert (kept / "apple.txt").read_text() == OLD
        raise error

    path = csv(tmp_path / "egress.csv", ROWS)
    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), broken)
    with pytest.raises((NetworksError, KeyboardInterrupt)) as raised:
        refresh("apple", kept, [path])
    if isinstance(error, OSError):
        assert str(raised.value) == f"{kept}/apple.txt: No space left on device"
    assert_nothing_changed(kept)


def test_refresh_killed_while_writing_keeps_the_old_list(tmp_path, kept):
    path = csv(tmp_path / "egress.csv", ROWS)
    child = os.fork()
    if not child:
        try:
            os.fsync = lambda _: os.kill(os.getpid(), 9)
            refresh("apple", kept, [path])
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    assert (kept / "apple.txt").read_text() == OLD
    assert len(list(kept.iterdir())) == 2, "its draft is left"
    assert Networks.load(kept).names(ip_address("192.0.2.1").packed) == ("apple",)
    assert refresh("apple", kept, [path]).rows == 60_000


class Server:
    """An HTTP server that answers each path with its status, headers and body in `answers`."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers["User-Agent"]))
                status, headers, body = outer.answers[self.path]
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


@pytest.fixture
def server(monkeypatch):
    """Returns a server without TLS, and lets `fetch` use http alone."""
    monkeypatch.setattr(network_feeds, "_opener", network_feeds.opener(urllib.request.HTTPHandler()))
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def publish(monkeypatch, name: str, urls: tuple[str, ...]) -> None:
    was = PUBLISHED[name]
    made = network_feeds.PublishedList(was.source, urls, was.parse, was.min_rows, was.max_rows, was.licence)
    monkeypatch.setattr(network_feeds, "PUBLISHED", {**PUBLISHED, name: made})


def test_refresh_several_urls_become_one_list(server, kept, monkeypatch):
    server.answers["/a"] = (200, {}, GOOGLE)
    server.answers["/b"] = (302, {"Location": "/c"}, b"")
    server.answers["/c"] = (200, {}, google("203.0.113.0/24"))
    publish(monkeypatch, "google", (f"{server.url}/a", f"{server.url}/b"))
    assert refresh("google", kept, today=TODAY).rows == 130
    [about] = [each for each in Networks.load(kept).lists if each.name == "google"]
    assert about.date == TODAY
    assert about.source == "https://developers.google.com/static/search/apis/ipranges/"
    assert server.asked == [("/a", "pixel-server"), ("/b", "pixel-server"), ("/c", "pixel-server")]


def test_refresh_url_fails_keeps_the_old_list(server, kept, monkeypatch):
    server.answers["/a"] = (200, {}, GOOGLE)
    server.answers["/b"] = (404, {}, b"no")
    publish(monkeypatch, "google", (f"{server.url}/a", f"{server.url}/b"))
    with pytest.raises(NetworksError, match=f"{server.url}/b: HTTP Error 404"):
        refresh("google", kept)
    assert_nothing_changed(kept)


def test_fetch_answer_is_cut_raises(server):
    server.answers["/cut"] = (200, {"Content-Length": "1000"}, b"x" * 999)
    with pytest.raises(NetworksError, match="ended early"):
        fetch(f"{server.url}/cut")
    chunked = {"Transfer-Encoding": "chunked"}
    server.answers["/chunk"] = (200, chunked, b"5\r\nhello\r\n5\r\nhel")
    with pytest.raises(NetworksError, match="IncompleteRead"):
        fetch(f"{server.url}/chunk")
    server.answers["/all"] = (200, {"Content-Length": "5"}, b"hello")
    assert fetch(f"{server.url}/all") == b"hello"


def test_fetch_answer_too_large_or_too_slow_raises(server, monkeypatch):
    server.answers["/"] = (200, {}, b"x" * (2 << 20))
    monkeypatch.setattr(network_feeds, "MAX_BYTES", 1 << 20)
    with pytest.raises(NetworksError, match="more than 1 MB"):
        fetch(f"{server.url}/")
    monkeypatch.setattr(network_feeds, "ANSWER_TIMEOUT_SECONDS", -1.0)
    with pytest.raises(NetworksError, match="took longer"):
        fetch(f"{server.url}/")


def test_fetch_silent_server_raises(server, monkeypatch):
    monkeypatch.setattr(network_feeds, "SILENCE_TIMEOUT_SECONDS", 0.2)
    silent = socket.create_server(("127.0.0.1", 0))
    with silent, pytest.raises(NetworksError, match="timed out"):
        fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/")


@pytest.mark.parametrize("target", ["https://127.0.0.1:1/", "ftp://127.0.0.1/x", "file:///etc/passwd", "//["])
def test_fetch_redirect_to_another_scheme_raises(server, target):
    server.answers["/"] = (302, {"Location": target}, b"")
    with pytest.raises(NetworksError, match=r"302|unknown url type: (https|ftp)|Invalid"):
        fetch(f"{server.url}/")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "file:///etc/passwd", "ftp://127.0.0.1/", "data:,x"])
def test_fetch_url_without_https_raises(url):
    with pytest.raises(NetworksError, match="unknown url type"):
        fetch(url)


def test_fetch_proxy_of_the_environment_is_not_used(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    server.answers["/"] = (200, {}, b"direct")
    assert fetch(f"{server.url}/") == b"direct"


def test_fetch_no_server_raises():
    with pytest.raises(NetworksError, match=r"https://127\.0\.0\.1:1/: .*refused"):
        fetch("https://127.0.0.1:1/")
