"""Connections to Redis that end silently are closed soon, and the work continues."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

import pytest

from pixel_server import hit
from pixel_server.collect import redis_sink
from pixel_server.collect.batch import Batch
from pixel_server.hit import Hit
from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.client import connect, connect_async, keepalive_options
from tests.chaos.proxy import Proxy
from tests.stack import until

OPTIONS = keepalive_options()


@pytest.fixture
def proxy(redis_url: str) -> Proxy:
    return Proxy(unquote(urlsplit(redis_url).path))


@pytest.fixture
def url(proxy: Proxy) -> str:
    return f"redis://127.0.0.1:{proxy.port}/0"


def options(connection: socket.socket) -> dict[int, int]:
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    return {option: connection.getsockopt(socket.IPPROTO_TCP, option) for option in OPTIONS}


def test_connect_tcp_is_probed_by_the_kernel_and_waits_a_bounded_time(url):
    with connect(url) as client:
        client.ping()
        connection = client.connection_pool.get_connection()
        assert options(connection._sock) == OPTIONS
        assert 0 < connection._sock.gettimeout() <= 5


def test_connect_async_and_stream_tcp_are_probed_by_the_kernel(url):
    async def story() -> list[dict[int, int]]:
        async with connect_async(url) as client:
            await client.ping()
            connection = await client.connection_pool.get_connection()
            writing = redis_sink.RedisSink(url, timeout_seconds=5.0)
            await writing.append([Batch(0, "0" * 28, 1, hit.encode_batch([]))])
            found = [connection._writer.transport, writing._connection._transport]
            seen = [options(one.get_extra_info("socket")) for one in found]
            writing.close()
            await client.connection_pool.release(connection)
            return seen

    assert asyncio.run(story()) == [OPTIONS, OPTIONS]


@pytest.fixture
def workers(url: str, settings, secrets: Secrets) -> Iterator[None]:
    """Starts `pixel-server work` behind the proxy."""
    Secrets.load_or_create(settings.data)
    process = subprocess.Popen(
        [sys.executable, "-m", "pixel_server", "work"],
        env={**os.environ, "REDIS_URL": url, "PIXEL_DATA_DIR": str(settings.data)},
    )
    yield
    process.terminate()
    process.wait(60)


def test_workers_connections_die_in_silence_count_on(workers, client, proxy, settings):
    def add() -> None:
        for shard in range(settings.shards):
            batch = hit.encode_batch([hit.encode(Hit(1_000_000_000_000, "none", hit.EMAIL, "GET"))])
            client.xadd(keys.hits(shard), {"1": batch})

    def is_counted() -> bool:
        return not any(client.xlen(keys.hits(shard)) for shard in range(settings.shards))

    until(lambda: client.zcard(keys.WORKERS))
    add()
    until(is_counted)
    assert proxy.go_silent() > 1
    add()
    until(is_counted)
    seen = client.zrange(keys.WORKERS, 0, -1, withscores=True)
    until(lambda: seen != client.zrange(keys.WORKERS, 0, -1, withscores=True))
