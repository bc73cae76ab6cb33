"""Calls of the API: share links."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server import sharelinks
from pixel_server.report import body
from pixel_server.report.api import Api, Call, reply
from pixel_server.report.problems import Problem


async def list_shares(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    found = await sharelinks.listed(api.store, campaign.id)
    return reply({"items": [sharelinks.to_json(share) for share in found], "next": None})


async def make_share(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    now = api.clock()

    def later(value: Any) -> int | None:
        at = body.instant_or_null(value)
        if at is not None and at <= now:
            raise ValueError("must lie in the future, or be null")
        return at

    known = {"name": body.name, "expires_at": later, "frames": body.origins}
    fields = body.check(await body.read(request), known, frozenset({"name"}))
    address = api.settings.base_url or campaign.base_url
    if address is None:
        raise Problem(409, "set PIXEL_BASE_URL, or the campaign's base_url: links need an address")
    try:
        share, token = await sharelinks.make(api.store, campaign.id, now=now, who=request.state.who, **fields)
    except sharelinks.Full as error:
        raise Problem(409, str(error)) from None
    return reply({**sharelinks.to_json(share), "url": sharelinks.url(address, token)}, 201)


async def revoke_share(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    try:
        await sharelinks.revoke(api.store, campaign.id, request.path_params["share"], request.state.who)
    except sharelinks.Unknown:
        raise Problem(404, "this campaign has no such share link") from None
    return Response(status_code=204)


CALLS = (
    Call("GET", "/api/campaigns/{id}/shares", "read", list_shares),
    Call("POST", "/api/campaigns/{id}/shares", "write", make_share),
    Call("DELETE", "/api/campaigns/{id}/shares/{share}", "write", revoke_share),
)
