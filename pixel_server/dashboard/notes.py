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
from pixel_server.dashboard import note_forms, range_picker, render, site
from pixel_server.dashboard.refused import Refused
from pixel_server.problems import Problem


async def add(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    fields = _fields(request)
    page_query = _page_query(request, campaign)
    content = {"text": fields["text"].strip()}
    if fields["at"]:
        content["at"] = _instant(fields, campaign)
    try:
        await notes.add(api, campaign, content)
    except Problem as problem:
        return await campaign_page.show(api, request, campaign, page_query, Refused(fields, problem))
    return _back(api, campaign.id, page_query, "noted")


async def change(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    note_id, fields = request.path_params["note"], _fields(request)
    page_query = _page_query(request, campaign)
    content = {"text": fields["text"].strip()}
    if f"{fields['at']}T{fields['time']}" != fields["was"]:  # so that an unchanged time keeps its seconds
        content["at"] = _instant(fields, campaign)
    try:
        await notes.change(api, campaign, note_id, content)
    except Problem as problem:
        return await campaign_page.show(api, request, campaign, page_query, Refused(fields, problem, note_id))
    return _back(api, campaign.id, page_query, "noted")


async def remove(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    page_query = _page_query(request, campaign)
    await notes.remove(api, campaign, request.path_params["note"])
    return _back(api, campaign.id, page_query, "removed")


def _fields(request: Request) -> dict[str, str]:
    return {name: request.state.form.get(name, "") for name in note_forms.FIELDS}


def _instant(fields: Mapping[str, str], campaign: Campaign) -> str:
    """Returns the instant of the fields `at` and `time`, in the campaign's time zone."""
    return with_offset(f"{fields['at']}T{fields['time'] or '00:00'}", campaign.zone)


def _page_query(request: Request, campaign: Campaign) -> dict[str, str]:
    """Returns the range and the filters that the page showed, so that the redirect shows them again.

    Leaves out all other parameters. Raises Problem 422 if a parameter cannot be used.
    """
    params = dict(parse_qsl(request.state.form.get("range", "")))
    return site.page_query(campaign, params) if campaign.kind == "web" else range_picker.query(params)


def _back(api: Api, campaign: str, page_query: dict[str, str], message: str) -> Response:
    return render.redirect(api, f"campaigns/{campaign}?{urlencode({**page_query, 'done': message})}#notes")
