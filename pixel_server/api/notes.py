"""Calls of the API: notes on dates."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import request_body
from pixel_server.api.routing import Api, Call, reply
from pixel_server.campaigns import notes
from pixel_server.campaigns.campaign import Campaign
from pixel_server.campaigns.notes import Note
from pixel_server.problems import Problem


async def list_notes(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    found = await notes.list_notes(api.store, campaign.id)
    return reply({"items": [notes.to_json(note) for note in found], "next": None})


async def add_note(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    return reply(notes.to_json(await add(api, campaign, await request_body.read(request))), 201)


async def add(api: Api, campaign: Campaign, given: Any) -> Note:
    """given: as in the body of the call. Problem 409, 422."""
    known = {"at": request_body.instant, "text": request_body.name}
    fields = request_body.check(given, known, frozenset({"text"}))
    try:
        return await notes.add(api.store, campaign.id, fields.get("at", int(api.clock())), fields["text"])
    except notes.TooManyNotes as error:
        raise Problem(409, str(error)) from None


async def remove_note(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    await remove(api, campaign, request.path_params["note"])
    return Response(status_code=204)


async def remove(api: Api, campaign: Campaign, note: str) -> None:
    """note: its id. Problem 404: there is none."""
    try:
        await notes.remove(api.store, campaign.id, note)
    except notes.UnknownNote:
        raise Problem(404, "this campaign has no such note") from None


CALLS = (
    Call("GET", "/api/campaigns/{id}/notes", "read", list_notes),
    Call("POST", "/api/campaigns/{id}/notes", "write", add_note),
    Call("DELETE", "/api/campaigns/{id}/notes/{note}", "write", remove_note),
)
