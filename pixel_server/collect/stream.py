"""The sink that is Redis: all batches of a group in one round trip, each appended once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import sha1

from redis.exceptions import NoScriptError

from pixel_server import hit, producer
from pixel_server.collect.recorder import Batch
from pixel_server.store import AsyncRedis

_SHA = sha1(producer.APPEND.encode(), usedforsecurity=False).hexdigest()
_FIELD = str(hit.FORMAT)


class Stream:
    """See `recorder.Sink`."""

    def __init__(self, store: AsyncRedis) -> None:
        self._store = store

    async def append(self, batches: Sequence[Batch]) -> list[int]:
        try:
            return await self._append(batches)
        except NoScriptError:
            await self._store.script_load(producer.APPEND)
            return await self._append(batches)

    async def _append(self, batches: Sequence[Batch]) -> list[int]:
        now = int(time.time() * 1000)
        pipe = self._store.pipeline(transaction=False)
        for shard, made_by, sequence, data in batches:
            pipe.evalsha(_SHA, *producer.append_arguments(shard, made_by, sequence, now, _FIELD, data))
        return list(await pipe.execute())
