"""`/s/{token}`: the shared figures of one campaign, for anyone with the link. No cookie is read."""

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

GONE = "this link is no longer valid"


async def page(api: Api, request: Request) -> Response:
    try:
        share, campaign = await _find(api, request)
        more = _headers(share.frames)
        chart_url = render.url(api.settings, f"s/{request.path_params['token']}/stats.json")
        return await shared_figures.show(api, request, campaign, chart_url, "share.html", more=more)
    except EXPECTED_ERRORS as error:
        # Unlike other error pages, this page has no links into the dashboard.
        problem = problem_of(error, request)
        retry = {"Retry-After": "2"} if problem.status == 503 else {}
        more = {**_headers(), **retry}
        return render.page(
            api, request, "share_gone.html", {"status": problem.status}, problem.status, more=more
        )


async def stats_json(api: Api, request: Request) -> Response:
    """Returns what `GET /api/campaigns/{id}/stats` returns for a shared key."""
    try:
        share, campaign = await _find(api, request)
        content = await shared_figures.json_for_link(api, campaign, request.query_params)
        return Response(content, 200, _headers(share.frames), "application/json")
    except EXPECTED_ERRORS as error:
        response = problem_of(error, request).response()
        response.headers.update(_headers())
        return response


async def _find(api: Api, request: Request) -> tuple[Share, Campaign]:
    """Returns the share and its campaign.

    Raises the same Problem 404 if the link was revoked, has expired or never existed, or if its campaign was
    deleted.
    """
    share = await share_links.find(api.store, request.path_params["token"], api.clock())
    if share is None:
        raise Problem(404, GONE)
    try:
        return share, await storage.get(api.store, share.campaign)
    except storage.UnknownCampaign:
        raise Problem(404, GONE) from None


def _headers(framed_by: Iterable[str] = ()) -> dict[str, str]:
    """Returns headers that hide the address from other sites, as anyone with the address sees the figures."""
    return {**render.headers(framed_by), "Referrer-Policy": "no-referrer"}
