"""Tasks end, also those that lose a cancellation."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from pixel_server import tasks


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_a_task_that_loses_a_cancellation_ends(lost):
    async def story():
        seen = 0

        async def loop():
            nonlocal seen
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    seen += 1
                    if seen > lost:
                        raise

        task = asyncio.create_task(loop())
        await asyncio.sleep(0)
        await asyncio.wait_for(tasks.end([task]), 5)
        return task.cancelled()

    assert asyncio.run(story())


def test_tasks_that_ended_or_failed_are_no_trouble():
    async def story():
        async def fail():
            raise ValueError

        async def finish():
            pass

        made = [asyncio.create_task(fail()), asyncio.create_task(finish())]
        await asyncio.sleep(0)
        await tasks.end(made)
        await tasks.end([])

    asyncio.run(story())


@pytest.mark.parametrize("fails", [True, False])
def test_a_part_that_fails_ends_the_process(fails, monkeypatch, caplog):
    killed = []
    monkeypatch.setattr(os, "kill", lambda *sent: killed.append(sent))

    async def part():
        if fails:
            raise ValueError("of nobody's making")
        await asyncio.sleep(60)

    async def story():
        made = tasks.start([part()])
        await asyncio.sleep(0)
        await tasks.end(made)

    asyncio.run(story())
    assert killed == ([(os.getpid(), signal.SIGTERM)] if fails else [])
    assert ("of nobody's making" in caplog.text) == fails
