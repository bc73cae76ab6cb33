"""Adds, changes and removes notes, on the page of their campaign."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import notes
from pixel_server.api.context import Api
from pixel_server.api.fields import with_offset
from pixel_server.campaigns.campaign import Campaign
from pixel_server.dashboard import campaign as campaign_page
from pixel_server.dashboard import note_forms, range_picker, render
from pixel_server.problems import Problem


async def add(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    fields = _fields(request)
    range_query = _range_query(request)
    content = {"text": fields["text"].strip()}
    if fields["at"]:
        content["at"] = _instant(fields, campaign)
    try:
        await notes.add(api, campaign, content)
    except Problem as problem:
        return await campaign_page.show(api, request, campaign, range_query, fields, problem)
    return _back(api, campaign.id, range_query, "noted")


async def change(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    note_id, fields = request.path_params["note"], _fields(request)
    range_query = _range_query(request)
    content = {"text": fields["text"].strip()}
    if f"{fields['at']}T{fields['time']}" != fields["was"]:  # so that an unchanged time keeps its seconds
        content["at"] = _instant(fields, campaign)
    try:
        await notes.change(api, campaign, note_id, content)
    except Problem as problem:
        return await campaign_page.show(
            api, request, campaign, range_query, fields, problem, edited_note=note_id
        )
    return _back(api, campaign.id, range_query, "noted")


async def remove(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    range_query = _range_query(request)
    await notes.remove(api, campaign, request.path_params["note"])
    return _back(api, campaign.id, range_query, "removed")


def _fields(request: Request) -> dict[str, str]:
    return {name: request.state.form.get(name, "") for name in note_forms.FIELDS}


def _instant(fields: Mapping[str, str], campaign: Campaign) -> str:
    """Returns the instant of the fields `at` and `time`, in the campaign's time zone."""
    return with_offset(f"{fields['at']}T{fields['time'] or '00:00'}", campaign.zone)


def _range_query(request: Request) -> dict[str, str]:
    """Returns the range that the page showed, so that the redirect shows it again."""
    return range_picker.query(dict(parse_qsl(request.state.form.get("range", ""))))


def _back(api: Api, campaign: str, range_query: dict[str, str], message: str) -> Response:
    return render.redirect(api, f"campaigns/{campaign}?{urlencode({**range_query, 'done': message})}#notes")
