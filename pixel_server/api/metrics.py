"""`GET /metrics`: the numbers of this host and of the store, for Prometheus.

Of this host, all processes of one data directory are summed up, whichever process answers. What is not
allowed to read them gets the 404 of an unknown path; see `metrics_access`.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Callable
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from pixel_server import __version__
from pixel_server.api import store_numbers
from pixel_server.api.context import Api
from pixel_server.api.errors import EXPECTED_ERRORS, problem_of
from pixel_server.api.metrics_access import MetricsAccess
from pixel_server.classify.network_feeds import PUBLISHED
from pixel_server.classify.networks import list_times
from pixel_server.collect.losses import LossReport
from pixel_server.collect.spool.status import SpoolSize
from pixel_server.logs import Log
from pixel_server.metrics.numbers import Numbers, Values
from pixel_server.metrics.process_file import Publisher, read_host

log = Log(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Media type of the text format of Prometheus."""
CACHE_SECONDS = 1.0
"""Seconds for which the numbers of the store are kept, so that several scrapers cost no more than one."""


class HostSources(NamedTuple):
    """Functions that read the numbers of this host, except those of its processes. Each may raise OSError.

    losses: returns the lost hits that the operator has not acknowledged. spool: returns the spool's size.
    """

    losses: Callable[[], LossReport]
    spool: Callable[[], SpoolSize]


class Metrics:
    """The endpoint `/metrics`. publisher: publishes the numbers of this process."""

    def __init__(self, api: Api, access: MetricsAccess, publisher: Publisher, sources: HostSources) -> None:
        self._api = api
        self._access = access
        self.publisher = publisher
        self._sources = sources
        self._store_numbers: dict[str, Values] = {}
        self._store_read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def answer(self, request: Request) -> Response:
        """Answers a scrape."""
        try:
            await self._access.check(request)
        except EXPECTED_ERRORS as error:
            return problem_of(error, request).response()
        text = await asyncio.to_thread(self._render, await self._read_store(), self.publisher.gather())
        return Response(text, headers={"Cache-Control": "no-store", "Content-Type": CONTENT_TYPE})

    async def _read_store(self) -> dict[str, Values]:
        async with self._reading:
            if time.monotonic() - self._store_read_at >= CACHE_SECONDS:
                shards, now = self._api.settings.shards, self._api.clock()
                self._store_numbers = await store_numbers.read(self._api.store, shards, now)
                self._store_read_at = time.monotonic()
            return self._store_numbers

    def _render(self, store: dict[str, Values], own: Numbers) -> bytes:
        """Returns the text of all numbers. own: numbers of this process. Runs in a thread of its own."""
        from pixel_server.metrics import exposition  # noqa: PLC0415 - a process for pixels never needs it

        self.publisher.write(own)
        host = self._read_host(own)
        return exposition.render({**host.counters, **host.gauges, **store})

    def _read_host(self, own: Numbers) -> Numbers:
        """Returns the sums over the processes of this host, and what they share."""
        host = own
        try:
            host = read_host(self._api.settings.data)
            host.gauges |= self._shared_gauges()
        except OSError as error:
            log.error(
                "metrics-unreadable", "some numbers of this host cannot be read: %(error)s", error=error
            )
        host.gauges["pixel_build_info"] = {f"{__version__}|{platform.python_version()}": 1}
        return host

    def _shared_gauges(self) -> dict[str, Values]:
        settings, now = self._api.settings, self._api.clock()
        losses, spool = self._sources.losses(), self._sources.spool()
        spool_age = 0.0 if spool.oldest_ms is None else max(0.0, now - spool.oldest_ms / 1000)
        listed_at = list_times(settings)
        list_ages = {name: max(0.0, now - at) for name, at in listed_at.items() if name in PUBLISHED}
        return {
            "pixel_lost_hits": {"": losses.hits + losses.removed_hits},
            "pixel_lost_batches": {"": losses.batches},
            "pixel_spool_bytes": {"": spool.bytes},
            "pixel_spool_limit_bytes": {"": settings.spool_bytes},
            "pixel_spool_segments": {"": spool.segments},
            "pixel_spool_oldest_seconds": {"": spool_age},
            "pixel_network_list_age_seconds": list_ages,
        }
