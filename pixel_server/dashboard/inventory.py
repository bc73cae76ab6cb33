"""`/kept`: what is kept of people, since when and where, and the settings that say so."""

from __future__ import annotations

from dataclasses import fields

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.dashboard import render
from pixel_server.settings import Settings

SETTINGS = (
    *("keep_buckets", "keep_days", "keep_recipients", "keep_names", "keep_dead_letters", "rewrite_minutes"),
    *("default_mode", "max_mode", "signals", "token_days"),
)


async def show(api: Api, request: Request) -> Response:
    snapshot = await api.inventory.read(api.clock())
    context = {"kinds": snapshot.kinds, "at_found": snapshot.at, "rows": _settings(api.settings)}
    return render.page(api, request, "kept.html", context)


def _settings(settings: Settings) -> list[tuple[str, str, str]]:
    """(name, value, what it means)."""
    known = {field.name: field.metadata for field in fields(settings)}
    return [(known[name]["env"], str(getattr(settings, name)), known[name]["help"]) for name in SETTINGS]
