"""Calls of the API on what mail services report: events in NDJSON."""

from __future__ import annotations

from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.api.media_types import NDJSON, refuse_codings
from pixel_server.api.routing import Call, reply
from pixel_server.deliveries import count, lines
from pixel_server.deliveries.take import Taker
from pixel_server.problems import Problem
from pixel_server.recipients import lists
from pixel_server.store import audit_log


async def add_deliveries(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    if not lists.keeps_recipients(campaign, api.consent):
        raise Problem(409, lists.KEEPS_NONE)
    refuse_codings(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != NDJSON:
        raise Problem(415, f"send lines in UTF-8, with Content-Type: {NDJSON}")
    try:
        await count.begin(api.store, campaign.id, api.settings, api.clock())
    except lists.ListClosed as error:
        raise Problem(409, f"{error}; nothing was taken") from None
    await audit_log.note(api.store, request.state.who, "deliveries.import_begun", campaign=campaign.id)
    taker = new_taker(api, request.state.who)
    reader = lines.Reader(campaign.id, taker.take)
    try:
        async for chunk in request.stream():
            await reader.add(chunk)
        await reader.end()
    except ClientDisconnect:
        await reader.end(is_complete=False)
        return Response(status_code=400)  # the client is gone and reads no answer
    await taker.confirm()
    if reader.bad and not taker.taken.is_any:
        left_out = reader.bad - len(reader.errors)
        more = {"errors_left_out": left_out} if left_out else None
        raise Problem(422, "no line can be used; nothing was taken", reader.errors, more=more)
    return reply(answer(reader, taker))


def new_taker(api: Api, who: str) -> Taker:
    """Returns what takes the events of one request. who: name for the audit log."""

    def learn(recipient: bytes) -> None:
        api.withdrawn.learn(recipient, True)

    return Taker(api.store, api.secrets, api.settings, api.clock(), who, learn)


def answer(reader: lines.Reader, taker: Taker) -> dict[str, Any]:
    """Returns the answer to an import."""
    return {"lines": reader.lines, **taker.taken.to_json(), "bad": reader.bad, "errors": reader.errors}


CALLS = (Call("POST", "/api/campaigns/{id}/deliveries", "people", add_deliveries),)
