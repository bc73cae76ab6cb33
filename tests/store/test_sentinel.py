"""Sentinels name the primary: a majority must agree, and clients follow a failover."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from pixel_server.store import sentinel
from pixel_server.store.client import connect, connect_async
from pixel_server.store.sentinel import AgreedPrimary, NoPrimaryError, ask_sync
from pixel_server.store_url import parse
from tests.sentinels import UNKNOWN_NAME, Fakes, Program, Watched, names
from tests.stack import until


@pytest.mark.parametrize(
    ("replies", "port"),
    [
        ([names(1)], 1),
        ([names(1), names(2), names(1)], 1),
        ([b"", names(3), UNKNOWN_NAME, names(3), names(3)], 3),
    ],
)
def test_ask_majority_agrees_returns_the_address(fakes: Fakes, replies, port):
    assert ask_sync(parse(fakes(*replies))) == ("127.0.0.1", port)


@pytest.mark.parametrize(
    ("replies", "texts"),
    [
        ([names(1), names(2)], ["2 of 2 sentinels must agree on the primary 'main'", "names 127.0.0.1:2"]),
        ([names(1), names(1), names(2), names(2)], ["3 of 4 sentinels must agree", "names 127.0.0.1:1"]),
        ([names(1), b"", UNKNOWN_NAME], ["does not answer within 0.2 s", "knows no 'main'"]),
        ([b"-NOAUTH Authentication required.\r\n"], ["does not name the primary", "answers NOAUTH"]),
        ([b"+OK\r\n", b"*2\r\n+a\r\n+b\r\n"], ["gives no address"]),
        ([UNKNOWN_NAME, UNKNOWN_NAME], ["no sentinel of redis+sentinel://", "`sentinel monitor`"]),
    ],
)
def test_ask_no_majority_raises_one_line(monkeypatch, fakes: Fakes, replies, texts):
    monkeypatch.setattr(sentinel, "ASK_SECONDS", 0.2)
    with pytest.raises(redis.ConnectionError) as raised:
        ask_sync(parse(fakes(*replies)))
    line = str(raised.value)
    assert "\n" not in line
    assert [text for text in texts if text not in line] == []


def test_ask_sentinel_is_away_is_named(fakes: Fakes):
    with pytest.raises(NoPrimaryError, match=r"127.0.0.1:1 does not answer \(.*111.*\)"):
        ask_sync(parse(fakes(names(1)).replace("/main", ",127.0.0.1:1/main")))


def test_agreed_primary_sentinels_go_away_is_trusted_for_a_time(monkeypatch, fakes: Fakes):
    clock = [100.0]
    monkeypatch.setattr(sentinel.time, "monotonic", lambda: clock[0])
    primary = AgreedPrimary(parse(fakes(names(1))))
    assert primary.refresh_sync() == ("127.0.0.1", 1)
    monkeypatch.setattr(sentinel, "ask_sync", _disagree)
    clock[0] += sentinel.TRUST_SECONDS - 0.1
    assert primary.refresh_sync() == ("127.0.0.1", 1)
    clock[0] += sentinel.CHECK_SECONDS
    with pytest.raises(NoPrimaryError):
        primary.refresh_sync()


def test_agreed_primary_sentinels_hang_lets_all_callers_wait_for_one_answer(fakes: Fakes):
    url = fakes(b"", b"", b"")
    requests = []
    for fake in fakes.servers:
        fake.process_request = lambda *request: requests.append(request)  # type: ignore[method-assign]

    async def story() -> list[object]:
        client = connect_async(url)
        try:
            return await asyncio.gather(*(client.get("x") for _ in range(20)), return_exceptions=True)
        finally:
            await client.aclose()

    assert {type(error) for error in asyncio.run(story())} == {NoPrimaryError}
    assert len(requests) < 20


def _disagree(url: object) -> None:
    raise NoPrimaryError("the sentinels disagree")


def test_client_failover_is_followed(watched: Watched):
    url, new_port = watched.url, watched.replica.port

    async def port_of_async() -> int:
        client = connect_async(url)
        try:
            async with asyncio.timeout(60):
                while True:
                    await client.set("async", "x")
                    info = await client.info("server")
                    if info["tcp_port"] == new_port:
                        return int(info["tcp_port"])
                    await asyncio.sleep(0.02)
        finally:
            await client.aclose()

    with connect(url, timeout=2.0) as client:
        assert client.info("server")["tcp_port"] == watched.primary.port
        watched.fail_over()
        until(lambda: client.info("server")["tcp_port"] == new_port)
        client.set("sync", "x")
    assert asyncio.run(port_of_async()) == new_port
    with watched.primary.client() as primary:
        assert primary.mget("sync", "async") == [b"x", b"x"]


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Program]:
    replica = Program(tmp_path, "replicaof 127.0.0.1 1")
    yield replica
    replica.kill()


def test_client_primary_is_a_replica_raises_one_line(replica: Program, fakes: Fakes):
    url = fakes(names(replica.port))
    message = "the primary that the sentinels name is a replica"
    with connect(url) as client, pytest.raises(redis.ConnectionError, match=message):
        client.get("x")

    async def get() -> None:
        client = connect_async(url)
        try:
            await client.get("x")
        finally:
            await client.aclose()

    with pytest.raises(redis.ConnectionError, match=message):
        asyncio.run(get())


def test_client_old_primary_answers_on_is_left(tmp_path: Path, fakes: Fakes):
    """The sentinels name another primary while the connection to the old primary is good."""
    programs = [Program(tmp_path), Program(tmp_path)]
    url = fakes(*[names(programs[0].port)] * 3)
    with connect(url) as client:
        client.set("old", "x")
        fakes.reply(names(programs[1].port))
        until(lambda: client.set("new", "x") and programs[1].client().exists("new"))
    for program in programs:
        program.kill()
