"""Call of the API that shows the inventory of stored data."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.api.paging import BY_NUMBER, cut_by_number
from pixel_server.api.routing import Call, reply
from pixel_server.times import iso_ms


async def show_kept(api: Api, request: Request) -> Response:
    snapshot = await api.inventory.read(api.clock())
    items, next_cursor = cut_by_number(snapshot.kinds, BY_NUMBER.parse(request.query_params))
    shown = [kind._asdict() for kind in items]
    return reply({"items": shown, "next": next_cursor, "as_of": iso_ms(int(snapshot.at * 1000))})


CALLS = (Call("GET", "/api/kept", "read", show_kept, query=BY_NUMBER.parameters),)
