"""Calls of the API on share links: list, make, revoke."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import fields
from pixel_server.api.context import NO_BASE_URL, Api
from pixel_server.api.paging import BY_TIME, cut_by_time
from pixel_server.api.request_body import check_fields, read_json
from pixel_server.api.routing import Call, reply
from pixel_server.auth import share_links
from pixel_server.auth.share_links import Share
from pixel_server.campaigns.campaign import Campaign
from pixel_server.problems import Problem


async def list_shares(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    listed = await share_links.list_shares(api.store, campaign.id)
    page = BY_TIME.parse(request.query_params)
    items, next_cursor = cut_by_time(listed, page, lambda share: (share.created, share.id))
    return reply({"items": [share_links.to_json(share) for share in items], "next": next_cursor})


async def make_share(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    share, url = await make(api, campaign, await read_json(request), request.state.who)
    return reply({**share_links.to_json(share), "url": url}, 201)


async def make(api: Api, campaign: Campaign, content: Any, who: str) -> tuple[Share, str]:
    """Makes a share link from the JSON of a body. Returns its record, and the link.

    who: name for the audit log. Raises Problem 422 if fields are bad, and 409 if no base URL is set or the
    campaign has too many links.
    """
    now = api.clock()

    def future_instant_or_null(value: Any) -> int | None:
        at: int | None = fields.instant_or_null(value)
        if at is not None and at <= now:
            raise ValueError("must lie in the future, or be null")
        return at

    checks = {"name": fields.name, "expires_at": future_instant_or_null, "frames": fields.origins}
    values = check_fields(content, checks, frozenset({"name"}))
    base_url = link_base(api, campaign)
    if base_url is None:
        raise Problem(409, NO_BASE_URL)
    try:
        share, token = await share_links.make(api.store, campaign.id, now=now, who=who, **values)
    except share_links.TooManyShares as error:
        raise Problem(409, str(error)) from None
    return share, share_links.url(base_url, token)


def link_base(api: Api, campaign: Campaign) -> str | None:
    """Returns the base URL of the campaign's share links, or None if no base URL is set."""
    return api.settings.base_url or campaign.base_url


async def revoke_share(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    await revoke(api, campaign, request.path_params["share"], request.state.who)
    return Response(status_code=204)


async def revoke(api: Api, campaign: Campaign, share_id: str, who: str) -> None:
    """Revokes a share link. who: name for the audit log. Raises Problem 404 if the link is unknown."""
    try:
        await share_links.revoke(api.store, campaign.id, share_id, who)
    except share_links.UnknownShare:
        raise Problem(404, "no share link of this campaign has this id") from None


CALLS = (
    Call("GET", "/api/campaigns/{id}/shares", "read", list_shares, query=BY_TIME.parameters),
    Call("POST", "/api/campaigns/{id}/shares", "write", make_share),
    Call("DELETE", "/api/campaigns/{id}/shares/{share}", "write", revoke_share),
)
