"""Answers a bounded number of requests at a time, so that no number of readers occupies a process.

MOST requests are worked on, WAITING wait for their turn in the order in which they came, and the rest is
answered 503 at once. A turn ends when the answer begins; it pauses while a request's body comes. So neither
a client that sends slowly nor a client that does not read keeps others waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixel_server.collect.handover import is_pixel

MOST = 2
"""Requests that are worked on at a time in a process."""
WAITING = 256
"""Requests that may wait for their turn, some 10 KB of memory each."""
PATIENCE = 10.0
"""Seconds that a request waits for its turn; then it is answered 503."""

Busy = Callable[[Scope], ASGIApp]


class Turns:
    """ASGI middleware. busy: gives the answer to a request for which there is no turn.

    Pixels, health checks and files that never change need no turn.
    """

    def __init__(self, app: ASGIApp, prefix: bytes, busy: Busy) -> None:
        self._app = app
        self._prefix = prefix
        self._static = (b"/static/", prefix + b"/static/")
        self._busy = busy
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._is_free(scope):
            await self._app(scope, receive, send)
        elif await self._admitted():
            await self._take_turn(scope, receive, send)
        else:
            await self._busy(scope)(scope, receive, send)

    def _is_free(self, scope: Scope) -> bool:
        path = scope.get("raw_path") or scope["path"].encode()
        return path.startswith(self._static) or is_pixel(path, self._prefix)

    async def _take_turn(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_turn = True

        async def send_and_end(message: Message) -> None:
            nonlocal has_turn
            if has_turn:
                has_turn = False
                self._release()
            await send(message)

        async def pause_and_receive() -> Message:
            nonlocal has_turn
            if not has_turn:
                return await receive()
            has_turn = False
            self._release()
            message = await receive()
            await self._acquire()
            has_turn = True
            return message

        try:
            await self._app(scope, pause_and_receive, send_and_end)
        finally:
            if has_turn:
                self._release()

    async def _admitted(self) -> bool:
        if len(self._waiting) >= WAITING:
            return False
        try:
            async with asyncio.timeout(PATIENCE):
                await self._acquire()
        except TimeoutError:
            return False
        return True

    async def _acquire(self) -> None:
        if self._running < MOST:
            self._running += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()  # it was given just now
            with contextlib.suppress(ValueError):  # `_release` may have passed it by
                self._waiting.remove(turn)
            raise

    def _release(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1
