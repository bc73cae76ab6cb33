"""`/settings`: links to the pages on keys, stored data and people."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.dashboard import render


async def show(api: Api, request: Request) -> Response:
    return render.page(api, request, "settings.html")
