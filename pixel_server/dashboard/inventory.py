"""`/kept`: the data that is stored about people, its age and place, and the settings that control it."""

from __future__ import annotations

from dataclasses import fields

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.dashboard import render
from pixel_server.settings import Settings

SETTINGS = (
    *("keep_buckets", "keep_days", "keep_recipients", "keep_names", "keep_dead_letters", "rewrite_minutes"),
    *("default_mode", "max_mode", "gpc_effect", "token_days"),
)


async def show(api: Api, request: Request) -> Response:
    snapshot = await api.inventory.read(api.clock())
    context = {"kinds": snapshot.kinds, "as_of": snapshot.at, "rows": _settings(api.settings)}
    return render.page(api, request, "kept.html", context)


def _settings(settings: Settings) -> list[tuple[str, str, str]]:
    """Returns name, value and meaning of each setting."""
    metadata = {field.name: field.metadata for field in fields(settings)}
    return [
        (metadata[name]["env"], str(getattr(settings, name)), metadata[name]["help"]) for name in SETTINGS
    ]
