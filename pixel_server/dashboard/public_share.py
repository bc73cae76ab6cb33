"""`/s/{token}`: one campaign's shared figures, for whoever has the link. No cookie is read."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.api.errors import EXPECTED_ERRORS, problem_of
from pixel_server.auth import share_links
from pixel_server.auth.share_links import Share
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import Campaign
from pixel_server.dashboard import render, shared_figures
from pixel_server.problems import Problem

GONE = "this link is no longer good"


async def page(api: Api, request: Request) -> Response:
    try:
        share, campaign = await _find(api, request)
        more = _headers(share.frames)
        chart = render.url(api.settings, f"s/{request.path_params['token']}/stats.json")
        return await shared_figures.show(api, request, campaign, chart, "share.html", more=more)
    except EXPECTED_ERRORS as error:
        # Without the ways into the dashboard that error pages have.
        problem = problem_of(error, request)
        again = {"Retry-After": "2"} if problem.status == 503 else {}
        more = {**_headers(), **again}
        return render.page(
            api, request, "share_gone.html", {"status": problem.status}, problem.status, more=more
        )


async def stats_json(api: Api, request: Request) -> Response:
    """What `GET /api/campaigns/{id}/stats` answers to a shared key."""
    try:
        share, campaign = await _find(api, request)
        found = await shared_figures.json_for_link(api, campaign, request.query_params)
        return Response(found, 200, _headers(share.frames), "application/json")
    except EXPECTED_ERRORS as error:
        answer = problem_of(error, request).response()
        answer.headers.update(_headers())
        return answer


async def _find(api: Api, request: Request) -> tuple[Share, Campaign]:
    """Problem 404, one for all: it was revoked, has expired, never was, or its campaign is gone."""
    share = await share_links.find(api.store, request.path_params["token"], api.clock())
    if share is None:
        raise Problem(404, GONE)
    try:
        return share, await storage.get(api.store, share.campaign)
    except storage.UnknownCampaign:
        raise Problem(404, GONE) from None


def _headers(framed_by: Iterable[str] = ()) -> dict[str, str]:
    """Its address opens it: no other site is told of it."""
    return {**render.headers(framed_by), "Referrer-Policy": "no-referrer"}
