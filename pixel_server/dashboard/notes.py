"""Notes on dates, on the page of their campaign: kept and removed."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import parse_qsl, urlencode
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import notes
from pixel_server.api.context import Api
from pixel_server.dashboard import campaign as campaign_page
from pixel_server.dashboard import range_picker, render
from pixel_server.problems import Problem


async def add(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    fields = {name: request.state.form.get(name, "") for name in campaign_page.NOTE}
    asked = _asked(request)
    given = {"text": fields["text"].strip()}
    if fields["at"]:
        given["at"] = _instant(fields["at"], fields["time"] or "00:00", campaign.zone)
    try:
        await notes.add(api, campaign, given)
    except Problem as problem:
        return await campaign_page.fill(api, request, campaign, asked, fields, problem)
    return _back(api, campaign.id, asked, "noted")


async def remove(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    asked = _asked(request)
    await notes.remove(api, campaign, request.path_params["note"])
    return _back(api, campaign.id, asked, "removed")


def _asked(request: Request) -> dict[str, str]:
    """The range that was looked at, to come back to it."""
    return range_picker.query(dict(parse_qsl(request.state.form.get("asked", ""))))


def _instant(day: str, time: str, zone: ZoneInfo) -> str:
    """A time of day where the campaign is. What is none stays as it is, to be refused."""
    try:
        return datetime.fromisoformat(f"{day}T{time}").replace(tzinfo=zone).isoformat()
    except ValueError:
        return day


def _back(api: Api, campaign: str, asked: dict[str, str], done: str) -> Response:
    return render.go(api, f"campaigns/{campaign}?{urlencode({**asked, 'done': done})}#notes")
