"""Call of the API on the figures of many campaigns."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.api.routing import Call, reply
from pixel_server.figures import overview


async def show_overview(api: Api, request: Request) -> Response:
    query, sort, page = overview.parse(request.query_params)
    found = await overview.read(api.store, api.settings, api.consent, query, sort, page, api.clock())
    return reply(overview.to_json(found))


CALLS = (Call("GET", "/api/overview", "read", show_overview, query=("q", "sort", "page")),)
