"""Call of the API that shows the inventory of stored data."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.api.routing import Call, reply
from pixel_server.times import iso_ms


async def show_kept(api: Api, request: Request) -> Response:
    snapshot = await api.inventory.read(api.clock())
    items = [kind._asdict() for kind in snapshot.kinds]
    return reply({"items": items, "next": None, "as_of": iso_ms(int(snapshot.at * 1000))})


CALLS = (Call("GET", "/api/kept", "read", show_kept),)
