"""Tasks end, also those that lose a cancellation."""

from __future__ import annotations

import asyncio

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
