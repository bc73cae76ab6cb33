"""Background tasks: start, repeat, end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from typing import Any

import pytest

from pixel_server import tasks


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_end_task_loses_cancellations_cancels_until_it_ends(lost):
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
        await asyncio.wait_for(tasks.end([task]), 60)
        return task.cancelled()

    assert asyncio.run(story())


def test_end_tasks_finished_or_failed_raises_nothing():
    async def story():
        async def fail():
            raise ValueError

        async def finish():
            pass

        running = [asyncio.create_task(fail()), asyncio.create_task(finish())]
        await asyncio.sleep(0)
        await tasks.end(running)
        await tasks.end([])

    asyncio.run(story())


@pytest.mark.parametrize("fails", [True, False])
def test_start_task_fails_ends_the_process(fails, monkeypatch, caplog):
    signals = []
    monkeypatch.setattr(os, "kill", lambda *sent: signals.append(sent))

    async def part():
        if fails:
            raise OSError("the disk is broken")
        await asyncio.sleep(60)

    async def story():
        running = tasks.start([part()])
        await asyncio.sleep(0)
        await tasks.end(running)

    asyncio.run(story())
    assert signals == ([(os.getpid(), signal.SIGTERM)] if fails else [])
    assert ("the disk is broken" in caplog.text) == fails


def reported(outcomes: Sequence[Exception | None], **options: Any) -> list[Exception]:
    """Returns the errors that `repeat` reports of a step with these outcomes, one after the other."""
    reports: list[Exception] = []

    async def story():
        remaining = list(outcomes)
        done = asyncio.Event()

        async def step():
            if not remaining:
                done.set()
                await asyncio.sleep(60)
            if (error := remaining.pop(0)) is not None:
                raise error

        task = asyncio.create_task(tasks.repeat(step, 0, reports.append, **options))
        await asyncio.wait_for(done.wait(), 60)
        await tasks.end([task])

    asyncio.run(story())
    return reports


def test_repeat_step_fails_in_rows_reports_the_first_error_of_each_row():
    first, second, third = ValueError("1"), OSError("2"), ValueError("3")
    assert reported([None, first, second, None, third]) == [first, third]


def test_repeat_unreported_error_neither_begins_nor_ends_a_row():
    first, expected, second = ValueError("1"), OSError("expected"), ValueError("2")
    assert reported([expected, first, expected, second], unreported=(OSError,)) == [first]


def test_repeat_without_report_raises_the_error():
    async def step():
        raise ValueError("the disk is broken")

    with pytest.raises(ValueError, match="the disk is broken"):
        asyncio.run(tasks.repeat(step, 0, unreported=(OSError,)))


@pytest.mark.parametrize("pauses_first", [True, False])
def test_repeat_pauses_first_waits_before_the_first_call(pauses_first):
    calls = []

    async def step():
        calls.append(1)

    async def story():
        task = asyncio.create_task(tasks.repeat(step, 60, pauses_first=pauses_first))
        await asyncio.sleep(0.01)
        await tasks.end([task])

    asyncio.run(story())
    assert calls == ([] if pauses_first else [1])
