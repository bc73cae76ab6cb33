"""The ASGI endpoint of pixels, under /o/ and /p/. It works on every ASGI server, not only on uvicorn."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send

from pixel_server.collect import beacon, responses
from pixel_server.collect.admission import PAGE_PREFIX, Accepted, Admission
from pixel_server.collect.image import GIF
from pixel_server.collect.lanes import Lanes
from pixel_server.collect.recorder import Recorder
from pixel_server.collect.request_head import RequestHead
from pixel_server.collect.responses import Answer
from pixel_server.slug import is_slug_bytes
from pixel_server.tokens import decode_unreserved


class PixelEndpoint:
    """Answers each request with the image, once its hit is stored.

    prefix: the path before /o/ and /p/, which a proxy in front may remove.
    """

    def __init__(self, admission: Admission, recorder: Recorder | Lanes, prefix: bytes = b"") -> None:
        self._admission = admission
        self._prefix = prefix
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: bytes = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape")
        path = decode_unreserved(path.partition(b"?")[0])
        path = path.removeprefix(scope.get("root_path", "").encode()).removeprefix(self._prefix)
        client = scope.get("client")
        peer = client[0] if client and client[0] else None
        method, head = scope["method"], RequestHead(scope["headers"])
        answer: Answer | Accepted | None
        is_beacon = method in ("POST", "OPTIONS") and path.startswith(PAGE_PREFIX) and is_slug_bytes(path[3:])
        if is_beacon:
            answer = await self._beacon(method, path[3:].decode(), head, peer, receive)
        else:
            answer = self._admission.admit(method, path, scope["query_string"], head, peer)
        if answer is None:
            return
        if isinstance(answer, Accepted):
            answer = await self._record(answer)
        else:
            self._admission.answers[answer] += 1
        origin = head.headers.get(b"origin")
        # The page of a beacon to an impossible campaign reads the refusal too, so that p.js can warn of it.
        if is_beacon or (origin and method == "POST" and path.startswith(PAGE_PREFIX)):
            answer = beacon.for_origin(answer, origin)
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else GIF})

    async def _beacon(
        self, method: str, campaign: str, head: RequestHead, peer: str | None, receive: Receive
    ) -> Answer | Accepted | None:
        """Returns the response to a beacon, or the hit to record.

        Returns None if the client has gone before it sent the whole body.
        """
        if (refused := self._admission.check_beacon(method, campaign, head)) is not None:
            return refused
        params = await beacon.read_body(head.headers, receive)
        if params is None or isinstance(params, Answer):
            return params
        return self._admission.admit_view(method, campaign, params, head, peer)

    async def _record(self, hit: Accepted) -> Answer:
        """Records a hit. Returns the hit's answer once the hit is stored.

        Returns FULL if there is no room for the hit, and NOT_STORED if it cannot be stored in time.
        """
        stored_future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def answered(stored: bool) -> None:
            if not stored_future.done():
                stored_future.set_result(stored)

        if not self._recorder.record(hit.shard, hit.data, answered):
            return responses.FULL
        return hit.answer if await stored_future else responses.NOT_STORED
