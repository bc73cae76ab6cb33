"""The endpoint behind /o/ and /p/: raw ASGI, on any server."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send

from pixel_server.collect import answers
from pixel_server.collect.door import Accepted, Door
from pixel_server.collect.head import Head
from pixel_server.collect.recorder import Recorder
from pixel_server.image import GIF


class Pixel:
    """Answers when the hit is stored, and always with the image. prefix: a path that may stand before."""

    def __init__(self, door: Door, recorder: Recorder, prefix: bytes = b"") -> None:
        self._door = door
        self._prefix = prefix
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: bytes = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape")
        path = path.removeprefix(scope.get("root_path", "").encode()).removeprefix(self._prefix)
        client = scope.get("client")
        peer = client[0] if client and client[0] else None
        answer = self._door.check(
            scope["method"], path.partition(b"?")[0], scope["query_string"], Head(scope["headers"]), peer
        )
        if isinstance(answer, Accepted):
            answer = await self._record(answer)
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else GIF})

    async def _record(self, hit: Accepted) -> answers.Answer:
        waiting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def answered(stored: bool) -> None:
            if not waiting.done():
                waiting.set_result(stored)

        if not self._recorder.record(hit.shard, hit.data, answered):
            return answers.FULL
        return answers.RECORDED if await waiting else answers.NOT_STORED
