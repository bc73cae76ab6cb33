"""Calls of the API on notes: list, add, change, remove."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import fields
from pixel_server.api.context import Api
from pixel_server.api.paging import BY_TIME, cut_by_time
from pixel_server.api.request_body import check_fields, read_json
from pixel_server.api.routing import Call, reply
from pixel_server.campaigns import notes
from pixel_server.campaigns.campaign import Campaign
from pixel_server.campaigns.notes import Note
from pixel_server.problems import Problem

_FIELDS = {"at": fields.instant, "text": fields.name}


async def list_notes(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    listed = await notes.list_notes(api.store, campaign.id)
    page = BY_TIME.parse(request.query_params)
    items, next_cursor = cut_by_time(listed, page, lambda note: (note.at, note.id))
    return reply({"items": [notes.to_json(note) for note in items], "next": next_cursor})


async def add_note(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    return reply(notes.to_json(await add(api, campaign, await read_json(request))), 201)


async def add(api: Api, campaign: Campaign, content: Any) -> Note:
    """Adds a note from the JSON of a body, and returns the note.

    Raises Problem 422 if fields are bad, and 409 if the campaign has too many notes.
    """
    values = check_fields(content, _FIELDS, frozenset({"text"}))
    try:
        return await notes.add(api.store, campaign.id, values.get("at", int(api.clock())), values["text"])
    except notes.TooManyNotes as error:
        raise Problem(409, str(error)) from None


async def change_note(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    content = await read_json(request)
    return reply(notes.to_json(await change(api, campaign, request.path_params["note"], content)))


async def change(api: Api, campaign: Campaign, note_id: str, content: Any) -> Note:
    """Changes the fields of a note that the JSON of a body names, and returns the note.

    Raises Problem 422 if fields are bad, and 404 if no note of the campaign has this id.
    """
    values = check_fields(content, _FIELDS)
    try:
        return await notes.change(api.store, campaign.id, note_id, **values)
    except notes.UnknownNote:
        raise _unknown() from None


async def remove_note(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    await remove(api, campaign, request.path_params["note"])
    return Response(status_code=204)


async def remove(api: Api, campaign: Campaign, note_id: str) -> None:
    """Removes a note. Raises Problem 404 if no note of the campaign has this id."""
    try:
        await notes.remove(api.store, campaign.id, note_id)
    except notes.UnknownNote:
        raise _unknown() from None


def _unknown() -> Problem:
    return Problem(404, "no note of this campaign has this id")


CALLS = (
    Call("GET", "/api/campaigns/{id}/notes", "read", list_notes, query=BY_TIME.parameters),
    Call("POST", "/api/campaigns/{id}/notes", "write", add_note),
    Call("PATCH", "/api/campaigns/{id}/notes/{note}", "write", change_note),
    Call("DELETE", "/api/campaigns/{id}/notes/{note}", "write", remove_note),
)
