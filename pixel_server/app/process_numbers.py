"""The numbers that a web process publishes. What happens for each hit is counted in plain integers, where it
happens, and gathered here once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pixel_server import tasks
from pixel_server.api.context import Api
from pixel_server.app.pixel_parts import PixelParts
from pixel_server.collect import responses
from pixel_server.collect.responses import Answer
from pixel_server.logs import Log
from pixel_server.metrics.numbers import Numbers, Values
from pixel_server.metrics.process_file import PUBLISH_SECONDS, Publisher

log = Log(__name__)


def pages_numbers(api: Api) -> Callable[[], Numbers]:
    """Returns a function that gathers the numbers of a process that answers pages only."""
    return lambda: Numbers("pages", _api_counters(api), {})


def pixels_numbers(api: Api, pixels: PixelParts) -> Callable[[], Numbers]:
    """Returns a function that gathers the numbers of a process that answers pixels."""

    def gather() -> Numbers:
        recorder, counts = pixels.recorder, pixels.recorder.counts
        counters = {
            "pixel_requests_total": _requests(pixels),
            "pixel_group_commit_seconds": pixels.commits.seconds.values(),
            **_api_counters(api),
        }
        for name in ("stored", "spooled", "late", "refused"):
            counters[f"pixel_hits_{name}_total"] = {"": counts[name]}
        gauges: dict[str, Values] = {
            "pixel_hits_waiting": {"": recorder.waiting_hits},
            "pixel_hits_waiting_bytes": {"": recorder.pending_bytes},
            "pixel_processes_without_redis": {"": int(recorder.is_redis_away)},
        }
        return Numbers("web", counters, gauges)

    return gather


def _api_counters(api: Api) -> dict[str, Values]:
    reported: Values = {"|".join(labels): number for labels, number in list(api.reported.items())}
    return {"pixel_api_seconds": api.route_times.values(), "pixel_reported_events_total": reported}


def _requests(pixels: PixelParts) -> Values:
    """Returns the numbers of answered requests, by outcome and reason."""
    counts = pixels.recorder.counts
    answers: list[tuple[Answer, int]] = [
        *list(pixels.admission.answers.items()),
        (responses.RECORDED, pixels.commits.recorded),
        (responses.NOT_STORED, counts["late"]),
        (responses.FULL, counts["refused"]),
    ]
    values: Values = {}
    for answer, count in answers:
        outcome, _, reason = responses.outcome(answer).partition("; reason=")
        key = f"{outcome}|{reason}"
        values[key] = values.get(key, 0) + count
    return values


async def publish(publisher: Publisher) -> None:
    """Publishes once a second until cancelled. Gathers in the event loop, and writes in a thread."""

    async def step() -> None:
        await asyncio.to_thread(publisher.write, publisher.gather())

    await tasks.repeat(step, PUBLISH_SECONDS, _report)


def _report(error: Exception) -> None:
    log.error(
        "metrics-not-gathered", "the numbers of this process cannot be gathered: %(error)s", error=error
    )
