"""Slots: a bounded number of requests runs at a time; others wait or are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from pixel_server.api import report_slots
from pixel_server.api.report_slots import MAX_RUNNING, ReportSlots

Story = Callable[["House"], Awaitable[None]]


class House:
    """Sends requests to an app that works until `free` is set. busy: requests that it works on."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.busy = 0
        self.most = 0
        self.body = asyncio.Event()
        self.read = asyncio.Event()
        self.turns = ReportSlots(self._app, b"/px", lambda scope: PlainTextResponse("busy", 503))

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            await receive()
        self.busy += 1
        self.most = max(self.most, self.busy)
        if scope["path"] != "/healthz":
            await self.free.wait()
        self.busy -= 1
        await PlainTextResponse("done")(scope, receive, send)

    async def _receive(self) -> Any:
        await self.body.wait()
        return {"type": "http.request", "body": b"", "more_body": False}

    def ask(self, path: str = "/", method: str = "GET", unread: bool = False) -> asyncio.Task[int]:
        """Sends a request and returns its status. unread: the client reads no answer until `read` is set."""
        scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "headers": []}

        async def answered() -> int:
            found = []

            async def send(message: Any) -> None:
                found.append(message)
                if unread:
                    await self.read.wait()

            await self.turns(scope, self._receive, send)
            return found[0]["status"]

        return asyncio.create_task(answered())


def tell(story: Story) -> None:
    async def run() -> None:
        async with asyncio.timeout(60):
            await story(House())

    asyncio.run(run())


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_report_slots_many_requests_run_two_at_a_time():
    async def story(house: House) -> None:
        tasks = [house.ask() for _ in range(20)]
        await settled()
        assert house.busy == MAX_RUNNING == 2
        house.free.set()
        assert await asyncio.gather(*tasks) == [200] * 20
        assert house.most == MAX_RUNNING

    tell(story)


def test_report_slots_too_many_waiting_is_503(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(report_slots, "MAX_WAITING", 3)

    async def story(house: House) -> None:
        tasks = [house.ask() for _ in range(MAX_RUNNING + 5)]
        await settled()
        house.free.set()
        assert sorted(await asyncio.gather(*tasks)) == [200] * 5 + [503] * 2
        assert await house.ask() == 200

    tell(story)


def test_report_slots_wait_too_long_is_503(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(report_slots, "WAIT_TIMEOUT_SECONDS", 0.01)

    async def story(house: House) -> None:
        first = [house.ask() for _ in range(MAX_RUNNING)]
        assert await house.ask() == 503
        house.free.set()
        assert await asyncio.gather(*first) == [200] * MAX_RUNNING
        assert await house.ask() == 200

    tell(story)


@pytest.mark.parametrize("path", ["/healthz", "/px/healthz"])
def test_report_slots_health_check_needs_none(path: str):
    async def story(house: House) -> None:
        tasks = [house.ask() for _ in range(10)]
        await settled()
        if path.startswith("/px"):
            house.free.set()
        assert await house.ask(path) == 200
        house.free.set()
        await asyncio.gather(*tasks)

    tell(story)


def test_report_slots_slow_body_blocks_nobody():
    async def story(house: House) -> None:
        house.free.set()
        slow = [house.ask(method="POST") for _ in range(10)]
        await settled()
        assert await house.ask() == 200
        house.body.set()
        assert await asyncio.gather(*slow) == [200] * 10

    tell(story)


def test_report_slots_unread_answer_blocks_nobody():
    async def story(house: House) -> None:
        house.free.set()
        unread = [house.ask(unread=True) for _ in range(10)]
        await settled()
        assert await house.ask() == 200
        house.read.set()
        assert await asyncio.gather(*unread) == [200] * 10

    tell(story)


def test_report_slots_released_during_timeouts_are_not_lost(monkeypatch: pytest.MonkeyPatch):
    """Many waits time out in the same turn of the event loop in which a slot is released."""

    async def story(house: House) -> None:
        running = [house.ask() for _ in range(MAX_RUNNING)]
        await settled()
        waiting = [asyncio.create_task(house.turns._acquire()) for _ in range(10)]
        await settled()
        for task in waiting:
            task.cancel()
        house.free.set()
        await asyncio.gather(*running)
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(error) for error in found] == [asyncio.CancelledError] * 10
        assert house.turns._running == 0
        assert not house.turns._waiting

    tell(story)


def test_report_slots_client_leaves_releases_its_slot():
    async def story(house: House) -> None:
        tasks = [house.ask() for _ in range(10)]
        await settled()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        house.free.set()
        assert await house.ask() == 200

    tell(story)
