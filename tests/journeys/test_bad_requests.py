"""Bad requests: each gets a clear answer, nothing is half-written, and the server goes on."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pixel_server import hit
from pixel_server.hit import Hit
from pixel_server.store import client, keys
from tests.collect import corpus
from tests.collect.corpus import Answer, Case
from tests.conftest import API_KEY
from tests.stack import PROGRAM, free_port, until

HANG = 30.0
"""Seconds without an answer after which the server counts as hanging."""
REFERENCE = (
    "from pixel_server import logs; from pixel_server.run import listen, web_process; import sys; "
    "logs.configure(); "
    "web_process.serve(listen.bind('127.0.0.1', int(sys.argv[1])), web_process.PLAIN_PROTOCOL)"
)
PROGRAMS = {
    "serve": [PROGRAM, "serve", "--port"],
    "reference": [sys.executable, "-c", REFERENCE],
}


class Server:
    """The real server, on a free port and with an empty store."""

    def __init__(self, program: list[str], redis_url: str, data: Path) -> None:
        self.port = free_port()
        self.store = client.connect(redis_url)
        self.store.flushall()
        self._log = data / "log"
        with self._log.open("wb") as out:
            self.process = subprocess.Popen(
                [*program, str(self.port)],
                env={
                    **os.environ,
                    "REDIS_URL": redis_url,
                    "PIXEL_DATA_DIR": str(data),
                    "PIXEL_SECRET": corpus.SECRET,
                    "PIXEL_RECIPIENT_SECRET": corpus.RECIPIENT_SECRET,
                    "PIXEL_API_KEY": API_KEY,
                },
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        until(lambda: self.process.poll() is not None or self._answers())
        assert self.process.poll() is None, self.log()
        for name, fields in corpus.WEB.items():
            self.api("POST", "", {"id": name, "name": name, "kind": "web", **fields})
        self.api("DELETE", f"/{corpus.GONE}")

    def api(self, method: str, path: str, body: object = None) -> None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/campaigns{path}",
            json.dumps(body).encode() if body else None,
            {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"},
            method=method,
        )
        urllib.request.urlopen(request, timeout=HANG).close()

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), HANG)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def log(self) -> str:
        return self._log.read_text()

    def take_hits(self, due: int = 0) -> list[Hit]:
        """Returns the hits stored since the last call, without their times and the ids of new visitors.

        due: number of hits to wait for. If Redis was slow, they come by way of the spool.
        """
        new_hits: list[Hit] = []
        until(lambda: new_hits.extend(self._take()) or len(new_hits) >= due)
        return [
            msgspec.structs.replace(one, time=0, visitor=b"" if one.is_new else one.visitor)
            for one in new_hits
        ]

    def _take(self) -> list[Hit]:
        new_hits: list[Hit] = []
        for shard in range(4):
            for _, fields in self.store.xrange(keys.hits(shard)):
                for batch in fields.values():
                    hits, unreadable = hit.decode_batch(batch)
                    assert unreadable == []
                    new_hits += hits
            self.store.delete(keys.hits(shard))
        return new_hits

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(HANG)

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except OSError:
            return False
        return True


@pytest.fixture(scope="module", params=PROGRAMS)
def server(
    request: pytest.FixtureRequest, valkey_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    server = Server(PROGRAMS[request.param], valkey_url, tmp_path_factory.mktemp("server"))
    yield server
    assert server.stop() in (0, -15)
    server.store.close()


class Connection:
    """A client that sends any bytes, and reads answers as they arrive."""

    def __init__(self, server: Server) -> None:
        self._socket = server.connect()
        self._read = b""

    def send(self, data: bytes) -> bool:
        """Returns whether the server has not closed the connection."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def _more(self) -> bool:
        try:
            data = self._socket.recv(65_536)
        except ConnectionResetError:  # the server closed the connection during the write
            return False
        self._read += data
        return bool(data)

    def answer(self, expected: Answer) -> tuple[bytes, bytes]:
        """Returns (head without its date, body) of the next answer. The body of a HEAD is empty."""
        while b"\r\n\r\n" not in self._read:
            assert self._more(), f"closed, where {expected.status!r} was due, after {self._read!r}"
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: (\d+)", head)
        size = int(length[1]) if length and expected.body else 0
        while len(self._read) < size:
            assert self._more(), f"closed within a body, after {self._read!r}"
        body, self._read = self._read[:size], self._read[size:]
        head = re.sub(rb"\r\ndate: [^\r]{29}(?=\r\n)", b"", head)
        head = re.sub(rb"(set-cookie: px_shop=)[\w-]{40}(; .*; Max-Age=)[1-9]\d{6,7};", rb"\1*\2*;", head)
        return head + b"\r\n\r\n", body

    def rest(self) -> bytes:
        """Returns all bytes until the server closes the connection."""
        while self._more():
            pass
        self._socket.close()
        return self._read


def check(connection: Connection, expected: Answer) -> None:
    head, body = connection.answer(expected)
    assert head.startswith(b"HTTP/1.1 " + expected.status + b"\r\n"), head
    assert (b"connection: close" in head) == expected.close
    if expected.pixel is not None:
        assert (head, body) == (expected.head, expected.content)


def play(connection: Connection, case: Case) -> None:
    due = list(case.answers)
    for part in case.send:
        if part is corpus.WAIT:
            check(connection, due.pop(0))
        elif not connection.send(corpus.filled(part)):
            break
        elif len(part) < 16:
            time.sleep(0.0005)  # so that the server reads this piece alone
    for expected in due:
        check(connection, expected)
    if case.stays:
        # One more request shows that nothing else was written to the connection.
        connection.send(corpus.request(b"/o/probe.gif", b"Connection: close"))
        check(connection, corpus.last(corpus.BAD_TOKEN))
    assert connection.rest() == b""


@pytest.mark.parametrize("case", corpus.CASES, ids=[case.name for case in corpus.CASES])
def test_server_each_case_gets_its_answer_and_its_hits(case: Case, server: Server):
    try:
        play(Connection(server), case)
        play(Connection(server), FENCE)  # hits are stored in order, so the case's hits are stored by now
    finally:
        stored = server.take_hits(len(case.hits) + len(FENCE.hits))
    assert sorted(stored, key=repr) == sorted([*case.hits, *FENCE.hits], key=repr)
    assert not re.search("traceback=|Invalid HTTP|upgrade", server.log()), "strangers write no log"


FENCE = corpus.PLAIN[1]


def test_corpus_case_names_are_unique():
    assert len({case.name for case in corpus.CASES}) == len(corpus.CASES)


def test_server_client_that_stops_halfway_is_closed(server: Server):
    for start in (b"", b"GET", corpus.request()[:-2], corpus.request(corpus.PAGE, b"Content-Length: 9")[:-2]):
        connection = Connection(server)
        connection.send(start)
        connection._socket.shutdown(socket.SHUT_WR)
        assert connection.rest() == b""
    play(Connection(server), FENCE)
    assert server.take_hits(len(FENCE.hits)) == list(FENCE.hits)


def test_server_slow_clients_do_not_delay_others(server: Server):
    half = len(corpus.request()) // 2
    slow = [Connection(server) for _ in range(50)]
    for connection in slow:
        connection.send(corpus.request()[:half])
    play(Connection(server), FENCE)
    for connection in slow:
        connection.send(corpus.request()[half:])
    for connection in slow:
        check(connection, corpus.RECORDED)
    assert len(server.take_hits(51)) == 51


def test_server_client_that_does_not_wait_is_recorded(server: Server):
    for _ in range(20):
        connection = Connection(server)
        connection.send(corpus.request())
        connection._socket.close()
    play(Connection(server), FENCE)
    until(lambda: sum(server.store.xlen(keys.hits(shard)) for shard in range(4)) > 1)
    assert {one.campaign for one in server.take_hits()} == {"mail", corpus.SITE}
    assert "traceback=" not in server.log()
