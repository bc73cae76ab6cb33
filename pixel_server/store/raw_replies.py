"""Reads many small values in one round trip, with less than half the CPU of a pipeline.

A pipeline of redis-py packs commands in Python, sets a timeout for each reply, and converts each reply. That
takes longer than to read a hash of 60 fields. Here hiredis packs the commands, the whole round trip has one
timeout, and replies stay as Redis sends them.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis
import redis

from pixel_server.store import cluster_calls
from pixel_server.store.async_cluster import AsyncClusterRedis
from pixel_server.store.protocols import AsyncRedis, Value

_Command = tuple[Value, ...]
_pack_command = cast(Callable[[_Command], bytes], hiredis.pack_command)


async def read(store: AsyncRedis, commands: Sequence[_Command]) -> list[Any]:
    """Returns the replies to commands that only read. A hash is a list: `[field, value, field, value]`.

    Raises redis.RedisError if one of the commands fails.
    """
    if not commands:
        return []
    client: object = store
    if isinstance(client, AsyncClusterRedis):
        replies = await client.run([cluster_calls.request((words, {})) for words in commands])
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies
    return await _exchange(cast(Any, client).connection_pool, commands)


async def _exchange(pool: Any, commands: Sequence[_Command]) -> list[Any]:
    connection = await pool.get_connection()
    try:
        async with asyncio.timeout(connection.socket_timeout):
            await connection.send_packed_command(b"".join(map(_pack_command, commands)))
            return [await connection.read_response(timeout=math.inf) for _ in commands]
    except BaseException as error:
        await connection.disconnect(nowait=True)  # replies that nobody has read may follow
        if isinstance(error, TimeoutError):
            raise redis.TimeoutError(f"no answer within {connection.socket_timeout:g} s") from error
        raise
    finally:
        await pool.release(connection)
