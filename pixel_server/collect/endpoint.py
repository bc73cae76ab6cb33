"""The endpoint behind /o/ and /p/: raw ASGI, on any server."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send

from pixel_server.collect import beacon, responses
from pixel_server.collect.admission import PAGE, Accepted, Admission
from pixel_server.collect.image import GIF
from pixel_server.collect.recorder import Recorder
from pixel_server.collect.request_head import RequestHead
from pixel_server.collect.responses import Answer
from pixel_server.slug import is_slug_bytes


class PixelEndpoint:
    """Answers when the hit is stored, and always with the image. prefix: a path that may stand before."""

    def __init__(self, admission: Admission, recorder: Recorder, prefix: bytes = b"") -> None:
        self._admission = admission
        self._prefix = prefix
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: bytes = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape")
        path = path.removeprefix(scope.get("root_path", "").encode()).removeprefix(self._prefix)
        path = path.partition(b"?")[0]
        client = scope.get("client")
        peer = client[0] if client and client[0] else None
        method, head = scope["method"], RequestHead(scope["headers"])
        found: Answer | Accepted | None
        is_beacon = method in ("POST", "OPTIONS") and path.startswith(PAGE) and is_slug_bytes(path[3:])
        if is_beacon:
            found = await self._beacon(method, path[3:].decode(), head, peer, receive)
        else:
            found = self._admission.admit(method, path, scope["query_string"], head, peer)
        if isinstance(found, Accepted):
            found = await self._record(found)
        if found is None:
            return
        if is_beacon:
            found = beacon.answer(found, head.headers.get(b"origin"))
        await send({"type": "http.response.start", "status": found.status, "headers": found.headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else GIF})

    async def _beacon(
        self, method: str, campaign: str, head: RequestHead, peer: str | None, receive: Receive
    ) -> Answer | Accepted | None:
        """None: the client has gone before it had said all."""
        if (refused := self._admission.check_beacon(method, campaign, head)) is not None:
            return refused
        said = await beacon.read(head.headers, receive)
        return (
            said
            if said is None or isinstance(said, Answer)
            else self._admission.admit_view(method, campaign, said, head, peer)
        )

    async def _record(self, hit: Accepted) -> Answer:
        waiting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def answered(stored: bool) -> None:
            if not waiting.done():
                waiting.set_result(stored)

        if not self._recorder.record(hit.shard, hit.data, answered):
            return responses.FULL
        return hit.answer if await waiting else responses.NOT_STORED
