"""Slots for requests to the API and the pages.

A process works on a limited number of these requests at a time, so that pixels do not wait.
MAX_RUNNING requests are worked on. MAX_WAITING wait, in the order of arrival. Further requests are answered
503 at once. A request releases its slot when its answer begins, and while it waits for its body. So neither
a client that sends slowly nor a client that reads slowly keeps others waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixel_server.collect.handover import is_for_pixel_process

MAX_RUNNING = 2
"""Largest number of requests that a process works on at a time."""
MAX_WAITING = 256
"""Largest number of requests that wait for a slot. A waiting request takes about 10 KB of memory."""
WAIT_TIMEOUT_SECONDS = 10.0
"""Seconds that a request waits for a slot before it is answered 503."""

BusyAnswer = Callable[[Scope], ASGIApp]


class ReportSlots:
    """ASGI middleware that gives slots to requests. prefix: path of the base URL, such as
    `/pixels`. busy: returns the app that answers if no slot is free.

    Pixels, health checks, metrics and files that never change need no slot.
    """

    def __init__(self, app: ASGIApp, prefix: bytes, busy: BusyAnswer) -> None:
        self._app = app
        self._prefix = prefix
        self._static = (b"/static/", prefix + b"/static/")
        self._metrics = (b"/metrics", prefix + b"/metrics")
        self._busy = busy
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._needs_no_slot(scope):
            await self._app(scope, receive, send)
        elif await self._acquire_in_time():
            await self._run_in_slot(scope, receive, send)
        else:
            await self._busy(scope)(scope, receive, send)

    def _needs_no_slot(self, scope: Scope) -> bool:
        path = scope.get("raw_path") or scope["path"].encode()
        return (
            path.startswith(self._static) or path in self._metrics or is_for_pixel_process(path, self._prefix)
        )

    async def _run_in_slot(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_slot = True

        async def release_and_send(message: Message) -> None:
            nonlocal has_slot
            if has_slot:
                has_slot = False
                self._release()
            await send(message)

        async def receive_without_slot() -> Message:
            nonlocal has_slot
            if not has_slot:
                return await receive()
            has_slot = False
            self._release()
            message = await receive()
            await self._acquire()
            has_slot = True
            return message

        try:
            await self._app(scope, receive_without_slot, release_and_send)
        finally:
            if has_slot:
                self._release()

    async def _acquire_in_time(self) -> bool:
        """Waits for a slot. Returns False if too many requests wait, or the wait takes too long."""
        if len(self._waiting) >= MAX_WAITING:
            return False
        try:
            async with asyncio.timeout(WAIT_TIMEOUT_SECONDS):
                await self._acquire()
        except TimeoutError:
            return False
        return True

    async def _acquire(self) -> None:
        if self._running < MAX_RUNNING:
            self._running += 1
            return
        slot = asyncio.get_running_loop().create_future()
        self._waiting.append(slot)
        try:
            await slot
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled():
                self._release()  # `_release` has just passed the slot to this request
            with contextlib.suppress(ValueError):  # `_release` may have removed the slot already
                self._waiting.remove(slot)
            raise

    def _release(self) -> None:
        while self._waiting:
            slot = self._waiting.popleft()
            if not slot.done():
                slot.set_result(None)
                return
        self._running -= 1
