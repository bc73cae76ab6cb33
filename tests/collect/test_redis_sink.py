"""The Redis sink closes connections that cannot be used."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from pixel_server.collect.batch import Batch
from pixel_server.collect.redis_sink import RedisSink
from pixel_server.collect.spool.drain import AWAY_ERRORS


@pytest.mark.parametrize(
    "says",
    [b"", b"-LOADING Redis is loading the dataset in memory\r\n", b"HTTP/1.1 400 Bad Request\r\n"],
    ids=["nothing", "loading", "noise"],
)
def test_redis_sink_useless_connection_is_closed(tmp_path: Path, says: bytes):
    """A Redis that hangs still accepts connections, so each try could leave a connection open for good."""
    path = str(tmp_path / "redis.sock")

    async def story() -> bytes:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            listening.setblocking(False)
            loop = asyncio.get_running_loop()
            sink = RedisSink(f"unix://{path}", timeout_seconds=0.2)
            trying = asyncio.create_task(sink.append([Batch(0, "0" * 28, 1, b"\x90")]))
            connection, _ = await loop.sock_accept(listening)
            with connection:
                received = await loop.sock_recv(connection, 1 << 16)
                await loop.sock_sendall(connection, says)
                with pytest.raises(AWAY_ERRORS):
                    await trying
                assert b"SCRIPT" in received
                return await asyncio.wait_for(loop.sock_recv(connection, 1), 5)

    assert asyncio.run(story()) == b""
