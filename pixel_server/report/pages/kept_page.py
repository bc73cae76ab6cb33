"""`/kept`: what is kept of people, since when and where, and the settings that say so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import fields
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from pixel_server import store
from pixel_server.report import kept
from pixel_server.report.api import Api
from pixel_server.report.kept import Kind
from pixel_server.report.pages import render
from pixel_server.settings import Settings

FRESH = 60
"""Seconds that what was found is shown again: to look reads the whole store."""
SETTINGS = (
    *("keep_buckets", "keep_days", "keep_recipients", "keep_names", "keep_dead_letters", "rewrite_minutes"),
    *("default_mode", "max_mode", "signals", "token_days"),
)


Spooled = Callable[[], tuple[int, int | None]]
"""How many hits wait on disk, and since when (ms)."""


class _Found(NamedTuple):
    """at: seconds."""

    kinds: list[Kind]
    at: float


class KeptPage:
    """Looks once at a time, in a thread of its own: of millions of recipients it takes its time."""

    def __init__(self, spooled: Spooled) -> None:
        self._spooled = spooled
        self._one = asyncio.Lock()
        self._found: _Found | None = None

    async def show(self, api: Api, request: Request) -> Response:
        async with self._one:
            now = api.clock()
            if self._found is None or not 0 <= now - self._found.at < FRESH:
                spooled = await asyncio.to_thread(self._spooled)
                self._found = _Found(await asyncio.to_thread(_look, api.settings, *spooled), now)
            found = self._found
        context = {"kinds": found.kinds, "at_found": found.at, "rows": _settings(api.settings)}
        return render.page(api, request, "kept.html", context)


def _look(settings: Settings, spooled: int, since: int | None) -> list[Kind]:
    async def look() -> list[Kind]:
        client = store.connect_async(settings.redis_url)
        try:
            return await kept.kinds(client, settings, spooled, since)
        finally:
            await client.aclose()

    return asyncio.run(look())


def _settings(settings: Settings) -> list[tuple[str, str, str]]:
    """(name, value, what it means)."""
    known = {field.name: field.metadata for field in fields(settings)}
    return [(known[name]["env"], str(getattr(settings, name)), known[name]["help"]) for name in SETTINGS]
