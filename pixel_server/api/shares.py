"""Calls of the API: share links."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import request_body
from pixel_server.api.routing import Api, Call, reply
from pixel_server.auth import share_links
from pixel_server.auth.share_links import Share
from pixel_server.campaigns.campaign import Campaign
from pixel_server.problems import Problem


async def list_shares(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    found = await share_links.list_shares(api.store, campaign.id)
    return reply({"items": [share_links.to_json(share) for share in found], "next": None})


async def make_share(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    share, url = await make(api, campaign, await request_body.read(request), request.state.who)
    return reply({**share_links.to_json(share), "url": url}, 201)


async def make(api: Api, campaign: Campaign, given: Any, who: str) -> tuple[Share, str]:
    """(the share, its link). given: as in the body of the call. Problem 409, 422."""
    now = api.clock()

    def later(value: Any) -> int | None:
        at = request_body.instant_or_null(value)
        if at is not None and at <= now:
            raise ValueError("must lie in the future, or be null")
        return at

    known = {"name": request_body.name, "expires_at": later, "frames": request_body.origins}
    fields = request_body.check(given, known, frozenset({"name"}))
    address = address_of(api, campaign)
    if address is None:
        raise Problem(409, "set PIXEL_BASE_URL, or the campaign's base_url: links need an address")
    try:
        share, token = await share_links.make(api.store, campaign.id, now=now, who=who, **fields)
    except share_links.TooManyShares as error:
        raise Problem(409, str(error)) from None
    return share, share_links.url(address, token)


def address_of(api: Api, campaign: Campaign) -> str | None:
    """The base URL of its share links."""
    return api.settings.base_url or campaign.base_url


async def revoke_share(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    await revoke(api, campaign, request.path_params["share"], request.state.who)
    return Response(status_code=204)


async def revoke(api: Api, campaign: Campaign, share: str, who: str) -> None:
    """share: its id. Problem 404: there is none."""
    try:
        await share_links.revoke(api.store, campaign.id, share, who)
    except share_links.UnknownShare:
        raise Problem(404, "this campaign has no such share link") from None


CALLS = (
    Call("GET", "/api/campaigns/{id}/shares", "read", list_shares),
    Call("POST", "/api/campaigns/{id}/shares", "write", make_share),
    Call("DELETE", "/api/campaigns/{id}/shares/{share}", "write", revoke_share),
)
