"""Calls of the API: what is kept of people."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.routing import Api, Call, reply
from pixel_server.times import iso_ms


async def show_kept(api: Api, request: Request) -> Response:
    found = await api.kept.look(api.clock())
    items = [kind._asdict() for kind in found.kinds]
    return reply({"items": items, "next": None, "as_of": iso_ms(int(found.at * 1000))})


CALLS = (Call("GET", "/api/kept", "read", show_kept),)
