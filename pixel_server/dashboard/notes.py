"""Adds and removes notes, on the page of their campaign."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import notes
from pixel_server.api.context import Api
from pixel_server.api.fields import with_offset
from pixel_server.dashboard import campaign as campaign_page
from pixel_server.dashboard import range_picker, render
from pixel_server.problems import Problem


async def add(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    fields = {name: request.state.form.get(name, "") for name in campaign_page.NOTE_FIELDS}
    range_query = _range_query(request)
    content = {"text": fields["text"].strip()}
    if fields["at"]:
        content["at"] = with_offset(f"{fields['at']}T{fields['time'] or '00:00'}", campaign.zone)
    try:
        await notes.add(api, campaign, content)
    except Problem as problem:
        return await campaign_page.show(api, request, campaign, range_query, fields, problem)
    return _back(api, campaign.id, range_query, "noted")


async def remove(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    range_query = _range_query(request)
    await notes.remove(api, campaign, request.path_params["note"])
    return _back(api, campaign.id, range_query, "removed")


def _range_query(request: Request) -> dict[str, str]:
    """Returns the range that the page showed, so that the redirect shows it again."""
    return range_picker.query(dict(parse_qsl(request.state.form.get("range", ""))))


def _back(api: Api, campaign: str, range_query: dict[str, str], message: str) -> Response:
    return render.redirect(api, f"campaigns/{campaign}?{urlencode({**range_query, 'done': message})}#notes")
