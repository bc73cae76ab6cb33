"""The Redis sink closes connections that cannot be used."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pixel_server.collect.batch import Batch
from pixel_server.collect.redis_sink import RedisSink
from pixel_server.collect.spool.drain import AWAY_ERRORS
from pixel_server.store import keys, sentinel
from tests.redis_states import read_only
from tests.replicas import Pair
from tests.sentinels import Fakes, Program, names

BATCH = Batch(0, "0" * 28, 1, b"\x90")


async def until(condition: Callable[[], bool]) -> None:
    """Waits until a condition is true, for at most 60 s."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "says",
    [b"", b"-LOADING Redis is loading the dataset in memory\r\n", b"HTTP/1.1 400 Bad Request\r\n"],
    ids=["nothing", "loading", "noise"],
)
def test_redis_sink_useless_connection_is_closed(tmp_path: Path, says: bytes):
    """A Redis that hangs still accepts connections, so each try could leave a connection open for good."""
    path = str(tmp_path / "redis.sock")
    unretrieved: list[object] = []

    async def story() -> bytes:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unretrieved.append(context))
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            listening.setblocking(False)
            loop = asyncio.get_running_loop()
            sink = RedisSink(f"unix://{path}", timeout_seconds=0.2)
            trying = asyncio.create_task(sink.append([BATCH]))
            connection, _ = await loop.sock_accept(listening)
            with connection:
                received = await loop.sock_recv(connection, 1 << 16)
                await loop.sock_sendall(connection, says)
                with pytest.raises(AWAY_ERRORS):
                    await trying
                assert b"SCRIPT" in received
                return await asyncio.wait_for(loop.sock_recv(connection, 1), 60)

    assert asyncio.run(story()) == b""
    gc.collect()
    assert not unretrieved, "the log would show a failure that nobody waited for"


def test_redis_sink_idle_primary_becomes_replica_gives_it_up_until_it_is_primary_again(redis_url, client):
    """An old primary that became a replica answers on."""

    async def story() -> None:
        sink = RedisSink(redis_url, timeout_seconds=10.0)
        keeping = asyncio.create_task(sink.keep_connected())
        await until(lambda: sink.is_ready)
        with read_only(client):
            await until(lambda: not sink.is_ready)
            with pytest.raises(ConnectionError, match="it is a replica"):
                await sink.append([BATCH])
        await until(lambda: sink.is_ready)
        assert await sink.append([BATCH]) == [0]
        keeping.cancel()
        sink.close()

    asyncio.run(story())


def test_redis_sink_user_without_role_and_info_stores(redis_url, client):
    client.acl_setuser(
        "pixels", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-role", "-info"]
    )

    async def story() -> None:
        sink = RedisSink(f"{redis_url}&username=pixels&password=secret", timeout_seconds=10.0)
        keeping = asyncio.create_task(sink.keep_connected())
        await until(lambda: sink.is_ready)
        assert await sink.append([BATCH]) == [0]
        keeping.cancel()
        sink.close()

    try:
        asyncio.run(story())
    finally:
        client.acl_deluser("pixels")
    assert client.xlen(keys.hits(0)) == 1


@pytest.fixture
def old_and_new(tmp_path: Path) -> Iterator[tuple[Program, Program]]:
    """Returns two primaries."""
    programs = Program(tmp_path), Program(tmp_path)
    yield programs
    for program in programs:
        program.kill()


def test_redis_sink_sentinels_name_another_primary_leaves_the_old_primary(
    old_and_new: tuple[Program, Program], fakes: Fakes
):
    """The old primary answers on: it does not know that it was replaced."""
    old, new = old_and_new

    async def story() -> None:
        sink = RedisSink(fakes(*[names(old.port)] * 3), timeout_seconds=10.0)
        keeping = asyncio.create_task(sink.keep_connected())
        await until(lambda: sink.is_ready)
        assert await sink.append([BATCH]) == [0]
        fakes.reply(names(new.port))
        await until(lambda: new.client().info("clients")["connected_clients"] > 1)
        await until(lambda: sink.is_ready)
        assert await sink.append([BATCH._replace(sequence=2)]) == [0]
        keeping.cancel()
        sink.close()

    asyncio.run(story())
    assert [program.client().xlen(keys.hits(0)) for program in (old, new)] == [1, 1]


def test_redis_sink_sentinels_do_not_agree_for_long_gives_the_primary_up(
    old_and_new: tuple[Program, Program], fakes: Fakes, monkeypatch: pytest.MonkeyPatch
):
    """The primary may have been replaced by sentinels that this host does not reach."""
    monkeypatch.setattr(sentinel, "TRUST_SECONDS", 1.5)

    async def story() -> None:
        sink = RedisSink(fakes(*[names(old_and_new[0].port)] * 3), timeout_seconds=10.0)
        keeping = asyncio.create_task(sink.keep_connected())
        await until(lambda: sink.is_ready)
        fakes.reply(b"-ERR away\r\n")
        await until(lambda: not sink.is_ready)
        with pytest.raises(ConnectionError, match="2 of 3 sentinels must agree"):
            await sink.append([BATCH])
        keeping.cancel()
        sink.close()

    asyncio.run(story())


def test_redis_sink_replica_has_not_confirmed_raises_also_if_the_batch_is_repeated(pair: Pair):
    """WAIT on a connection that has written nothing would count every connected replica."""

    async def append() -> list[int]:
        sink = RedisSink(pair.address.url, timeout_seconds=1.0, replicas=1)
        try:
            await sink.warm_up()
            return await sink.append([BATCH])
        finally:
            sink.close()

    pair.replica.process.send_signal(signal.SIGSTOP)
    for _ in range(2):
        with pytest.raises(ConnectionError, match="0 of 1 replicas have confirmed"):
            asyncio.run(append())
    pair.replica.process.send_signal(signal.SIGCONT)
    pair.wait_until_replicated()
    assert asyncio.run(append()) == [1]
