"""Raw replies of many commands in one round trip."""

from __future__ import annotations

import asyncio
import socket

import pytest
import redis

from pixel_server.store import raw_replies
from pixel_server.store.client import connect_async


def test_raw_replies_come_in_order_as_redis_sends_them(redis_url, client):
    client.hset("px:{1}:a", mapping={"x": "1", "y": "2"})
    client.set("px:{2}:b", "text")

    async def read():
        store = connect_async(redis_url, timeout=10.0)
        replies = await raw_replies.read(
            store, [("HGETALL", "px:{1}:a"), ("HKEYS", "px:{3}:c"), ("GET", "px:{2}:b")]
        )
        await store.aclose()
        return replies, await raw_replies.read(store, [])

    assert asyncio.run(read()) == ([[b"x", b"1", b"y", b"2"], [], b"text"], [])


def test_raw_replies_failed_command_spoils_no_later_reply(redis_url, client):
    client.set("px:{1}:a", "text")

    async def read():
        store = connect_async(redis_url, timeout=10.0)
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            await raw_replies.read(store, [("HKEYS", "px:{1}:a"), ("GET", "px:{1}:a")])
        replies = await raw_replies.read(store, [("EXISTS", "px:{1}:a")])
        await store.aclose()
        return replies

    assert asyncio.run(read()) == [1]


def test_raw_replies_server_that_does_not_answer_times_out():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"

        async def read():
            store = connect_async(url, timeout=0.2)
            with pytest.raises(redis.TimeoutError):
                await raw_replies.read(store, [("GET", "a")])
            await store.aclose()

        asyncio.run(read())
